"""YAML scalars and lists on one line."""

import json
import re
from collections.abc import Sequence

from raykd.tasks.labels.cells import BOOLEANS, YAML_BOOLEANS

# Text that YAML reads as text without quotes.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*")
_NOT_TEXT = BOOLEANS | YAML_BOOLEANS | {"null", "y", "n"}


def yaml_list(values: Sequence[str]) -> str:
    """A list of texts."""
    return f"[{', '.join(map(yaml_text, values))}]"


def yaml_text(value: str) -> str:
    """A scalar that YAML reads as this text."""
    if _PLAIN.fullmatch(value) and value.casefold() not in _NOT_TEXT:
        return value
    return json.dumps(value, ensure_ascii=False)
