"""The search space of a recipe's objectives in their papers, for `tune: {space: paper}`."""

from collections.abc import Mapping
from typing import Any

from raykd.workflow.presets import load_preset, preset_names
from raykd.workflow.recipe.tune_space import Parameter

PAPER = "paper"
_SECTIONS = ("injection", "adaptation")


def with_paper_space(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values of a recipe, with the word `paper` as its search space replaced by the space.

    Raises:
        ValueError: no space is known for the recipe's objectives.
    """
    tune = values.get("tune")
    if not isinstance(tune, Mapping) or tune.get("space") != PAPER:
        return values
    return {**values, "tune": {**tune, "space": _paper_space(values)}}


def _paper_space(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the presets of the recipe's preset and objectives, each only in its own section."""
    own = {section: _objective(values, section) for section in _SECTIONS}
    task = values.get("task")
    task_name = str(task.get("name")) if isinstance(task, Mapping) else ""
    names = dict.fromkeys((values.get("preset"), *own.values()))
    space: dict[str, Any] = {}
    for name in names:
        if name not in preset_names():
            continue
        preset = load_preset(name, task_name)
        same = {s for s in _SECTIONS if own[s] and _objective(preset, s) in (own[s], None)}
        for key, parameter in preset.get("tune", {}).get("space", {}).items():
            paths = Parameter.parse(parameter, name).keys_of(key)
            if {path.partition(".")[0] for path in paths} <= same:
                space.setdefault(key, parameter)
    if not space:
        known = " and ".join(name for name in own.values() if name) or "it"
        raise ValueError(
            f"tune.space 'paper': no grid of a paper is known for {known}; name keys and ranges"
        )
    return space


def _objective(values: Mapping[str, Any], section: str) -> str | None:
    """Name of a section's objective; None without the section."""
    phase = values.get(section)
    if not isinstance(phase, Mapping):
        return None
    objective = phase.get("objective", {"name": "fine_tune"})
    return str(objective.get("name")) if isinstance(objective, Mapping) else None
