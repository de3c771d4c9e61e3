"""Contents of an output in a store: complete directories, and objects that raykd wrote.

The layout below the URL is that of a local output. `_raykd/output.json` marks the URL as an output
of raykd and lists the objects that no manifest names; `_raykd/work` has the intermediate results
that a local output keeps in hidden folders next to it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from raykd.storage.checked_json import from_checked_json, to_checked_json
from raykd.storage.manifest import FILE_NAME, FileRecord, Manifest, digest_of_file
from raykd.storage.remote.objects import Objects
from raykd.storage.working_files import replacing

INTERNAL = "_raykd"
WORK = f"{INTERNAL}/work"
STATE_FILE = f"{INTERNAL}/output.json"


class State(BaseModel):
    """State of an output, in `_raykd/output.json`.

    Attributes:
        session: random name of the last command that wrote the output.
        loose: objects that no manifest names, such as `report.html`.
        pending: objects that were being written; without a manifest that names them they are
            remains of a killed command.
    """

    session: str
    loose: list[str] = []
    pending: list[str] = []

    def to_bytes(self) -> bytes:
        """Serialize with a checksum."""
        return to_checked_json(self.model_dump(mode="json")).encode()


@dataclass
class Contents:
    """Objects of an output.

    Attributes:
        state: state of the output; None if no command of raykd wrote it.
        manifests: bytes of every manifest, by its name.
        complete: manifests whose files are all present with their sizes.
        files: records of the files of complete manifests, by name.
        loose: present objects that no manifest names.
        written: names of all present objects that raykd wrote.
        others: names of all other present objects.
    """

    state: State | None
    manifests: dict[str, bytes] = field(default_factory=dict)
    complete: dict[str, Manifest] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)
    loose: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


def names_of(manifest_name: str, manifest: Manifest) -> dict[str, FileRecord]:
    """Records of a manifest's files, by their names below the root of the output."""
    folder = manifest_name.removesuffix(FILE_NAME)
    return {f"{folder}{name}": record for name, record in manifest.outputs.items()}


def read_contents(objects: Objects) -> Contents:
    """Read all manifests of an output, and compare them with the present objects.

    Raises:
        InputError: the store cannot be read.
    """
    present = objects.listing()
    state = _read_state(objects) if STATE_FILE in present else None
    names = [name for name in present if PurePosixPath(name).name == FILE_NAME]
    read = objects.for_each(objects.read, names)
    contents = Contents(state, {name: content for name, content in read.items() if content})
    parsed = {name: parse_manifest(content) for name, content in contents.manifests.items()}
    known = {name: manifest for name, manifest in parsed.items() if manifest is not None}
    if state is not None:
        contents.loose = {name for name in state.loose if name in present and is_confined(name)}
        contents.written = contents.loose | (set(state.pending) & set(present))
    contents.written |= set(contents.manifests)
    # Deepest first: a shard that was written again is newer than the manifest above it.
    for name in sorted(known, key=lambda name: -name.count("/")):
        records = names_of(name, known[name])
        contents.written |= set(records) & set(present)
        is_whole = all(
            is_confined(file)
            and file in present
            and present[file].num_bytes == record.num_bytes
            and contents.files.get(file, record) == record
            for file, record in records.items()
        )
        if is_whole:
            contents.complete[name] = known[name]
            contents.files |= records
    others = set(present) - contents.written
    contents.others = {name for name in others if not name.startswith(f"{INTERNAL}/")}
    return contents


def parse_manifest(content: bytes) -> Manifest | None:
    """Parse a manifest; None if it is damaged."""
    try:
        values = from_checked_json(content)
        return None if values is None else Manifest.model_validate(values)
    except ValidationError:
        return None


def is_confined(name: str) -> bool:
    """Check that a name from the store stays inside the folder that it is copied to."""
    parts = name.split("/")
    return bool(name) and not {"", ".", ".."} & set(parts) and "\0" not in name


def pull(
    objects: Objects,
    contents: Contents,
    path_of: Callable[[str], Path],
    wanted: Callable[[str], bool] = lambda name: True,
) -> set[str]:
    """Copy complete directories and loose objects to the disk, and verify every digest.

    Manifests are written last. Files that are already equal on the disk are not copied. A directory
    whose object has another digest than recorded is left out; it is removed from `contents`.

    Args:
        objects: the store.
        contents: its contents.
        path_of: function from the name of an object to its path.
        wanted: function that chooses manifests and loose objects by name.

    Returns:
        The names of the files that are now on the disk.
    """
    manifests = {name: m for name, m in contents.complete.items() if wanted(name)}
    records = {file: record for name in manifests for file, record in _files(name, manifests)}

    def copy(name: str) -> bool:
        return _copy(objects, name, path_of(name), records[name])

    is_copied = objects.for_each(copy, records)
    copied = {name for name, is_whole in is_copied.items() if is_whole}
    for name, manifest in manifests.items():
        if not set(names_of(name, manifest)) <= copied:
            del contents.complete[name]
            continue
        with replacing(path_of(name)) as partial:
            partial.write_bytes(contents.manifests[name])
    whole = [name for name in manifests if name in contents.complete]
    contents.files = _all_files(contents.complete)
    kept = {file for name in whole for file, _ in _files(name, manifests)} | set(whole)

    def copy_loose(name: str) -> None:
        path = path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            objects.read_file(name, partial)

    loose = [name for name in contents.loose if wanted(name)]
    objects.for_each(copy_loose, loose)
    return kept | set(loose)


def _files(name: str, manifests: Mapping[str, Manifest]) -> Iterable[tuple[str, FileRecord]]:
    return names_of(name, manifests[name]).items()


def _all_files(manifests: Mapping[str, Manifest]) -> dict[str, FileRecord]:
    return {file: record for name in manifests for file, record in _files(name, manifests)}


def _copy(objects: Objects, name: str, path: Path, record: FileRecord) -> bool:
    if is_equal(path, record):
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.touch()
        is_whole = objects.read_file(name, partial) == record
    return is_whole


def is_equal(path: Path, record: FileRecord) -> bool:
    """Check whether a file on the disk has the recorded size and digest."""
    is_present = path.is_file() and path.stat().st_size == record.num_bytes
    return is_present and digest_of_file(path) == record.digest


def remove_others(folder: Path, kept: Collection[Path]) -> None:
    """Remove the files below a folder that are not in `kept`, and folders that become empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _read_state(objects: Objects) -> State | None:
    """Read the state; None if it is missing or damaged: then only manifests are trusted."""
    values = from_checked_json(objects.read(STATE_FILE) or b"")
    try:
        return None if values is None else State.model_validate(values)
    except ValidationError:
        return None
