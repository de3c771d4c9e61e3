"""File formats, detected by name and by the first bytes of a file."""

import json
from pathlib import Path, PurePath
from typing import Literal

import pyarrow as pa

from raykd.errors import InputError
from raykd.storage.locations import Location, explained, open_file, open_stream, size_of
from raykd.storage.manifest import digest_of, digest_of_file, digest_of_stream

Format = Literal["parquet", "jsonl", "text", "csv", "tsv"]
Compression = Literal["gzip", "zstd"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}

# Most bytes of a table, which is read into memory.
MAX_TABLE_BYTES = 1 << 30
# Text compresses three- to tenfold; a stream with a larger ratio is a decompression bomb.
MAX_EXPANSION = 200
_MIN_EXPANDED_BYTES = 64 << 20

# Magic numbers of compressed files; UTF-8 text cannot begin with them.
_COMPRESSED: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_COMPRESSED |= {bytes([first]) + b"\x2a\x4d\x18": "zstd" for first in range(0x50, 0x60)}
_FOREIGN = {
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"ARROW1\x00\x00": "Arrow IPC",
}
# Magic number, and first byte of the header of the first page.
_PARQUET = b"PAR1\x15"
_HEAD_BYTES = 48
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_FIRST_LINE_BYTES = 16 << 20


def named_format(path: Location) -> tuple[Format | None, Compression | None]:
    """Derive format and compression from a file name; None if unknown."""
    name = PurePath(str(path))
    compression = COMPRESSIONS.get(name.suffix.lower())
    return FORMATS.get((name.with_suffix("") if compression else name).suffix.lower()), compression


def format_of(path: Location) -> tuple[Format, Compression | None]:
    """Detect the format by the file name, and the compression by the first bytes.

    Parquet and JSON lines are also recognized by content if the name has no known suffix.

    Raises:
        InputError: the format is unknown, the content does not match the name, or the file cannot
            be read.
    """
    format_, named = named_format(path)
    with explained(path):
        check_is_file(path)
        with open_file(path) as file:
            head = file.read(_HEAD_BYTES)
    compression = next(
        (kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None
    )
    for magic, kind in _FOREIGN.items():
        if head.startswith(magic):
            raise InputError(
                f"{path}: contains {kind} data; unpack it, or write it as .parquet, .jsonl.gz or "
                f".jsonl.zst; {leave_out_hint(path)}"
            )
    if head.startswith(_LFS_POINTER):
        raise InputError(
            f"{path}: is a Git LFS pointer to the data, not the data; get the data: git lfs pull"
        )
    if format_ == "parquet":
        if named or compression:
            raise InputError(f"{path}: Parquet is compressed inside; unpack the file")
        return format_, None
    if head.startswith(_PARQUET):
        if format_ is None and named is None:
            return "parquet", None
        raise InputError(f"{path}: contains Parquet data; name it .parquet")
    if named and head and compression is None:
        raise InputError(
            f"{path}: is not {named} data (it begins with {head[:8]!r}); name the file without "
            f"{PurePath(str(path)).suffix}, or get it again"
        )
    compression = compression or named
    if format_ is None and not (head and _is_jsonl(path, compression)):
        raise _unknown(path)
    return format_ or "jsonl", compression


def check_named(path: Location) -> None:
    """Check that the format of a file is known; open the file only if its name does not show it.

    Raises:
        InputError: see `format_of`.
    """
    format_, _ = named_format(path)
    if format_ is None:
        format_of(path)


def check_is_file(path: Location) -> None:
    """Check that a local path is a regular file; use it inside `explained`.

    Raises:
        InputError: it is a directory, a pipe, a socket or a device, where reading may never end.
    """
    if not isinstance(path, Path):
        return
    if path.is_dir():
        raise InputError(f"{path}: is a directory, a file is expected")
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path}: a link to {path.readlink()}, which does not exist; remove the link or "
            f"restore the file; {leave_out_hint(path)}"
        )
    if path.exists() and not path.is_file():
        raise InputError(
            f"{path}: is a {_kind_of(path)}, a file is expected; write the data to a file; "
            f"{leave_out_hint(path)}"
        )


