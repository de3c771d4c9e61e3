"""Blocks of lines of large files; a line belongs to the slice of bytes in which it starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raykd.corpus.slices import Slice
from raykd.errors import InputError
from raykd.storage.formats import Compression, format_of, named_format, open_bytes
from raykd.storage.locations import READ_BYTES, explained, is_url

# Bounds the memory of a document, and the width of offsets inside it.
MAX_DOCUMENT_BYTES = 16 << 20

_CHUNK_BYTES = 1 << 20
# Limit of counting line ends for a message: about a second, even for compressed text.
_MAX_COUNTED_BYTES = 256 << 20


class Block(NamedTuple):
    """Complete lines and the byte offset of the first; None: one line that is too long."""

    offset: int
    lines: bytes | None


def read_blocks(piece: Slice, compression: Compression | None) -> Iterator[Block]:
    r"""Stream the lines of a slice in blocks of about a mebibyte; use it inside `explained`.

    All lines end in `\n`, except possibly the last of the file. At most `MAX_DOCUMENT_BYTES` and
    two chunks are in memory, whatever the length of the lines.

    Raises:
        InputError: the file expands too much, see `formats.ExpandedStream`.
    """
    # The byte before the slice shows whether a line starts at the slice.
    first = max(piece.start - 1, 0)
    blocks = _blocks(_chunks(piece, compression, first), first, piece.stop)
    if piece.start:
        offset, lines = next(blocks, Block(first, None))
        end = 0 if lines is None else lines.find(b"\n") + 1
        if lines is not None and 0 < end < len(lines):
            yield from _before(Block(offset + end, lines[end:]), piece.stop)
    yield from blocks


def lines_of(block: Block) -> Iterator[tuple[int, bytes | None]]:
    """Iterate over the lines of a block with their offsets; None for a line that is too long."""
    if block.lines is None:
        yield block.offset, None
        return
    offset = block.offset
    for line in block.lines.removesuffix(b"\n").split(b"\n"):
        yield offset, line if len(line) <= MAX_DOCUMENT_BYTES else None
        offset += len(line) + 1


def place_of(source: str, offset: int) -> str:
    """Describe the place of a row: "line 3" of text and JSONL, "row 2 (counted from 0)" of tables.

    The place is "byte 3000000000" in object stores, after 256 mebibytes (where lines are not
    counted), and if the file is missing.

    Args:
        source: the file, as in `schemas.QUARANTINE`.
        offset: byte of the line, or number of the row.
    """
    path = Path(source)
    named, _ = named_format(path)
    if named in ("parquet", "csv", "tsv"):
        return f"row {offset} (counted from 0)"
    if is_url(source) or offset > _MAX_COUNTED_BYTES:
        return f"byte {offset}"
    line, left = 1, offset
    try:
        _, compression = format_of(path)
        with explained(path), open_bytes(path, compression) as file:
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                line, left = line + chunk.count(b"\n"), left - len(chunk)
    except (InputError, OSError):
        return f"byte {offset}"
    return f"byte {offset}" if left else f"line {line}"


def _chunks(piece: Slice, compression: Compression | None, start: int) -> Iterator[bytes]:
    # Each read of an object in a store is a request.
    num_read = _CHUNK_BYTES if hasattr(piece.path, "stat") else READ_BYTES
    with open_bytes(piece.path, compression) as file:
        if start:
            file.seek(start)
        while chunk := file.read(num_read):
            yield chunk


def _blocks(chunks: Iterator[bytes], offset: int, stop: int | None) -> Iterator[Block]:
    """Group the lines that start before `stop` into blocks."""
    pending, num_discarded = b"", 0
    for chunk in chunks:
        if stop is not None and offset >= stop:
            return
        end = chunk.find(b"\n") + 1
        if num_discarded:
            num_discarded += end or len(chunk)
            if not end:
                continue
            yield Block(offset, None)
            offset, num_discarded = offset + num_discarded, 0
            chunk, pending = chunk[end:], b""
            end = chunk.find(b"\n") + 1
        if end:
            # Only the first line can be too long; the others are shorter than a chunk.
            lines, pending = pending + chunk[: (end := chunk.rfind(b"\n") + 1)], chunk[end:]
            yield from _before(Block(offset, lines), stop)
            offset += len(lines)
        else:
            pending += chunk
        if len(pending) > MAX_DOCUMENT_BYTES:
            num_discarded, pending = len(pending), b""
    if (pending or num_discarded) and (stop is None or offset < stop):
        yield Block(offset, None if num_discarded else pending)


def _before(block: Block, stop: int | None) -> Iterator[Block]:
    """Truncate a block to the lines that start before `stop`."""
    assert block.lines is not None
    if stop is None or block.offset + len(block.lines) <= stop:
        yield block
    elif block.offset < stop:
        # The last of these lines ends after the byte before `stop`.
        end = block.lines.find(b"\n", stop - block.offset - 1) + 1
        yield Block(block.offset, block.lines[:end] if end else block.lines)
