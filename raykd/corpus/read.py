"""Files to documents, in slices that can be read apart; rows that cannot be read are returned."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.tables import (
    Compression,
    explained,
    format_of,
    open_bytes,
    read_table,
    require_columns,
)

# Bounds the memory a document takes, and with it the width of an offset inside one.
MAX_DOCUMENT_BYTES = 16 << 20
# Text compresses three- to tenfold; a stream that grows beyond this is a decompression bomb.
MAX_EXPANSION = 200
_MIN_EXPANDED_BYTES = 64 << 20

_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 1024
_INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class Document:
    """One document; `offset` is the byte of its line, or its row in Parquet, CSV and TSV."""

    source: str
    offset: int
    text: str
    unit_id: str | int | None = None
    title: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read, for the quarantine table."""

    source: str
    offset: int
    reason: str


@dataclass(frozen=True)
class Columns:
    """Which columns of Parquet, JSONL, CSV and TSV to read.

    The first of `ids` that a row has is its id; a row with a title may lack text.
    """

    text: str = "text"
    ids: tuple[str, ...] = ("unit_id", "doc_id")
    title: str | None = "title"


@dataclass(frozen=True)
class Slice:
    """A part of a file: bytes of text and JSONL, row groups of Parquet; None: all of the file."""

    path: Path
    start: int
    stop: int | None
    num_bytes: int


def list_sources(paths: Sequence[Path]) -> list[Path]:
    """The files that the paths name, directories searched through, each file once.

    Files and directories whose name begins with a dot are left out, and so are files that begin
    with an underscore and have no suffix (the markers of other tools). Links to directories are not
    followed.

    Raises:
        InputError: a path is missing, a directory holds no file, a suffix is unknown.
    """
    sources: dict[Path, Path] = {}
    for path in paths:
        for source in _files_of(path):
            format_of(source)
            sources.setdefault(source.resolve(), source)
    return list(sources.values())


def plan_slices(sources: Sequence[Path], shard_bytes: int) -> list[Slice]:
    """Divide files into slices of about `shard_bytes`, which together hold every row once.

    A compressed file, a CSV and a TSV file is one slice, and so is a Parquet row group larger than
    `shard_bytes` (counted as decompressed).

    Raises:
        InputError: a file is missing or not readable, or a Parquet file is damaged.
    """
    assert shard_bytes > 0
    return [piece for path in sources for piece in _slices_of(path, shard_bytes)]


def read_slice(piece: Slice, columns: Columns = Columns()) -> Iterator[Document | BadRow]:
    """Stream the rows of a slice; a line belongs to the slice in which it starts.

    In text files a line is a document. Blank lines are skipped there and in JSONL. All is UTF-8.

    Raises:
        InputError: the file is missing, damaged or cut off, expands more than `MAX_EXPANSION`
            times, or its table has no such text column.
    """
    format_, compression = format_of(piece.path)
    with explained(piece.path):
        if format_ == "parquet":
            yield from _parquet_rows(piece, columns)
        elif format_ in ("csv", "tsv"):
            table = read_table(piece.path)
            require_columns(piece.path, table, [columns.text])
            for number, row in enumerate(table.to_pylist()):
                yield _document(str(piece.path), number, row, columns)
        else:
            yield from _line_rows(piece, compression, columns if format_ == "jsonl" else None)


def _files_of(path: Path) -> list[Path]:
    with explained(path):
        if not path.is_dir():
            path.stat()
            return [path]
        files = sorted(
            file
            for file in path.rglob("*")
            if not file.is_dir()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and not _is_marker(file)
        )
    if not files:
        raise InputError(f"{path}: the directory holds no file; name the files or where they are")
    return files


def _is_marker(path: Path) -> bool:
    return path.name.startswith("_") and "." not in path.name


def _slices_of(path: Path, shard_bytes: int) -> Iterator[Slice]:
    format_, compression = format_of(path)
    with explained(path):
        num_bytes = path.stat().st_size
        if format_ == "parquet":
            yield from _row_group_slices(path, shard_bytes)
        elif compression or format_ in ("csv", "tsv"):
            yield Slice(path, 0, None, num_bytes)
        else:
            for start in range(0, num_bytes, shard_bytes):
                stop = min(start + shard_bytes, num_bytes)
                yield Slice(path, start, stop, stop - start)


def _row_group_slices(path: Path, shard_bytes: int) -> Iterator[Slice]:
    with open_bytes(path, None) as source, pq.ParquetFile(source) as file:
        sizes = [
            file.metadata.row_group(index).total_byte_size
            for index in range(file.metadata.num_row_groups)
        ]
    start, num_bytes = 0, 0
    for index, size in enumerate(sizes):
        if num_bytes and num_bytes + size > shard_bytes:
            yield Slice(path, start, index, num_bytes)
            start, num_bytes = index, 0
        num_bytes += size
    if start < len(sizes):
        yield Slice(path, start, len(sizes), num_bytes)


def _parquet_rows(piece: Slice, columns: Columns) -> Iterator[Document | BadRow]:
    path = piece.path
    with (
        open_bytes(path, None) as source,
        pq.ParquetFile(source, page_checksum_verification=True) as file,
    ):
        schema, metadata = file.schema_arrow, file.metadata
        require_columns(path, schema, [columns.text])
        _check_holds_text(path, schema.field(columns.text))
        optional = [*columns.ids, *([columns.title] if columns.title else [])]
        names = [columns.text, *(name for name in optional if name in schema.names)]
        stop = metadata.num_row_groups if piece.stop is None else piece.stop
        row_number = sum(metadata.row_group(index).num_rows for index in range(piece.start))
        groups = list(range(piece.start, stop))
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=names):
            values = [_values(batch.column(name)) for name in names]
            for row in zip(*values, strict=True):
                yield _document(str(path), row_number, dict(zip(names, row, strict=True)), columns)
                row_number += 1


