"""Mirror of a local output in an object store.

Everything runs on the disk as without a store; the mirror copies what is complete. Directories
appear in the store as on the disk: a manifest is removed before a file that it names changes, and
written after its files. So the store never has a manifest whose files are missing or others, and a
directory without a manifest counts as none.

The last command that wrote to the store may have run on this machine or on another one. If it ran
here, the disk has the same or more than the store. Otherwise the disk is made equal to the store
first.
"""

import threading
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raykd.errors import InputError
from raykd.storage.checked_json import from_checked_json, to_checked_json
from raykd.storage.manifest import FILE_NAME, FileRecord, Manifest
from raykd.storage.remote.contents import (
    STATE_FILE,
    WORK,
    State,
    names_of,
    parse_manifest,
    pull,
    read_contents,
    remove_others,
)
from raykd.storage.remote.lease import Lease
from raykd.storage.remote.objects import ChangedFileError, Objects
from raykd.storage.remote.working_folder import SESSION_FILE
from raykd.storage.working_files import files_below, write_atomically

# Folders of Ray Train and Ray Tune, from which nothing is resumed.
_RAY_FOLDERS = ("ray_train", "tune/ray")


@dataclass
class _Scan:
    """Files on the disk: whole directories by the name of their manifest, and loose files."""

    contents: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)
    loose: dict[str, tuple[int, int]] = field(default_factory=dict)


