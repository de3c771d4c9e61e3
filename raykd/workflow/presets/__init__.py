"""Settings of each method from its paper, as data: every value with its source.

`METHOD.yaml` holds `row`, the row of a paper's table that the preset is, `all`, and under `tasks`
what differs for a task: trees of a recipe's keys whose leaves are `{value: ..., source: ...}`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from raykd.errors import InputError


def preset_names() -> list[str]:
    """All presets, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def load_preset(name: str, task: str) -> dict[str, Any]:
    """The values of a preset for a task, as a tree of a recipe's keys.

    Raises:
        InputError: there is no such preset.
    """
    tree = _read(name)
    own = tree.get("tasks", {}).get(task, {})
    return {key: _value(item) for key, item in merged(tree["all"], own).items()}


def preset_row(name: str) -> str:
    """The row of a paper's table that a preset is, and what a recipe must add to be that row.

    Raises:
        InputError: there is no such preset.
    """
    row: str = _read(name)["row"]
    return row


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with the values of both; where both have one, that of `over`.

    What has another `name` in both is two things: that of `over` takes nothing of the other.
    """
    if "name" in base and "name" in over and base["name"] != over["name"]:
        return dict(over)
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        result[key] = merged(base[key], value) if both else value
    return result


@cache
def _read(name: str) -> Mapping[str, Any]:
    if name not in preset_names():
        raise InputError(f"preset {name!r:.60}: there is none; choose {', '.join(preset_names())}")
    text = files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    tree: Mapping[str, Any] = yaml.safe_load(text)
    return tree


def _value(item: Any) -> Any:
    if not isinstance(item, Mapping):
        raise TypeError(f"{item!r} has no source")
    if item.keys() == {"value", "source"}:
        return item["value"]
    return {key: _value(inner) for key, inner in item.items()}
