"""A recipe's values with some of them changed by the paths of their keys."""

from collections.abc import Mapping
from typing import Any

from raykd.config import Config, models_in
from raykd.errors import InputError
from raykd.objectives import ObjectiveConfig

INITS_KEY = "student.inits"


def set_values(tree: dict[str, Any], values: Mapping[str, Any], source: str) -> None:
    """Change values of a tree of a recipe's keys.

    A section is changed before the keys in it. An objective, given by its name or as a mapping with
    a `name`, replaces the whole objective: its other keys have their defaults. `student.inits` may
    be given as the name of one init.

    Args:
        tree: all keys of a recipe, with their values.
        values: new values by path, such as adaptation.learning_rate.
        source: origin of the values, for messages.

    Raises:
        InputError: there is no such key, or no such objective.
    """
    for path in sorted(values, key=lambda path: path.count(".")):
        *sections, key = path.split(".")
        branch: Any = tree
        for section in sections:
            branch = branch.get(section) if isinstance(branch, dict) else None
        if not isinstance(branch, dict) or key not in branch:
            raise InputError(f"{source}: the recipe has no key {path!r}")
        value = values[path]
        if key == "objective":
            value = whole_objective(value, f"{source}: {path}")
        branch[key] = inits_of(value) if path == INITS_KEY else value


def inits_of(value: Any) -> Any:
    """Inits as a list, of which one may be given by its name."""
    return [value] if isinstance(value, str) else value


def whole_objective(value: Any, source: str) -> dict[str, Any]:
    """All settings of an objective.

    Args:
        value: its name, or a mapping with the key `name` and other settings.
        source: origin of the value, for messages.

    Raises:
        InputError: there is no such objective, or it does not take a setting.
    """
    given = value if isinstance(value, Mapping) else {"name": value}
    known = {model.model_fields["name"].default: model for model in models_in(ObjectiveConfig)}
    model = known.get(given.get("name"))
    if model is None or not issubclass(model, Config):
        raise InputError(
            f"{source}: {value!r:.60} is no objective; choose {', '.join(known)}, or a mapping "
            "with such a name and other keys"
        )
    settings: dict[str, Any] = model.parse(given, source).model_dump(mode="json", by_alias=True)
    return settings
