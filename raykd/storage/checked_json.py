"""JSON files that check themselves: their `checksum` is a digest of all else that is in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from raykd import progress

_CHECKSUM = "checksum"


def to_checked_json(values: Mapping[str, Any]) -> str:
    """JSON text of plain values, with their checksum as the last key."""
    return json.dumps({**values, _CHECKSUM: _checksum_of(values)}, indent=2) + "\n"


def from_checked_json(content: bytes) -> dict[str, Any] | None:
    """The values, or None where a byte was changed or is missing, or there is no checksum."""
    try:
        values = json.loads(content)
        checksum = values.pop(_CHECKSUM)
        is_whole = checksum == _checksum_of(values)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return values if is_whole else None


def read_informative(path: Path) -> dict[str, Any]:
    """The values of a file that decides no result; a damaged one is removed, which is reported."""
    try:
        values = from_checked_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    if values is None:
        progress.say(f"{path}: damaged, or of an older version; removed, no result depends on it")
        path.unlink()
        return {}
    return values


def _checksum_of(values: Mapping[str, Any]) -> str:
    # ASCII: half surrogates, which JSON can hold, have no UTF-8.
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
