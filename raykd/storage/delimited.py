"""Parser of CSV and TSV with line numbers; an unreadable row does not affect other rows.

CSV follows RFC 4180. In TSV (as in GLUE) a quotation mark is an ordinary character, unless the
whole file is consistent with a writer that quotes fields (as pandas does).
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

# Characters to which bytes that are not UTF-8 are decoded.
_BAD_BYTES = re.compile("[\udc80-\udcff]")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LONG_NAME = 64
_NUM_WORDS_OF_NAME = 5
_MAX_FIELD_CHARS = 1 << 30
_DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "vertical bars"}


@dataclass(frozen=True)
class Layout:
    """Format options of CSV and TSV files.

    Attributes:
        columns: names of the columns of files without a header line; None: the first line.
        quoting: whether quotation marks enclose fields. "auto": in CSV always, in TSV if every line
            is consistent with a writer that quotes fields.
    """

    columns: tuple[str, ...] | None = None
    quoting: Quoting = "auto"


# A header line names the columns.
AS_NAMED = Layout()


class Row(NamedTuple):
    """Row: number of its first line, and its fields, or the fault that makes it unreadable."""

    line: int
    fields: Sequence[str]
    fault: str = ""


@dataclass(frozen=True)
class Delimited:
    """Column names and rows.

    Attributes:
        is_quoted: whether quotation marks enclose fields.
        has_quotes: whether `is_quoted` was detected from the quotation marks of a TSV file.
    """

    names: Sequence[str]
    rows: Sequence[Row]
    is_quoted: bool
    has_quotes: bool

    def note(self, path: Location) -> str | None:
        """Describe the detected quoting of a TSV file; None if nothing was detected."""
        if not self.has_quotes:
            return None
        if self.is_quoted:
            return f"{path}: quotation marks enclose fields (quoting: none keeps them as text)"
        return f"{path}: quotation marks are kept as text (quoting: standard removes them)"


def parse(path: Location, data: bytes, format_: Literal["csv", "tsv"], layout: Layout) -> Delimited:
    """Parse a whole file.

    Args:
        path: source of the data, for messages.
        data: bytes of the file; rows that are not UTF-8 have a fault.
        format_: "csv" or "tsv", which determines the delimiter.
        layout: format options.

    Raises:
        InputError: the file is empty, its header line cannot be read, or it has a header line
            although `layout.columns` is set.
    """
    delimiter = "," if format_ == "csv" else "\t"
    text = str(data, "utf-8-sig", "surrogateescape")
    is_quoted = layout.quoting == "standard" or (layout.quoting == "auto" and format_ == "csv")
    quoted: list[Row] | None = None
    is_detected = format_ == "tsv" and layout.quoting == "auto" and '"' in text
    if is_detected:
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
    return Delimited(names, rows, is_quoted, is_detected)


def looks_like_data(names: Sequence[str]) -> bool:
    """Guess whether a first line is a row rather than column names."""
    return any(
        _NUMBER.fullmatch(name.strip()) is not None
        or len(name) > _LONG_NAME
        or len(name.split()) >= _NUM_WORDS_OF_NAME
        for name in names
    )


def other_delimiter(names: Sequence[str]) -> str | None:
    """Guess the delimiter of a file whose first line has one column only because of it."""
    if len(names) != 1:
        return None
    found = {words: names[0].count(sign) for sign, words in _DELIMITERS.items()}
    most = max(found, key=lambda words: found[words])
    return most if found[most] else None


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
    # Files of old Macintosh programs have only carriage returns.
    line_end = "\n" if "\n" in text else "\r"
    for number, line in enumerate(text.split(line_end), 1):
        if content := line.removesuffix("\r"):
            yield Row(number, content.split(delimiter))


def _quoted_rows(text: str, delimiter: str) -> Iterator[Row]:
    """Iterate over rows with quotes; after an unreadable row, the next line begins a row."""
    for row, _ in _quoted_spans(text, delimiter):
        yield row


def _quoted_spans(text: str, delimiter: str) -> Iterator[tuple[Row, str]]:
    """Iterate over rows with quotes, and the text of each row."""
    # A process-wide limit, 128 KiB by default; the size of the text is bounded elsewhere.
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
            # A stray quotation mark may have joined many rows.
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
    """Rewindable lines for `csv.reader`."""

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
    """Parse the rows if every line is consistent with a writer that quotes fields; else None."""
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
