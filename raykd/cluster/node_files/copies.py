"""Copies of the command's files on a machine that does not see its disk.

Before a task runs, the files that it reads are copied to the same paths on this machine; what it
writes is sent back every 20 seconds and when it ends. Files of ended tasks stay for later ones,
until they are removed on the command's disk.
"""

import os
import shutil
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

import ray
from filelock import FileLock

from raykd.cluster.node_files.server import (
    CHUNK_BYTES,
    FileState,
    SharedFolder,
    remove,
    states_below,
)
from raykd.errors import InputError
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.remote.task_files import TaskFiles, fetching
from raykd.storage.remote.working_folder import CACHE_VARIABLE, WorkingFolder

_SEND_EVERY_S = 20.0
_CHUNKS_AT_ONCE = 4
# In the folder of the copies: the session, and the names of all files that were copied.
_NODE_FILE = ".raykd-node"
_COPIED_FILE = ".raykd-copied"
# First character of a line: the command's machine has the file, or the file was removed there.
_COPIED, _REMOVED = "+-"


@contextmanager
def present(shared: SharedFolder | None, files: TaskFiles) -> Iterator[None]:
    """Copy the files of a task to this machine, and send back what is written in the block.

    Does nothing on the machine of the command, and on one that mounts its disk.

    Raises:
        InputError: the folder cannot be made on this machine.
    """
    if shared is None or shared.folder.is_visible():
        yield
        return
    if shared.server is None:
        raise InputError(
            f"--out {shared.folder.remote}: node {os.uname().nodename} joined the cluster while "
            "the command ran; run the same command again"
        )
    copies = _Copies(shared.folder, shared.server)
    if not copies.open():
        yield
        return
    copies.remove_outdated()
    copies.fetch(files.reads + files.writes)
    copies.make_folders((*(path.parent for path in files.writes), *files.adds))
    # Of a lost task, whose last results were not sent.
    copies.send_unknown(files.writes)
    sender = _Sender(copies, files.writes + files.adds)
    with sender, fetching(copies.fetch):
        yield


