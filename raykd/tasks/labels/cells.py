"""Cells of a label column: parsing, and equality of labels.

A label is text, a whole number or a boolean. Surrounding white space is removed; equal whole
numbers are one class in any representation (1, 1.0, "1", full-width digits), and so are booleans
(true, "True"). Text that differs only in compatibility characters is one class (Unicode's NFKC).
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

# Placeholders for unknown labels in tables; compared case-insensitively.
PLACEHOLDERS = frozenset(
    [
        *("-", "--", "---", "\N{EN DASH}", "\N{EM DASH}", "_", "?", "??", "???", ".", "..."),
        *("nan", "nat", "none", "null", "nil", "na", "n/a", "n.a.", "n.a", "#n/a", "<na>"),
        *("undefined", "missing", "not available", "tbd", "todo"),
        *("unlabeled", "unlabelled", "unannotated"),  # both spellings; word list: ok
        *("no label", "no_label", "no-label"),
    ]
)

INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.0*)?")
_FRACTION = re.compile(r"[-+]?(?:[0-9]*\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)")
BOOLEANS = frozenset({"true", "false"})
YAML_BOOLEANS = frozenset({"yes", "no", "on", "off"})
# Zero-width characters, which no strip() removes.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"


class Cell(NamedTuple):
    """Parsed label: cells with equal `key` are one class; `name` is its name."""

    key: str
    name: str
    is_fraction: bool = False


def read_cell(value: object) -> Cell | None:
    """Parse a label; None if there is none (null, NaN, white space).

    Raises:
        TypeError: the value is not text, a number or a boolean.
    """
    match value:
        case None:
            return None
        case bool():
            return Cell(str(value).casefold(), str(value))
        case int():
            return Cell(str(value), str(value))
        case float() | Decimal():
            if not math.isfinite(value):
                return None
            if value == int(value):
                return Cell(str(int(value)), str(int(value)))
            return Cell(str(value), str(value), is_fraction=True)
        case str():
            return _read_text(value)
    raise TypeError(type(value).__name__)


def label_name(value: object) -> str:
    """Text of a class in a recipe, where YAML parses an unquoted 0 or no as another type.

    Raises:
        ValueError: the value is no label.
    """
    try:
        cell = read_cell(value)
    except TypeError:
        cell = None
    if cell is None:
        raise ValueError(f"expected a label, text in quotes or a whole number, not {value!r}")
    return cell.name


def repeated_label(labels: Sequence[str]) -> str | None:
    """First label that equals an earlier one; None if there is none."""
    seen = set()
    for name in labels:
        if (key := key_of(name)) in seen:
            return name
        seen.add(key)
    return None


def _read_text(text: str) -> Cell | None:
    plain = text.strip().strip(_INVISIBLE).strip()
    key = unicodedata.normalize("NFKC", plain)
    if not key:
        return None
    if INTEGER.fullmatch(key):
        number = str(int(key.partition(".")[0]))
        return Cell(number, number)
    if key.casefold() in BOOLEANS:
        return Cell(key.casefold(), plain)
    return Cell(key, plain, is_fraction=_FRACTION.fullmatch(key) is not None)


def key_of(name: str) -> str:
    """Key of a class name; empty if it is no label."""
    cell = read_cell(name)
    return "" if cell is None else cell.key


def is_placeholder(cell: Cell) -> bool:
    """True if a label is a placeholder for a missing one."""
    return cell.key.casefold() in PLACEHOLDERS


def in_order(names: Mapping[str, str]) -> tuple[str, ...]:
    """Names in order: numbers by value, then other names alphabetically."""
    numbers = sorted((key for key in names if INTEGER.fullmatch(key)), key=int)
    others = sorted(names[key] for key in names if not INTEGER.fullmatch(key))
    return (*(names[key] for key in numbers), *others)
