"""Reader of JSON lines into columns; errors have the line number of the invalid value."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from raykd.errors import InputError
from raykd.storage.formats import Compression, check_size, open_bytes
from raykd.storage.locations import Location

ARRAY_OF_ROWS = "one JSON object per line is expected, not an array; unpack it with jq -c '.[]'"
HALF_OF_A_PAIR = "contains half of a surrogate pair"

# Names of all columns of a file -> names of the columns to read.
Choose = Callable[[Sequence[str]], Sequence[str]]

_READ_BYTES = 4 << 20
# Memory of a value in addition to its text.
_VALUE_BYTES = 8
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
_KINDS |= {list: "a list", dict: "an object", type(None): "null"}


def read_json_lines(
    path: Location,
    compression: Compression | None,
    columns: Sequence[str] | None,
    choose: Choose,
    text_columns: Collection[str],
) -> pa.Table:
    """Read a whole JSONL file; use it inside `explained`.

    Args:
        path: input file.
        compression: compression of the file.
        columns: keys that `choose` may return; None: all. Other values are discarded.
        choose: function from all keys to the keys to read, in order.
        text_columns: keys whose values must be strings or null.

    Raises:
        InputError: a line is invalid; the message has its number. See also `choose`.
    """
    kept = None if columns is None else frozenset(columns)
    rows: list[tuple[int, dict[str, Any]]] = []
    # A dict keeps the order in which the keys appear.
    names: dict[str, None] = {}
    num_bytes = 0
    for number, line in _lines(path, compression):
        row = _json_row(path, number, line)
        names.update(dict.fromkeys(row))
        if kept is not None:
            row = {name: value for name, value in row.items() if name in kept}
        rows.append((number, row))
        num_bytes += _VALUE_BYTES * (1 + len(row))
        num_bytes += sum(len(value) for value in row.values() if isinstance(value, str))
        check_size(path, num_bytes)
    return pa.table(
        {
            name: _jsonl_column(path, name, rows, name in text_columns)
            for name in choose(list(names))
        }
    )


def _lines(path: Location, compression: Compression | None) -> Iterator[tuple[int, str]]:
    """Iterate over the nonblank lines, with their numbers; only a line feed ends a line."""
    number = num_pending = 0
    pending: list[bytes] = []
    with open_bytes(path, compression) as file:
        while chunk := file.read(_READ_BYTES):
            first, *lines = chunk.split(b"\n")
            pending.append(first)
            num_pending += len(first)
            check_size(path, num_pending)
            for line in lines:
                number += 1
                yield from _decoded(path, number, b"".join(pending))
                pending, num_pending = [line], len(line)
        yield from _decoded(path, number + 1, b"".join(pending))


def _decoded(path: Location, number: int, line: bytes) -> Iterator[tuple[int, str]]:
    if not line.strip():
        return
    try:
        yield number, str(line, "utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not UTF-8 at byte {error.start} of the line; convert the file "
            "to UTF-8"
        ) from None


def _json_row(path: Location, number: int, line: str) -> dict[str, Any]:
    if line.lstrip().startswith("["):
        raise InputError(f"{path}, line {number}: {ARRAY_OF_ROWS}")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}, line {number}: not JSON ({error}); correct or remove the line"
        ) from None
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: one JSON object per line is expected")
    return row


def _jsonl_column(
    path: Location, name: str, rows: Sequence[tuple[int, dict[str, Any]]], is_text: bool
) -> pa.Array:
    values = [row.get(name) for _, row in rows]
    if is_text:
        for (number, _), value in zip(rows, values, strict=True):
            if not (value is None or isinstance(value, str)):
                raise InputError(
                    f"{path}, line {number}: {name!r} is {kind_of(value)} ({value!r:.60}), text is "
                    "expected; write it in quotation marks, or remove the line"
                )
    try:
        return pa.array(values, pa.string() if is_text else None)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        for (number, _), value in zip(rows, values, strict=True):
            if not _encodes(value):
                raise InputError(
                    f"{path}, line {number}: {name!r} {HALF_OF_A_PAIR} ({value!a:.60}); "
                    "correct or remove the line"
                ) from None
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: the values of {name!r} are not of one type: {_two_kinds(rows, name)} "
            f"({reason[:200]}); write all values as one type"
        ) from None


def kind_of(value: object) -> str:
    """Name of a value's type in JSON."""
    return _KINDS.get(type(value), type(value).__name__)


def _encodes(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _two_kinds(rows: Sequence[tuple[int, dict[str, Any]]], name: str) -> str:
    kinds: dict[str, int] = {}
    for number, row in rows:
        if row.get(name) is not None:
            kinds.setdefault(kind_of(row[name]), number)
    return ", ".join(f"{kind} in line {number}" for kind, number in kinds.items())
