"""Rows of a corpus: documents, empty documents, unreadable rows, and notes on files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from raykd.corpus.lines import MAX_DOCUMENT_BYTES
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.json_lines import ARRAY_OF_ROWS, HALF_OF_A_PAIR

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INT64_MAX = (1 << 63) - 1

# Counts of TSV files whose quotation marks enclose fields, and of those that keep them as text.
QUOTES_COUNTS = ("num_quotes_removed", "num_quotes_kept")


@dataclass(frozen=True)
class Document:
    """Document; `offset` is the byte of its line, or its row in Parquet, CSV and TSV."""

    source: str
    offset: int
    text: str
    unit_id: str | int | None = None
    title: str | None = None
    # Whether the title is not a string: numbers are converted, other values are ignored.
    has_odd_title: bool = False


class EmptyRow(NamedTuple):
    """Row whose text is null, empty or white space."""

    source: str
    offset: int


@dataclass(frozen=True)
class BadRow:
    """Unreadable row, for the quarantine table."""

    source: str
    offset: int
    reason: str


class QuotesNote(NamedTuple):
    """Detected quoting of a TSV file with quotation marks.

    Attributes:
        are_removed: whether the marks enclose fields; otherwise they are part of the text.
    """

    source: str
    are_removed: bool

    @property
    def count_name(self) -> str:
        """Name of the count of files with this quoting."""
        return QUOTES_COUNTS[0 if self.are_removed else 1]


@dataclass(frozen=True)
class Columns:
    """Columns of Parquet, JSONL, CSV and TSV to read.

    Attributes:
        text: column of the text; optional in rows with a title.
        ids: columns of ids; the first one that a row has is its id.
        title: column of the title; None: not read.
        layout: format options of CSV and TSV files.
    """

    text: str = "text"
    ids: tuple[str, ...] = ("unit_id", "doc_id")
    title: str | None = "title"
    layout: Layout = AS_NAMED


Row = Document | EmptyRow | BadRow | QuotesNote

ALL_COLUMNS = Columns()


def row_of_line(
    source: str, offset: int, line: bytes | None, columns: Columns | None
) -> Row | None:
    """Parse a line of JSONL, or of text if `columns` is None; None for a blank line."""
    text = text_of_line(source, offset, line)
    if text is None or isinstance(text, BadRow):
        return text
    if columns is not None:
        return _json_document(source, offset, text, columns)
    text = text.removesuffix("\r")
    return _text_or_bad(source, offset, text, Document(source, offset, text))


def text_of_line(source: str, offset: int, line: bytes | None) -> str | BadRow | None:
    """Decode a line of JSONL or text; None for a blank one."""
    if line is None:
        return BadRow(source, offset, f"the line has more than {MAX_DOCUMENT_BYTES:,} bytes")
    try:
        text = line.removeprefix(_BYTE_ORDER_MARK).decode() if offset == 0 else line.decode()
    except UnicodeDecodeError as error:
        return BadRow(source, offset, f"not UTF-8 at byte {error.start} of the line")
    return None if not text or text.isspace() else text


def object_of_line(source: str, offset: int, line: str) -> dict[str, Any] | BadRow:
    """Parse a line of JSONL."""
    if line.lstrip().startswith("["):
        return BadRow(source, offset, ARRAY_OF_ROWS)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(source, offset, f"not JSON: {error}")
    if not isinstance(row, dict):
        return BadRow(source, offset, f"not a JSON object but {type(row).__name__}")
    return row


def _json_document(source: str, offset: int, line: str, columns: Columns) -> Row:
    row = object_of_line(source, offset, line)
    if isinstance(row, BadRow):
        return row
    if columns.text not in row and not (columns.title and row.get(columns.title)):
        keys = ", ".join(map(repr, list(row)[:10]))
        return BadRow(source, offset, f"no key {columns.text!r} (keys: {keys:.200})")
    document = document_of(source, offset, row, columns)
    if "\\u" in line and isinstance(document, Document) and not _encodes(document):
        return BadRow(source, offset, HALF_OF_A_PAIR)
    return document


def _encodes(document: Document) -> bool:
    try:
        f"{document.text}{document.title}{document.unit_id}".encode()
    except UnicodeEncodeError:
        return False
    return True


def document_of(source: str, offset: int, row: Mapping[str, Any], columns: Columns) -> Row:
    """Make a document from a row's values by column; strings that are not UTF-8 are bytes."""
    text = row.get(columns.text)
    if isinstance(text, bytes):
        return BadRow(source, offset, f"{columns.text!r} is not UTF-8")
    if text is not None and not isinstance(text, str):
        return BadRow(source, offset, f"{columns.text!r} is not a string but {type(text).__name__}")
    title, has_odd_title = _title_of(row.get(columns.title) if columns.title else None)
    row_id = next((row[name] for name in columns.ids if row.get(name) is not None), None)
    if row_id == "":
        return BadRow(source, offset, "the id is empty; give an id to all rows, or to none")
    if row_id is not None and not _is_id(row_id):
        return BadRow(source, offset, f"the id is neither a string nor an int64: {row_id!r:.60}")
    document = Document(source, offset, text or "", row_id, title or None, has_odd_title)
    return _text_or_bad(source, offset, document.text + (document.title or ""), document)


def _title_of(value: object) -> tuple[str | None, bool]:
    """Convert a title to text, and mark non-strings; numbers are converted, others ignored."""
    if value is None or isinstance(value, str):
        return value, False
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (str(value) if is_number else None), True


def _is_id(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -_INT64_MAX - 1 <= value <= _INT64_MAX
    return isinstance(value, str)


def _text_or_bad(source: str, offset: int, text: str, document: Document) -> Row:
    if not text or text.isspace():
        return EmptyRow(source, offset)
    # UTF-16 of Latin letters is valid UTF-8 with many NUL characters.
    if "\0" in text:
        return BadRow(source, offset, "contains a NUL character; is the file UTF-16?")
    if len(text) > MAX_DOCUMENT_BYTES:
        return BadRow(source, offset, f"longer than {MAX_DOCUMENT_BYTES:,} characters")
    return document
