"""Objects below a URL: reads, writes, deletions and listings, with retries and clear errors.

An object is written by one PUT, or by a multipart upload if it is large: it appears as a whole or
not at all.
"""

import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import xxhash
from pyarrow import fs

from raykd.errors import InputError
from raykd.storage.locations import READ_BYTES, Remote, file_system_of, problem_of
from raykd.storage.manifest import FileRecord

Result = TypeVar("Result")

NUM_CONNECTIONS = 8
# Pauses between tries, in addition to the retries of the store's client.
_PAUSES_S = (1.0, 4.0)
_TRANSIENT = re.compile(
    "SLOW_?DOWN|THROTTL|TOO_?MANY|RATE_?LIMIT|HTTP status (429|5..)|INTERNAL_FAILURE|InternalError"
    "|SERVICE_UNAVAILABLE|UNAVAILABLE|NETWORK_CONNECTION|curlCode|curl error|timed? ?out",
    re.IGNORECASE,
)
_ERRORS = (pa.ArrowException, OSError)


@dataclass(frozen=True)
class ObjectInfo:
    """Size in bytes of an object, and the time of its last change by the store's clock."""

    num_bytes: int
    changed_s: float


class ChangedFileError(Exception):
    """A local file changed while it was written to the store; the object was removed."""


class Objects:
    """Objects below a URL, named by their keys relative to it.

    Every method raises InputError if the store cannot be used, with the reason and a remedy.
    """

    def __init__(self, root: Remote) -> None:
        self.root = root

    def place(self, name: str) -> Remote:
        """Location of an object."""
        return Remote(self.root.scheme, f"{self.root.key}/{name}", self.root.options)

    def listing(self, below: str = "") -> dict[str, ObjectInfo]:
        """List all objects, or those whose names begin with the folder `below`."""
        folder = self.place(below) if below else self.root

        def list_all() -> list[fs.FileInfo]:
            selector = fs.FileSelector(folder.key, allow_not_found=True, recursive=True)
            return list(file_system_of(folder).get_file_info(selector))

        infos = self._tried(list_all, folder, "list")
        prefix = self.root.key + "/"
        return {
            info.path.removeprefix(prefix): ObjectInfo(info.size, (info.mtime_ns or 0) / 1e9)
            for info in infos
            if info.type == fs.FileType.File and not info.path.endswith("/")
        }

    def read(self, name: str) -> bytes | None:
        """Read a small object; None if there is none."""
        place = self.place(name)

        def read_all() -> bytes | None:
            try:
                with file_system_of(place).open_input_stream(place.key, compression=None) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._tried(read_all, place, "read")

    def read_file(self, name: str, path: Path) -> FileRecord | None:
        """Copy an object to a file; return its size and digest, None if there is no object."""
        place = self.place(name)
        path.parent.mkdir(parents=True, exist_ok=True)

        def copy() -> FileRecord | None:
            try:
                stream = file_system_of(place).open_input_stream(
                    place.key, compression=None, buffer_size=READ_BYTES
                )
            except FileNotFoundError:
                return None
            with stream, path.open("wb") as file:
                return _copy(stream.read, file.write)

        return self._tried(copy, place, "read")

    def write(self, name: str, content: bytes) -> None:
        """Write a small object."""
        place = self.place(name)

        def write_all() -> None:
            system = file_system_of(place, to_write=True)
            with system.open_output_stream(place.key, compression=None) as stream:
                stream.write(content)

        self._tried(write_all, place, "write")

    def write_file(self, name: str, path: Path, record: FileRecord) -> None:
        """Copy a file to an object, and compare it with the expected size and digest.

        Raises:
            ChangedFileError: the file is missing, or has another content.
        """
        place = self.place(name)

        def copy() -> FileRecord:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                raise ChangedFileError(path) from None
            system = file_system_of(place, to_write=True)
            with file, system.open_output_stream(place.key, compression=None) as stream:
                return _copy(file.read, stream.write)

        if self._tried(copy, place, "write") != record:
            self.delete([name])
            raise ChangedFileError(path)

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; a missing one is no error."""

        def remove(name: str) -> None:
            place = self.place(name)

            def remove_one() -> None:
                with suppress(FileNotFoundError):
                    file_system_of(place).delete_file(place.key)

            self._tried(remove_one, place, "remove")

        self.for_each(remove, names)

    def for_each(
        self, function: Callable[[str], Result], names: Iterable[str]
    ) -> dict[str, Result]:
        """Call a function of a name over several connections; raise its first error."""
        ordered = list(names)
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            return dict(zip(ordered, pool.map(function, ordered), strict=True))

    def _tried(self, action: Callable[[], Result], place: Remote, verb: str) -> Result:
        for pause_s in (*_PAUSES_S, None):
            try:
                return action()
            except _ERRORS as error:
                reason = " ".join(str(error).split())
                if getattr(error, "errno", None) is not None and getattr(error, "filename", None):
                    raise  # of the local disk
                if pause_s is None or not _TRANSIENT.search(reason):
                    problem = problem_of(place, reason) or (
                        f"the store did not {verb} it ({reason[:200]}); rerun the same command"
                    )
                    raise InputError(f"{place}: {problem}") from None
            time.sleep(pause_s)
        raise AssertionError(place)


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], Any]) -> FileRecord:
    state, num_bytes = xxhash.xxh3_128(), 0
    while chunk := read(READ_BYTES):
        state.update(chunk)
        num_bytes += len(chunk)
        write(chunk)
    return FileRecord(num_bytes=num_bytes, digest=state.hexdigest())