def _check_holds_text(path: Path, field: pa.Field) -> None:
    type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if str(type_).removeprefix("large_").removesuffix("_view") not in ("string", "binary"):
        raise InputError(f"{path}: column {field.name!r} holds {field.type}, text is expected")


def _values(column: pa.Array) -> list[Any]:
    """Python values; strings and binaries that are not UTF-8 stay bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = [item.as_buffer().to_pybytes() if item.is_valid else None for item in column]
    return [_decoded(value) if isinstance(value, bytes) else value for value in values]


def _decoded(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _line_rows(
    piece: Slice, compression: Compression | None, columns: Columns | None
) -> Iterator[Document | BadRow]:
    source = str(piece.path)
    # The byte before the slice tells whether a line starts with the slice.
    first = max(piece.start - 1, 0)
    chunks = _chunks(piece.path, compression, first)
    for offset, line in islice(_lines(chunks, first, piece.stop), min(piece.start, 1), None):
        if line is None:
            yield BadRow(source, offset, f"the line has more than {MAX_DOCUMENT_BYTES:,} bytes")
            continue
        try:
            text = line.removeprefix(b"\xef\xbb\xbf").decode() if offset == 0 else line.decode()
        except UnicodeDecodeError as error:
            yield BadRow(source, offset, f"not UTF-8 at byte {error.start} of the line")
            continue
        if not text or text.isspace():
            continue
        if columns is None:
            text = text.removesuffix("\r")
            yield _text_or_bad(source, offset, text, Document(source, offset, text))
        else:
            yield _json_document(source, offset, text, columns)


def _chunks(path: Path, compression: Compression | None, start: int) -> Iterator[bytes]:
    with open_bytes(path, compression) as file:
        max_bytes = max(path.stat().st_size * MAX_EXPANSION, _MIN_EXPANDED_BYTES)
        num_bytes = 0
        if start:
            file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            num_bytes += len(chunk)
            if compression and num_bytes > max_bytes:
                raise InputError(
                    f"{path}: expands to more than {MAX_EXPANSION} times its size; if that is "
                    "meant, unpack the file and give the unpacked one"
                )
            yield chunk


def _lines(
    chunks: Iterator[bytes], offset: int, stop: int | None
) -> Iterator[tuple[int, bytes | None]]:
    """Lines that start before `stop`, with their offsets; None for one that is too long."""
    pending, num_discarded = b"", 0
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if stop is not None and offset >= stop:
                return
            num_bytes = num_discarded + len(line)
            yield offset, line if num_bytes <= MAX_DOCUMENT_BYTES else None
            offset, num_discarded = offset + num_bytes + 1, 0
        if num_discarded + len(pending) > MAX_DOCUMENT_BYTES:
            num_discarded, pending = num_discarded + len(pending), b""
    if (pending or num_discarded) and (stop is None or offset < stop):
        yield offset, None if num_discarded else pending


def _json_document(source: str, offset: int, line: str, columns: Columns) -> Document | BadRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(source, offset, f"not JSON: {error}")
    if not isinstance(row, dict):
        return BadRow(source, offset, f"not a JSON object but {type(row).__name__}")
    if columns.text not in row and (columns.title is None or not row.get(columns.title)):
        keys = ", ".join(map(repr, list(row)[:10]))
        return BadRow(source, offset, f"no key {columns.text!r} (keys: {keys:.200})")
    document = _document(source, offset, row, columns)
    if "\\u" in line and isinstance(document, Document) and not _encodes(document):
        return BadRow(source, offset, "holds half of a surrogate pair")
    return document


def _encodes(document: Document) -> bool:
    try:
        f"{document.text}{document.title}{document.unit_id}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _document(
    source: str, offset: int, row: Mapping[str, Any], columns: Columns
) -> Document | BadRow:
    text = row.get(columns.text)
    title = row.get(columns.title) if columns.title else None
    for name, value in ((columns.text, text), (columns.title, title)):
        if isinstance(value, bytes):
            return BadRow(source, offset, f"{name!r} is not UTF-8")
        if value is not None and not isinstance(value, str):
            return BadRow(source, offset, f"{name!r} is no string but {type(value).__name__}")
    given = next((row[name] for name in columns.ids if row.get(name) is not None), None)
    if given is not None and not _is_id(given):
        return BadRow(source, offset, f"the id is neither a string nor an int64: {given!r:.60}")
    document = Document(source, offset, text or "", given, title or None)
    return _text_or_bad(source, offset, document.text + (document.title or ""), document)


def _is_id(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -_INT64_MAX - 1 <= value <= _INT64_MAX
    return isinstance(value, str) and bool(value)


def _text_or_bad(source: str, offset: int, text: str, document: Document) -> Document | BadRow:
    if not text or text.isspace():
        return BadRow(source, offset, "no text")
    # UTF-16 of Latin letters is valid UTF-8 full of these.
    if "\0" in text:
        return BadRow(source, offset, "holds a NUL character; is the file UTF-16?")
    if len(text) > MAX_DOCUMENT_BYTES:
        return BadRow(source, offset, f"longer than {MAX_DOCUMENT_BYTES:,} characters")
    return document
