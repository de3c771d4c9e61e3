"""JSON files with a `checksum`: a digest of all other values."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from raykd import progress

_CHECKSUM = "checksum"


def to_checked_json(values: Mapping[str, Any]) -> str:
    """Serialize plain values as JSON, with their checksum as the last key."""
    return json.dumps({**values, _CHECKSUM: _checksum_of(values)}, indent=2) + "\n"


def from_checked_json(content: bytes) -> dict[str, Any] | None:
    """Parse checked JSON; None if it is damaged or has no checksum."""
    try:
        values = json.loads(content)
        checksum = values.pop(_CHECKSUM)
        is_whole = checksum == _checksum_of(values)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return values if is_whole else None


def read_informative(path: Path) -> dict[str, Any]:
    """Read a file that determines no result; report and remove it if it is damaged."""
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
    # ASCII: lone surrogates, which JSON allows, cannot be encoded as UTF-8.
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
