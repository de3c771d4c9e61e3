"""YAML files of plain values: text, numbers, booleans, lists and mappings with text as keys."""

import math
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from raykd.errors import InputError, shortened
from raykd.storage.outputs import missing_hint

MAX_BYTES = 256 * 1024
# Limit after expansion of aliases: a few lines can represent billions of values.
MAX_VALUES = 20_000
MAX_DEPTH = 40
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values.

    Raises:
        InputError: the file is missing, too large, not UTF-8 or not YAML, repeats a key, or holds
            something other than plain values.
    """
    text = _read(path)
    try:
        loader = _UniqueKeyLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _count_values(node, {})
        values = loader.construct_document(node) if node is not None else None
    except (MemoryError, InputError):
        raise
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {_one_line(error)}") from None
    except _TooLargeError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        # PyYAML's constructors of tagged values raise whatever Python raises inside them.
        raise InputError(
            f"{path}: not valid YAML: a value does not fit its tag ({type(error).__name__}: "
            f"{_one_line(error)})"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected")
    for key, problem in _problems(values, ""):
        raise InputError(f"{path}: {_place(key)}{problem}")
    return values


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES // 1024} KiB, no settings file")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_similar_hint(path)}{missing_hint(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, a YAML file is expected") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{shortened(str(path), 300)}: cannot be read: {reason}") from None


def _similar_hint(path: Path) -> str:
    """Name the file that was probably meant, if the suffix is missing."""
    candidates = [path.with_name(f"{path.name}{suffix}") for suffix in (".yaml", ".yml")]
    return next((f"; did you mean {one}?" for one in candidates if one.is_file()), "")


class _TooLargeError(Exception):
    """Too many values, too deep nesting, or a value that contains itself."""


def _count_values(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """Count the values below a node, with aliases expanded.

    Args:
        node: of the composed document.
        counted: number of values by node identity; None while a node is being counted.
    """
    if id(node) in counted:
        known = counted[id(node)]
        if known is None:
            raise _TooLargeError(f"the value at {_position(node)} contains itself (an alias)")
        return known
    counted[id(node)] = None
    if len(counted) > MAX_VALUES:
        raise _TooLargeError(f"more than {MAX_VALUES:,} values")
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1 + sum(_count_values(child, counted) for child in children)
    if total > MAX_VALUES:
        raise _TooLargeError(f"aliases repeat values to more than {MAX_VALUES:,}")
    counted[id(node)] = total
    return total


def _position(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML loader that refuses repeated keys, of which PyYAML silently keeps the last."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Checked early, since the scanner needs quadratic time for thousands of brackets.
        if self._depth > MAX_DEPTH:
            raise _TooLargeError(f"nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(
                None, None, f"expected a mapping, found a {node.id}", node.start_mark
            )
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r:.60} is no plain value", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r:.60} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `1e-4` as a string; recipes are full of such learning rates.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _problems(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Iterate over the paths and faults of all values that are not plain."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str) and not _CONTROL.search(key):
                yield from _problems(inner, f"{path}.{key}" if path else key)
            else:
                yield path, f"the key {key!r:.60} is no text without control characters; {_QUOTE}"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _problems(inner, f"{path}.{number}")
    elif problem := _problem(value):
        yield path, problem


def _problem(value: Any) -> str | None:
    """Describe the fault of a single value, if any."""
    if isinstance(value, str):
        control = _CONTROL.search(value)
        return control and f"contains the character U+{ord(control.group()):04X}; remove it"
    if isinstance(value, float) and math.isnan(value):
        return ".nan is not accepted; write a number"
    if value is None or isinstance(value, bool | int | float):
        return None
    return f"{value!r:.60} is read as a {type(value).__name__}; {_QUOTE}"


_QUOTE = "write it in quotes to make it text"


def _place(key: str) -> str:
    return f"key {shortened(key, 120)!r}: " if key else ""


def _one_line(error: Exception) -> str:
    # PyYAML calls a text from memory so.
    text = str(error).replace(' in "<unicode string>",', " at")
    return shortened(" ".join(text.split()), 400)
