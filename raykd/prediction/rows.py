"""Rows of text, JSONL, CSV and TSV files as Parquet files with all their columns."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.corpus.lines import lines_of, read_blocks
from raykd.corpus.read import parsed_table
from raykd.corpus.rows import QUOTES_COUNTS, BadRow, QuotesNote, object_of_line, text_of_line
from raykd.corpus.shards import QUARANTINE_FILE, Part, digest_of_parts
from raykd.corpus.slices import Slice
from raykd.corpus.write import ShardWriter
from raykd.errors import InputError
from raykd.prediction.config import PredictConfig
from raykd.prediction.types import table_of
from raykd.storage.formats import format_of
from raykd.storage.json_lines import HALF_OF_A_PAIR
from raykd.storage.locations import Location, explained, shown
from raykd.storage.manifest import Draft, write_once
from raykd.storage.schemas import QUARANTINE
from raykd.storage.tables import columns_to_read, require_columns

# Column of a text file's lines.
TEXT = "text"
_CHUNK_ROWS = 16_384
_CHUNK_CHARS = 8 << 20

_Row = dict[str, Any]


def write_rows(parts: Sequence[Part], directory: Path, config: PredictConfig) -> None:
    """Write the rows of slices to `rows-00000.parquet` and so on, in order.

    Each file has at most 16,384 rows and about 8 MiB of text, and the types of its own rows.
    Unreadable rows are quarantined; blank lines are skipped.

    Raises:
        InputError: a file is damaged, or has no text column.
    """

    def write(draft: Draft) -> None:
        noted = Counter(dict.fromkeys(("num_rows", *QUOTES_COUNTS), 0))
        num_files = 0
        path = draft.directory / QUARANTINE_FILE
        with ShardWriter(path.parent, path.name, QUARANTINE, "reason") as quarantine:
            for rows in _chunks(parts, config, quarantine, noted):
                table = table_of(rows, config.text_columns)
                name = f"rows-{num_files:05d}.parquet"
                pq.write_table(table, draft.directory / name, compression="zstd")
                num_files += 1
                noted["num_rows"] += len(rows)
        draft.counts.update(noted)
        draft.counts["num_quarantined"] = pq.read_metadata(path).num_rows

    settings = config.settings()
    read = {name: settings[name] for name in ("text_columns", "columns", "quoting")}
    write_once(directory, "rows", read, {"slices": digest_of_parts(parts)}, write)


def _chunks(
    parts: Sequence[Part],
    config: PredictConfig,
    quarantine: ShardWriter,
    noted: Counter[str],
) -> Iterator[list[_Row]]:
    rows: list[_Row] = []
    num_chars = 0
    for part in parts:
        for row in _rows_of(part.piece, config):
            if isinstance(row, QuotesNote):
                noted[row.count_name] += 1
            elif isinstance(row, BadRow):
                values = [[getattr(row, name)] for name in QUARANTINE.names]
                quarantine.write(pa.record_batch(values, schema=QUARANTINE))
            else:
                rows.append(row)
                num_chars += sum(len(v) for v in row.values() if isinstance(v, str))
                if len(rows) == _CHUNK_ROWS or num_chars >= _CHUNK_CHARS:
                    yield rows
                    rows, num_chars = [], 0
    if rows:
        yield rows


def _rows_of(piece: Slice, config: PredictConfig) -> Iterator[_Row | BadRow | QuotesNote]:
    format_, compression = format_of(piece.path)
    source = shown(piece.path)
    with explained(piece.path):
        if format_ in ("csv", "tsv"):
            yield from _delimited_rows(piece.path, config)
            return
        if format_ == "text" and config.text_columns != (TEXT,):
            raise InputError(
                f"{source}: the lines of a text file are its only column, {TEXT!r}, but the text "
                f"columns are {', '.join(config.text_columns)}; leave them out, or give a table"
            )
        for block in read_blocks(piece, compression):
            for offset, line in lines_of(block):
                text = text_of_line(source, offset, line)
                if isinstance(text, BadRow):
                    yield text
                elif text is not None and format_ == "text":
                    row = {TEXT: text.removesuffix("\r")}
                    yield _checked(source, offset, row, config.text_columns)
                elif text is not None:
                    yield _json_row(source, offset, text, config.text_columns)


def _json_row(source: str, offset: int, line: str, columns: Sequence[str]) -> _Row | BadRow:
    row = object_of_line(source, offset, line)
    if isinstance(row, BadRow):
        return row
    for name in columns:
        if name not in row:
            keys = ", ".join(map(repr, list(row)[:10]))
            return BadRow(source, offset, f"no key {name!r} (keys: {keys:.200})")
    if "\\u" in line and not _encodes(row):
        return BadRow(source, offset, HALF_OF_A_PAIR)
    return _checked(source, offset, row, columns)


def _encodes(row: _Row) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _delimited_rows(path: Location, config: PredictConfig) -> Iterator[_Row | BadRow | QuotesNote]:
    """Read the rows of a whole CSV or TSV file; all values are strings."""
    table = parsed_table(path, config.layout)

    def all_columns(names: Sequence[str]) -> Sequence[str]:
        require_columns(path, names, config.text_columns)
        return require_columns(path, names, names)

    names = columns_to_read(path, table.names, all_columns, config.layout)
    source = shown(path)
    if table.has_quotes:
        yield QuotesNote(source, table.is_quoted)
    for number, fields in enumerate(table.rows):
        if fields.fault:
            yield BadRow(source, number, f"{fields.fault} (line {fields.line})")
        else:
            row = dict(zip(names, fields.fields, strict=True))
            yield _checked(source, number, row, config.text_columns)


def _checked(
    source: str, offset: int, row: Mapping[str, Any], columns: Sequence[str]
) -> _Row | BadRow:
    for name in columns:
        value = row[name]
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            return BadRow(source, offset, f"{name!r} is not a string but {kind}")
        # UTF-16 of Latin letters is valid UTF-8 with many NUL characters.
        if value is not None and "\0" in value:
            return BadRow(source, offset, "contains a NUL character; is the file UTF-16?")
    return dict(row)