class _Copies:
    """Copies of the files of a working folder, on this machine."""

    def __init__(self, folder: WorkingFolder, server: Any) -> None:
        self.root, self._session, self._server = folder.folder, folder.session, server
        self._lock = FileLock(self.root.with_name(f"{self.root.name}.node.lock"))
        self._url = folder.remote

    def open(self) -> bool:
        """Make the folder a copy; files of other commands are removed, they are in the store.

        Returns:
            Whether it is a copy: False if this machine mounts the disk of the command. A network
            file system may show an older state of the folder, with the session of another command.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            # Other tasks on this machine may open it at the same time.
            with self._lock:
                self.root.mkdir(exist_ok=True)
                if self._has_marker():
                    return True
                if self._is_original():
                    return False
                shutil.rmtree(self.root, ignore_errors=True)
                self.root.mkdir()
                (self.root / _NODE_FILE).write_text(self._session)
                return True
        except OSError as error:
            raise InputError(
                f"--out {self._url}: {self.root} cannot be made on node "
                f"{os.uname().nodename} ({error.strerror}); set {CACHE_VARIABLE} to a folder that "
                "can be written on every node"
            ) from None

    def _is_original(self) -> bool:
        probe = self.root / f".probe.partial-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return not ray.get(self._server.missing.remote([probe.name]))
        finally:
            probe.unlink(missing_ok=True)

    def _has_marker(self) -> bool:
        marker = self.root / _NODE_FILE
        return marker.is_file() and marker.read_text() == self._session

    def names_of(self, paths: Iterable[Path | str]) -> list[str]:
        """Names of the paths in the folder; others are the same on all machines."""
        inside = (path for path in map(Path, paths) if path.is_relative_to(self.root))
        return [path.relative_to(self.root).as_posix() for path in dict.fromkeys(inside)]

    def fetch(self, paths: Iterable[Path | str]) -> None:
        """Copy the files at or below the paths that this machine has not, or has otherwise."""
        if not (names := self.names_of(paths)):
            return
        # One task at a time, so that tasks do not copy the same files.
        with self._lock:
            wanted: dict[str, FileState] = ray.get(self._server.states.remote(names))
            own = states_below(self.root, names)
            copied = self._copied()
            for name, state in wanted.items():
                if own.get(name) != state:
                    self._fetch(name, FileState(*state))
            self._record(wanted.keys() - copied, _COPIED)

    def _fetch(self, name: str, state: FileState) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
        offsets = iter(range(0, state.num_bytes, CHUNK_BYTES))
        running = deque(
            self._server.read.remote(name, offset)
            for offset, _ in zip(offsets, range(_CHUNKS_AT_ONCE), strict=False)
        )
        with partial.open("wb") as file:
            while running:
                file.write(ray.get(running.popleft()))
                if (offset := next(offsets, None)) is not None:
                    running.append(self._server.read.remote(name, offset))
        os.utime(partial, ns=(state.changed_ns, state.changed_ns))
        partial.replace(path)

    def make_folders(self, paths: Iterable[Path]) -> None:
        """Make the folders to which a task writes, as the command made them on its disk."""
        for name in self.names_of(paths):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def send(self, name: str, state: FileState) -> None:
        """Send a file to the machine of the command; a file that grows is sent up to its state."""
        copy = uuid.uuid4().hex[:8]
        running: deque[Any] = deque()
        with (self.root / name).open("rb") as file:
            for offset in range(0, state.num_bytes, CHUNK_BYTES):
                content = file.read(min(CHUNK_BYTES, state.num_bytes - offset))
                running.append(self._server.write.remote(name, copy, offset, content))
                if len(running) == _CHUNKS_AT_ONCE:
                    ray.get(running.popleft())
        ray.get(list(running))
        ray.get(self._server.complete.remote(name, copy, state))

    def send_changes(self, before: dict[str, FileState], now: dict[str, FileState]) -> None:
        """Send the changed files, manifests last, and remove those that are removed here."""
        changed = [name for name, state in now.items() if before.get(name) != state]
        removed = [name for name in before if name not in now]
        if removed:
            ray.get(self._server.remove.remote(removed))
            self._record(removed, _REMOVED)
        # Manifests of the deepest folders first: a folder is complete after those in it.
        for name in sorted(changed, key=lambda name: (_is_manifest(name), -name.count("/"))):
            try:
                self.send(name, now[name])
            except FileNotFoundError:
                # Removed since; the next call removes it there.
                if (self.root / name).exists():
                    raise
        self._record(changed, _COPIED)

    def send_unknown(self, paths: Iterable[Path]) -> None:
        """Send the files at or below the paths that were neither copied nor sent."""
        copied = self._copied()
        own = states_below(self.root, self.names_of(paths))
        if unknown := {name: state for name, state in own.items() if name not in copied}:
            self.send_changes({}, unknown)

    def _copied(self) -> set[str]:
        copied: dict[str, bool] = {}
        with suppress(FileNotFoundError):
            for line in (self.root / _COPIED_FILE).read_text().splitlines():
                copied[line[1:]] = line[0] == _COPIED
        return {name for name, is_copied in copied.items() if is_copied}

    def _record(self, names: Iterable[str], state: str) -> None:
        if lines := "".join(f"{state}{name}\n" for name in names):
            with (self.root / _COPIED_FILE).open("a") as file:
                file.write(lines)

    def remove_outdated(self) -> None:
        """Remove the copies of files that were removed on the command's machine."""
        with self._lock:
            outdated = ray.get(self._server.missing.remote(sorted(self._copied())))
            remove(self.root, outdated)
            self._record(outdated, _REMOVED)


class _Sender:
    """Context manager that sends what is written below some paths."""

    def __init__(self, copies: _Copies, paths: Iterable[Path]) -> None:
        self._copies = copies
        self._names = copies.names_of(paths)
        self._before = self._states()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> None:
        if self._names:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._names:
            self._thread.join()
            self._send()

    def _states(self) -> dict[str, FileState]:
        return states_below(self._copies.root, self._names)

    def _send(self) -> None:
        now = self._states()
        self._copies.send_changes(self._before, now)
        self._before = now

    def _repeat(self) -> None:
        while not self._stop.wait(_SEND_EVERY_S):
            # Sent again in the next interval, or at the end.
            with suppress(Exception):
                self._send()


def _is_manifest(name: str) -> bool:
    return PurePath(name).name == MANIFEST
