"""Server of a working folder: it runs on the machine of the command, whose disk has all files."""

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raykd.cluster import capacity
from raykd.storage.remote import working_folder
from raykd.storage.remote.working_folder import WorkingFolder
from raykd.storage.working_files import files_below

CHUNK_BYTES = 16 << 20
_NUM_CALLS_AT_ONCE = 16


class FileState(NamedTuple):
    """Size and time of the last change; equal for a file and its copies."""

    num_bytes: int
    changed_ns: int


class SharedFolder(NamedTuple):
    """Working folder, and the actor that serves it; None if all tasks run on its machine."""

    folder: WorkingFolder
    server: Any


class FileServer:
    """Reads and writes files below a folder, named by their paths relative to it.

    A file that is written appears as a whole, under a partial name until then.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def states(self, names: Sequence[str]) -> dict[str, FileState]:
        """List the complete files that have these names or are below folders of these names."""
        return states_below(self._folder, names)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Names of which there is no file."""
        return [name for name in names if not (self._folder / name).exists()]

    def read(self, name: str, offset: int) -> bytes:
        """Read at most `CHUNK_BYTES`."""
        with (self._folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)

    def write(self, name: str, copy: str, offset: int, content: bytes) -> None:
        """Write a part of a file.

        Args:
            name: name of the file.
            copy: 8 hexadecimal digits, different for each copying of a file.
            offset: first byte of the part.
            content: the part.
        """
        path = self._partial(name, copy)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.seek(offset)
            file.write(content)

    def complete(self, name: str, copy: str, state: FileState) -> None:
        """Give a file whose parts are written its name; it replaces an older file."""
        path = self._partial(name, copy)
        if not state.num_bytes:
            self.write(name, copy, 0, b"")
        assert path.stat().st_size == state.num_bytes, path
        os.utime(path, ns=(state.changed_ns, state.changed_ns))
        path.replace(self._folder / name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and the folders that this leaves empty."""
        remove(self._folder, names)

    def _partial(self, name: str, copy: str) -> Path:
        final = self._folder / name
        return final.with_name(f".{final.name}.partial-{platform.node()}-{os.getpid()}-{copy}")


def shared_folder() -> SharedFolder | None:
    """Share the working folder of the command's output with all machines, if it has one."""
    folder = working_folder.current()
    if folder is None:
        return None
    if capacity.num_nodes() == 1 and not capacity.can_start_nodes():
        return SharedFolder(folder, None)
    return SharedFolder(folder, _server_of(folder))


# Of the present connection to Ray.
_servers: dict[tuple[str, WorkingFolder], Any] = {}


def _server_of(folder: WorkingFolder) -> Any:
    context = ray.get_runtime_context()
    key = context.get_job_id(), folder
    if key not in _servers:
        here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)
        actor: Any = ray.remote(FileServer)
        options = actor.options(
            num_cpus=0, max_concurrency=_NUM_CALLS_AT_ONCE, scheduling_strategy=here
        )
        _servers[key] = options.remote(folder.folder)
    return _servers[key]


def states_below(folder: Path, names: Iterable[str]) -> dict[str, FileState]:
    """States of the complete files that have these names or are below folders of these names."""
    states: dict[str, FileState] = {}
    for name in names:
        top = folder / name
        paths = [top] if top.is_file() else files_below(top)
        for path in paths:
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            own = path.relative_to(folder).as_posix()
            states[own] = FileState(stat.st_size, stat.st_mtime_ns)
    return states


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files, and the folders that this leaves empty."""
    above = set()
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        above.add(path.parent)
    for directory in sorted(above, key=lambda path: -len(path.parts)):
        while directory != folder and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
            directory = directory.parent