def leave_out_hint(path: Location) -> str:
    """Describe how to leave a file of a folder out."""
    name = PurePath(str(path)).name
    return f"leave it out of the folder: --exclude '{name}', or exclude: ['{name}'] in a recipe"


def source_digest(path: Location) -> str:
    """Digest of the content and format of a file.

    Raises:
        InputError: the file is missing or not readable, or its format is unknown.
    """
    with explained(path):
        return digest_of({"format": format_of(path), "content": _digest_of_content(path)})


class ExpandedStream:
    """Decompressed bytes of a file, up to `MAX_EXPANSION` times its size."""

    def __init__(self, path: Location, stream: pa.NativeFile) -> None:
        self._path, self._stream = path, stream
        self._num_left = max(size_of(path) * MAX_EXPANSION, _MIN_EXPANDED_BYTES)

    def seek(self, position: int, /) -> int:
        """Refuse: a compressed file is read from its beginning."""
        raise AssertionError(position)

    def __enter__(self) -> "ExpandedStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes, fewer at the end.

        Raises:
            InputError: the file expands too much.
        """
        data: bytes = self._stream.read(min(size, self._num_left + 1))
        self._num_left -= len(data)
        if self._num_left < 0:
            raise InputError(
                f"{self._path}: expands to more than {MAX_EXPANSION} times its size; if this is "
                "intended, unpack the file and give the unpacked one"
            )
        return data


def open_bytes(path: Location, compression: Compression | None) -> "pa.NativeFile | ExpandedStream":
    """Open a file's decompressed bytes; use it inside `explained`.

    Raises:
        InputError: the path is not a regular file, or a compressed file is empty.
    """
    check_is_file(path)
    if compression is None:
        return open_file(path)
    if size_of(path) == 0:
        raise InputError(f"{path}: is empty, not a {compression} file; get the file again")
    return ExpandedStream(path, open_stream(path, compression))


def check_size(path: Location, num_bytes: int) -> None:
    """Check that a table fits into memory.

    Raises:
        InputError: it has more than `MAX_TABLE_BYTES`.
    """
    if num_bytes > MAX_TABLE_BYTES:
        raise InputError(
            f"{path}: more than {MAX_TABLE_BYTES:,} bytes of data, too large for a table that is "
            "read into memory; split it"
        )


def _digest_of_content(path: Location) -> str:
    if isinstance(path, Path):
        return digest_of_file(path)
    with open_stream(path, None) as file:
        return digest_of_stream(file)


def _is_jsonl(path: Location, compression: Compression | None) -> bool:
    """Check whether the first nonblank line is a JSON object."""
    with explained(path), open_bytes(path, compression) as file:
        data = b""
        while chunk := file.read(1 << 16):
            data = (data + chunk).lstrip(b"\xef\xbb\xbf \t\r\n")
            if data and not data.startswith(b"{"):
                return False
            if b"\n" in data or len(data) > _MAX_FIRST_LINE_BYTES:
                break
    try:
        return isinstance(json.loads(data.partition(b"\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _kind_of(path: Path) -> str:
    kinds = {"pipe": path.is_fifo, "socket": path.is_socket}
    return next((name for name, is_kind in kinds.items() if is_kind()), "device")


def _unknown(path: Location) -> InputError:
    suffix = PurePath(str(path)).suffix
    return InputError(
        f"{path}: unknown suffix {suffix!r}; known are {' '.join(FORMATS)}, each but .parquet "
        f"also with {_or(COMPRESSIONS)}; the content is not recognized as JSON lines or Parquet "
        f"either; rename the file, or {leave_out_hint(path)}"
    )


def _or(names: dict[str, Compression]) -> str:
    return " or ".join(names)
