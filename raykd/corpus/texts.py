"""Batch reader of slices: the documents of `read.read_slice`, without ids and titles.

Valid rows are not converted to Python objects, except in the JSON parser; a batch with any other
row is read again row by row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from raykd.corpus.lines import MAX_DOCUMENT_BYTES, Block, lines_of, read_blocks
from raykd.corpus.parquet_rows import parquet_batches, rows_of_batch
from raykd.corpus.read import table_rows
from raykd.corpus.rows import BadRow, Columns, Document, EmptyRow, QuotesNote, Row, row_of_line
from raykd.corpus.slices import Slice
from raykd.storage.formats import format_of
from raykd.storage.locations import explained, shown
from raykd.text.white_space import are_blank, has_blank, lines_with_words

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GROUP_ROWS = 4096


@dataclass(frozen=True)
class Texts:
    """N documents of one file, offsets of empty documents, unreadable rows, and a note.

    Document i is the UTF-8 `data[starts[i]:stops[i]]`; `offsets[i]` is its `Document.offset`.
    """

    offsets: NDArray[np.int64]
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    bad: tuple[BadRow, ...] = ()
    empty: tuple[int, ...] = ()
    quotes: QuotesNote | None = None

    @classmethod
    def of_rows(cls, rows: Iterable[Row | None]) -> "Texts":
        """Collect rows into arrays; None is skipped."""
        offsets: list[int] = []
        encoded: list[bytes] = []
        bad: list[BadRow] = []
        empty: list[int] = []
        quotes = None
        for row in rows:
            if isinstance(row, Document):
                offsets.append(row.offset)
                encoded.append(row.text.encode())
            elif isinstance(row, EmptyRow):
                empty.append(row.offset)
            elif isinstance(row, BadRow):
                bad.append(row)
            elif row is not None:
                quotes = row
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        data = np.frombuffer(b"".join(encoded), np.uint8)
        starts, stops = ends[:-1], ends[1:]
        return cls(
            np.array(offsets, np.int64), data, starts, stops, tuple(bad), tuple(empty), quotes
        )


def read_texts(piece: Slice, columns: Columns) -> Iterator[Texts]:
    """Stream the documents of a slice; `columns` must have no ids and no title.

    Memory: two chunks of one mebibyte (four from an object store), or 8 MiB of rows and one page of
    Parquet, and a few copies of these, whatever the size of files, row groups and lines. Together
    with writing, a process needs 100 to 260 MB in addition to the 200 MB of an idle process
    (`experiments/benchmarks/bench_ingest.py`), plus at most one line of `MAX_DOCUMENT_BYTES` or 256
    such rows of Parquet. CSV and TSV files are in memory as Python objects, and are limited to
    `formats.MAX_TABLE_BYTES`; write larger files as JSONL or Parquet.

    Raises:
        InputError: see `read.read_slice`.
    """
    format_, compression = format_of(piece.path)
    assert not columns.ids
    assert columns.title is None
    source = shown(piece.path)
    with explained(piece.path):
        if format_ == "parquet":
            for row_number, batch in parquet_batches(piece, columns):
                yield _of_batch(source, row_number, batch, columns)
        elif format_ in ("csv", "tsv"):
            yield Texts.of_rows(table_rows(piece.path, columns))
        else:
            of_block = _of_text if format_ == "text" else _of_json
            for block in read_blocks(piece, compression):
                yield of_block(source, block, columns)


def _of_batch(source: str, row_number: int, batch: pa.RecordBatch, columns: Columns) -> Texts:
    try:
        strings = batch.column(columns.text).cast(pa.large_string())
        strings.validate(full=True)
    except pa.ArrowInvalid:
        return Texts.of_rows(rows_of_batch(source, row_number, batch, columns))
    _, ends, values = strings.buffers()
    edges = np.frombuffer(ends, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    data = np.frombuffer(values or b"", np.uint8)
    starts, stops = edges[:-1], edges[1:]
    offsets = np.arange(row_number, row_number + len(strings))
    texts = Texts(offsets, data, starts, stops)
    if not _are_good(texts):
        return Texts.of_rows(rows_of_batch(source, row_number, batch, columns))
    valid = None if strings.null_count == 0 else strings.is_valid().to_numpy(zero_copy_only=False)
    return _without_blank(texts, valid)


def _of_text(source: str, block: Block, columns: Columns) -> Texts:
    if block.lines is not None and _is_utf8(block.lines):
        data = np.frombuffer(block.lines, np.uint8)
        starts, stops = lines_with_words(data)
        texts = Texts(starts + block.offset, data, starts, stops)
        has_mark = block.offset == 0 and block.lines.startswith(_BYTE_ORDER_MARK)
        if not has_mark and _are_good(texts):
            return texts
    return Texts.of_rows(row_of_line(source, *line, None) for line in lines_of(block))


def _of_json(source: str, block: Block, columns: Columns) -> Texts:
    texts = None if block.lines is None else _json_texts(block.offset, block.lines, columns.text)
    if texts is not None:
        return texts
    return Texts.of_rows(
        _fast_row(source, offset, line, columns) for offset, line in lines_of(block)
    )


def _json_texts(offset: int, block: bytes, text_column: str) -> Texts | None:
    """Parse a block in which every line is a document; None if any line is not."""
    lines = block.removesuffix(b"\n").split(b"\n")
    try:
        values = [orjson.loads(line)[text_column] for line in lines]
        # NUL: documents must not contain it.
        joined = "\0".join(values if None not in values else _with_blanks(values)).encode()
    except (ValueError, LookupError, TypeError):
        return None
    data = np.frombuffer(joined, np.uint8)
    ends = np.flatnonzero(data == 0)
    sizes = np.fromiter(map(len, lines), np.int64, len(lines))
    if len(ends) != len(lines) - 1 or sizes.max() > MAX_DOCUMENT_BYTES:
        return None
    starts, stops = np.append(0, ends + 1), np.append(ends, len(data))
    texts = Texts(offset + np.cumsum(sizes + 1) - (sizes + 1), data, starts, stops)
    return None if _is_any_long(texts) else _without_blank(texts)


def _with_blanks(values: Sequence[str | None]) -> list[str]:
    return ["" if value is None else value for value in values]


def _fast_row(source: str, offset: int, line: bytes | None, columns: Columns) -> Row | None:
    try:
        text = orjson.loads(line or b"")[columns.text]
    except (ValueError, LookupError, TypeError):
        text = None
    if isinstance(text, str) and text and not text.isspace() and "\0" not in text:
        return Document(source, offset, text)
    # The standard parser accepts more, such as NaN and lone surrogates in other fields.
    return row_of_line(source, offset, line, columns)


def _is_utf8(lines: bytes) -> bool:
    try:
        lines.decode()
    except UnicodeDecodeError:
        return False
    return True


def _are_good(texts: Texts) -> bool:
    """Check that no document is too long or contains a NUL character."""
    return texts.data.min(initial=1) > 0 and not _is_any_long(texts)


def _is_any_long(texts: Texts) -> bool:
    # >=: below the limit even with the carriage return at the end of a line of text.
    return int((texts.stops - texts.starts).max(initial=0)) >= MAX_DOCUMENT_BYTES


def _without_blank(texts: Texts, valid: NDArray[np.bool_] | None = None) -> Texts:
    """Move blank and invalid documents to the empty ones."""
    if valid is None and not has_blank(texts.data, texts.starts, texts.stops):
        return texts
    kept = ~are_blank(texts.data, texts.starts, texts.stops)
    if valid is not None:
        kept &= valid
    return replace(
        texts,
        offsets=texts.offsets[kept],
        starts=texts.starts[kept],
        stops=texts.stops[kept],
        empty=tuple(texts.offsets[~kept].tolist()),
    )