class Mirror:
    """Mirror of `folder / name` at a URL; what is next to it in `folder` is kept in `_raykd/work`.

    Args:
        objects: the store, with the URL as its root.
        folder: local folder of this URL only.
        name: name of the output in the folder.
        lease: acquired lease of the URL.
    """

    def __init__(self, objects: Objects, folder: Path, name: str, lease: Lease) -> None:
        self.out = folder / name
        self.session = uuid.uuid4().hex
        self._objects, self._folder, self._lease = objects, folder, lease
        self._contents: dict[str, bytes] = {}
        self._manifests: dict[str, Manifest] = {}
        self._files: dict[str, FileRecord] = {}
        self._written: set[str] = set()
        self._loose: dict[str, tuple[int, int]] = {}
        self._is_canceled = threading.Event()

    def cancel(self) -> None:
        """End a running `push` after the objects that are being written."""
        self._is_canceled.set()

    def start(self) -> None:
        """Make the disk equal to the store, unless the last command ran on this machine.

        Raises:
            InputError: the store cannot be used, or has objects that raykd did not write.
        """
        contents = read_contents(self._objects)
        if contents.state is None and not contents.manifests and contents.others:
            raise InputError(
                f"{self._objects.root}: in the way of an output of that name, and not made by "
                f"raykd (it has {min(contents.others)}, but no {FILE_NAME}); choose another --out"
            )
        session = contents.state.session if contents.state else None
        if session is not None and session == _session_of(self._folder):
            # What the disk has is newer; what it lacks may have been lost.
            pull(self._objects, contents, self._path_of, lambda name: not self._has(name))
        else:
            (self._folder / SESSION_FILE).unlink(missing_ok=True)
            kept = pull(self._objects, contents, self._path_of)
            remove_others(self._folder, {self._path_of(name) for name in kept})
        self._contents = contents.manifests
        self._manifests = contents.complete
        self._files = contents.files
        self._written = contents.written
        self._write_state(contents.loose, set(), ())
        values = {"url": str(self._objects.root), "session": self.session}
        write_atomically(self._folder / SESSION_FILE, to_checked_json(values))

    def push(self) -> None:
        """Copy what is complete on the disk to the store, and remove what the disk has no more.

        Raises:
            InputError: the store cannot be written, or another command writes there.
        """
        self._lease.check()
        if _session_of(self._folder) != self.session:
            raise InputError(
                f"{self._folder}: was removed or replaced while a command wrote to "
                f"{self._objects.root}; rerun the same command"
            )
        scan = self._scan()
        changed = [name for name in scan.contents if not self._is_stored(name, scan)]
        to_send = {
            file: record
            for name in changed
            for file, record in names_of(name, scan.manifests[name]).items()
            if self._files.get(file) != record
        }
        outdated = [
            name
            for name in self._contents
            if not self._is_stored(name, scan)
            or (name in self._manifests and to_send.keys() & names_of(name, self._manifests[name]))
        ]
        kept = scan.files.keys() | scan.contents.keys() | scan.loose.keys()
        unneeded = self._written - kept
        loose = [name for name, state in scan.loose.items() if self._loose.get(name) != state]
        if not (changed or outdated or unneeded or loose):
            return
        self._write_state(set(scan.loose), set(to_send), outdated)
        self._remove(outdated)
        self._objects.for_each(lambda name: self._send_loose(name, scan.loose[name]), loose)
        self._objects.for_each(lambda name: self._send(name, to_send[name]), to_send)
        # Shards before the directories above them.
        for name in sorted(changed, key=lambda name: -name.count("/")):
            records = names_of(name, scan.manifests[name])
            if all(self._files.get(file) == record for file, record in records.items()):
                self._objects.write(name, scan.contents[name])
                self._contents[name] = scan.contents[name]
                self._manifests[name] = scan.manifests[name]
                self._written.add(name)
        self._remove(unneeded)

    def _is_stored(self, name: str, scan: _Scan) -> bool:
        content = self._contents.get(name)
        return (
            content is not None and name in self._manifests and content == scan.contents.get(name)
        )

    def _send(self, name: str, record: FileRecord) -> None:
        if self._is_canceled.is_set():
            return
        self._files.pop(name, None)
        self._written.add(name)
        try:
            self._objects.write_file(name, self._path_of(name), record)
        except ChangedFileError:
            return  # replaced by a newer output, which the next call copies
        self._files[name] = record

    def _send_loose(self, name: str, state: tuple[int, int]) -> None:
        if self._is_canceled.is_set():
            return
        try:
            content = self._path_of(name).read_bytes()
        except FileNotFoundError:
            return
        self._objects.write(name, content)
        self._written.add(name)
        self._loose[name] = state

    def _remove(self, names: Collection[str]) -> None:
        self._objects.delete(names)
        self._written.difference_update(names)
        for name in names:
            self._contents.pop(name, None)
            self._manifests.pop(name, None)
            self._files.pop(name, None)
            self._loose.pop(name, None)

    def _write_state(self, loose: set[str], sent: set[str], outdated: Collection[str]) -> None:
        """List all objects without a manifest, before they are written or lose their manifest."""
        stored = self._manifests.keys() - set(outdated)
        named = {file for name in stored for file in names_of(name, self._manifests[name])}
        pending = sent | (self._written - named - stored - loose)
        state = State(session=self.session, loose=sorted(loose), pending=sorted(pending))
        self._objects.write(STATE_FILE, state.to_bytes())

    def _scan(self) -> _Scan:
        found: dict[str, bytes] = {}
        others: dict[str, Path] = {}
        for path in files_below(self._folder):
            if path == self._folder / SESSION_FILE:
                continue
            name = self._name_of(path)
            if path.name != FILE_NAME:
                others[name] = path
                continue
            try:
                found[name] = path.read_bytes()
            except FileNotFoundError:
                continue
        scan = _Scan()
        # Deepest first: a shard that was written again is newer than the directory above it.
        for name in sorted(found, key=lambda name: -name.count("/")):
            manifest = parse_manifest(found[name])
            records = names_of(name, manifest) if manifest else {}
            is_present = all(
                file in others and scan.files.get(file, record) == record
                for file, record in records.items()
            )
            if manifest is not None and is_present:
                scan.contents[name], scan.manifests[name] = found[name], manifest
                scan.files |= records
        for name, path in others.items():
            if name not in scan.files and not _is_left_out(name):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                scan.loose[name] = (stat.st_mtime_ns, stat.st_size)
        return scan

    def _has(self, name: str) -> bool:
        return self._path_of(name).exists()

    def _path_of(self, name: str) -> Path:
        if name.startswith(f"{WORK}/"):
            return self._folder / name.removeprefix(f"{WORK}/")
        return self.out / name

    def _name_of(self, path: Path) -> str:
        if path.is_relative_to(self.out):
            return path.relative_to(self.out).as_posix()
        return f"{WORK}/{path.relative_to(self._folder).as_posix()}"


def _is_left_out(name: str) -> bool:
    return any(f"/{folder}/" in f"/{name}" for folder in _RAY_FOLDERS)


def _session_of(folder: Path) -> str | None:
    """Session of the last command that wrote to this folder; None if there is none."""
    try:
        values: Mapping[str, object] = from_checked_json((folder / SESSION_FILE).read_bytes()) or {}
    except FileNotFoundError:
        return None
    session = values.get("session")
    return session if isinstance(session, str) else None
