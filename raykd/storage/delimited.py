"""Rows of CSV and TSV, with the line each begins in; a row that cannot be read costs no other.

CSV follows RFC 4180. In TSV, as GLUE ships it, a quotation mark is an ordinary character, unless
the whole file is written with quotes, as pandas writes it.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from raykd.errors import InputError
from raykd.storage.locations import Location

Quoting = Literal["auto", "none", "standard"]

# What decoding makes of bytes that are not UTF-8.
_BAD_BYTES = re.compile("[\udc80-\udcff]")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LONG_NAME = 64
_NUM_WORDS_OF_NAME = 5
_MAX_FIELD_CHARS = 1 << 30


@dataclass(frozen=True)
class Layout:
    """How CSV and TSV files are written.

    `columns` names the columns of files without a header line; None where the first line does.
    `quoting` says whether quotation marks enclose fields: in CSV by default, in TSV by default
    ("auto") where every line is as a writer with quotes would write it.
    """

    columns: tuple[str, ...] | None = None
    quoting: Quoting = "auto"


# A header line names the columns.
AS_NAMED = Layout()


class Row(NamedTuple):
    """One row: the number of its first line, and its fields, or why it cannot be read."""

    line: int
    fields: Sequence[str]
    fault: str = ""


@dataclass(frozen=True)
class Delimited:
    """Names of the columns, and the rows; `is_quoted` where quotation marks enclose fields."""

    names: Sequence[str]
    rows: Sequence[Row]
    is_quoted: bool
    has_quotes: bool

    def note(self, path: Location) -> str | None:
        """What a reader of a TSV file needs to know of its quotation marks."""
        if not self.has_quotes:
            return None
        if self.is_quoted:
            return f"{path}: quotation marks enclose fields (quoting: none keeps them as text)"
        return f"{path}: quotation marks are kept as text (quoting: standard removes them)"


def parse(path: Location, data: bytes, format_: Literal["csv", "tsv"], layout: Layout) -> Delimited:
    """Parse a whole file.

    Args:
        path: where it comes from, for messages.
        data: its bytes; rows that are not UTF-8 have a fault.
        format_: says what delimits fields.
        layout: how the file is written.

    Raises:
        InputError: the file is empty, its header line cannot be read, or it has a header line
            though `layout.columns` says that it has none.
    """
    delimiter = "," if format_ == "csv" else "\t"
    text = str(data, "utf-8-sig", "surrogateescape")
    is_quoted = layout.quoting == "standard" or (layout.quoting == "auto" and format_ == "csv")
    quoted: list[Row] | None = None
    if format_ == "tsv" and layout.quoting == "auto" and '"' in text:
        quoted = _rows_of_writer(text, delimiter)
        is_quoted = quoted is not None
    if quoted is None:
        read = _quoted_rows if is_quoted else _plain_rows
        quoted = list(read(text, delimiter))
    rows = quoted
    names = layout.columns
    if names is None:
        if not rows:
            raise InputError(f"{path}: is empty; the first line must name the columns")
        first, *rows = rows
        if fault := first.fault or _utf8_fault(first.fields):
            raise InputError(f"{path}, line {first.line} (names of the columns): {fault}")
        names = tuple(first.fields)
    elif rows and tuple(rows[0].fields) == names:
        raise InputError(
            f"{path}: its first line names the columns already; leave out the key or option for "
            "files without a header line"
        )
    of_columns = "1 column" if len(names) == 1 else f"{len(names)} columns"
    stated = f"the first line names {of_columns}"
    if layout.columns is not None:
        stated = f"{of_columns} {'is' if len(names) == 1 else 'are'} named"
    may_be_bad = _BAD_BYTES.search(text) is not None
    rows = [_checked(row, len(names), stated, may_be_bad) for row in rows]
    return Delimited(names, rows, is_quoted, format_ == "tsv" and '"' in text)


def looks_like_data(names: Sequence[str]) -> bool:
    """Whether a first line is more likely a row than the names of columns."""
    return any(
        _NUMBER.fullmatch(name.strip()) is not None
        or len(name) > _LONG_NAME
        or len(name.split()) >= _NUM_WORDS_OF_NAME
        for name in names
    )


def _checked(row: Row, num_names: int, stated: str, may_be_bad: bool) -> Row:
    if row.fault:
        return row
    if (num_fields := len(row.fields)) != num_names:
        fields = "1 field" if num_fields == 1 else f"{num_fields} fields"
        return Row(row.line, (), f"{fields} where {stated}")
    fault = _utf8_fault(row.fields) if may_be_bad else ""
    return Row(row.line, (), fault) if fault else row


def _utf8_fault(fields: Sequence[str]) -> str:
    for number, field in enumerate(fields, 1):
        if match := _BAD_BYTES.search(field):
            return (
                f"not UTF-8 at character {match.start()} of field {number}; convert the file to "
                "UTF-8"
            )
    return ""


def _plain_rows(text: str, delimiter: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if content := line.removesuffix("\r"):
            yield Row(number, content.split(delimiter))


def _quoted_rows(text: str, delimiter: str) -> Iterator[Row]:
    """Rows with quotes; behind one that cannot be read, the next line begins a row."""
    for row, _ in _quoted_spans(text, delimiter):
        yield row


def _quoted_spans(text: str, delimiter: str) -> Iterator[tuple[Row, str]]:
    """Rows with quotes, and the text that each was read from."""
    # A setting of the process, 128 KiB unless it is raised; the whole text is bounded already.
    csv.field_size_limit(_MAX_FIELD_CHARS)
    lines = _Lines(list(io.StringIO(text, newline="")))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    num_fields: int | None = None
    while True:
        start = lines.position
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            reason = "a quotation mark is opened and never closed" if is_open else str(error)
            yield Row(start + 1, (), f"not CSV ({reason})"), lines.all[start]
            # What a stray quotation mark took for one row may be many.
            lines.position = start + 1
            continue
        if not fields:
            continue
        num_fields = num_fields or len(fields)
        if len(fields) != num_fields and lines.position > start + 1:
            fault = f"not CSV (a quotation mark joins {lines.position - start} lines to one row of "
            fault += f"{len(fields)} fields)"
            yield Row(start + 1, (), fault), lines.all[start]
            lines.position = start + 1
            continue
        yield Row(start + 1, fields), "".join(lines.all[start : lines.position])


class _Lines:
    """Lines for `csv.reader`, which can be set back."""

    def __init__(self, lines: list[str]) -> None:
        self.all = lines
        self.position = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.is_at_end:
            raise StopIteration
        self.position += 1
        return self.all[self.position - 1]

    @property
    def is_at_end(self) -> bool:
        return self.position >= len(self.all)


def _rows_of_writer(text: str, delimiter: str) -> list[Row] | None:
    """The rows, if every line is as a writer with quotes would write it; else None."""
    rows: list[Row] = []
    quotes = {"minimal": _is_special, "all": _always, "text": _is_no_number}
    for row, source in _quoted_spans(text, delimiter):
        if row.fault or (rows and len(row.fields) != len(rows[0].fields)):
            return None
        rows.append(row)
        line = source.rstrip("\r\n")
        for name, is_quoted in list(quotes.items()):
            written = (_written(field, is_quoted(field)) for field in row.fields)
            if delimiter.join(written) != line:
                del quotes[name]
        if not quotes:
            return None
    return rows


def _written(field: str, is_quoted: bool) -> str:
    return '"' + field.replace('"', '""') + '"' if is_quoted else field


def _is_special(field: str) -> bool:
    return any(sign in field for sign in '\t\r\n"')


def _always(field: str) -> bool:
    return True


def _is_no_number(field: str) -> bool:
    return _NUMBER.fullmatch(field) is None
