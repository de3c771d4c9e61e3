"""A search space as Optuna sees it: plain numbers, and labels for everything else.

Values of choices that are not all numbers are labels for Optuna, which takes no lists and mappings.
A simplex without a step is a number from 0 to 1 per key but the last: how much of what the keys
before leave it takes, transformed so that the weights are uniform (Dirichlet with all ones).
"""

import math
from collections.abc import Mapping
from typing import Any

import optuna

from raykd.workflow.recipe.changed_values import INITS_KEY, inits_of, whole_objective
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_points import Space, in_order, is_active
from raykd.workflow.recipe.tune_space import Parameter, label_of

Params = dict[str, float | int | str]


def sample(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Values of the searched keys, drawn by Optuna; of parameters whose conditions hold."""
    values: dict[str, Any] = {}
    for name in in_order(space):
        parameter = space[name]
        if not is_active(parameter, values):
            continue
        if parameter.simplex is not None:
            weights = _sampled_weights(trial, name, parameter)
            for key, weight in weights.items():
                trial.set_user_attr(key, weight)
            values.update(weights)
        else:
            values.update(parameter.assignment(name, _sampled_value(trial, name, parameter)))
    return values


def params_of(values: Mapping[str, Any], space: Space) -> Params | None:
    """Values as Optuna's parameters; None if they are not in the space."""
    params: Params = {}
    point: dict[str, Any] = {}
    for name in in_order(space):
        parameter = space[name]
        if not is_active(parameter, point):
            continue
        found = _params_of(values, name, parameter)
        if found is None:
            return None
        params.update(found)
        if name in values:
            point[name] = values[name]
    return params


def own_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe's values of all searched keys that it has.

    An objective is the first choice that it equals, apart from its keys that are searched too. Of
    several inits, trials take the first.
    """
    assert recipe.tune is not None
    space = recipe.tune.space
    tree = recipe.model_dump(mode="json", by_alias=True)
    keys = [key for name in space for key in space[name].keys_of(name)]
    values: dict[str, Any] = {}
    for key in keys:
        branch: Any = tree
        for part in key.split("."):
            branch = branch.get(part) if isinstance(branch, Mapping) else None
        values[key] = branch
    for key in [key for key in space if key.rpartition(".")[2] == "objective" and key in values]:
        searched = {other.removeprefix(f"{key}.") for other in keys if other.startswith(f"{key}.")}
        own = _without(values[key], searched)
        for choice in space[key].values():
            if _without(whole_objective(choice, key), searched) == own:
                values[key] = choice
    if INITS_KEY in values:
        own_inits = [recipe.student.inits[0]]
        choices = [a[INITS_KEY] for n in space for a in space[n].assignments(n) if INITS_KEY in a]
        same = (choice for choice in choices if inits_of(choice) == own_inits)
        values[INITS_KEY] = next(same, own_inits)
    return values


def numbers_of(parameter: Parameter) -> tuple[float | int, ...] | None:
    """The choices, if all are different numbers, which Optuna draws on an axis."""
    if parameter.choice is None or any(
        isinstance(value, bool) or not isinstance(value, int | float) for value in parameter.choice
    ):
        return None
    return parameter.choice


def _sampled_value(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if parameter.choice is not None:
        labels = _labels(parameter)
        return parameter.choice[labels.index(trial.suggest_categorical(name, labels))]
    if parameter.int_range is not None:
        step = int(parameter.step or 1)
        return trial.suggest_int(name, *parameter.int_range, step=step, log=parameter.log)
    assert parameter.float_range is not None
    low, high = parameter.float_range
    value = trial.suggest_float(name, low, high, step=parameter.step, log=parameter.log)
    return _nearest(value, parameter)


def _nearest(value: float, parameter: Parameter) -> float:
    """The value, without the rounding error of a range with steps."""
    if parameter.step is None:
        return value
    nearest: float = min(parameter.steps() or (value,), key=lambda other: abs(other - value))
    return nearest


def _labels(parameter: Parameter) -> list[Any]:
    numbers = numbers_of(parameter)
    if numbers is not None:
        return list(numbers)
    assert parameter.choice is not None
    names = [
        value.get("name") if isinstance(value, Mapping) else value for value in parameter.choice
    ]
    if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return names  # of objectives, whose other settings would make long labels
    return [label_of(value) for value in parameter.choice]


def _sampled_weights(trial: optuna.Trial, name: str, parameter: Parameter) -> dict[str, float]:
    assert parameter.simplex is not None
    listed = parameter.all_assignments(name)
    if listed is not None:
        labels = [_weights_label(weights) for weights in listed]
        return listed[labels.index(trial.suggest_categorical(name, labels))]
    shares: list[float] = []
    rest = 1.0
    for index, param in enumerate(_share_names(name, parameter)):
        # The first of n uniform weights has the distribution function 1 - (1 - w)^(n - 1).
        num_after = len(parameter.simplex) - 1 - index
        share = rest * (1 - (1 - trial.suggest_float(param, 0.0, 1.0)) ** (1 / num_after))
        shares.append(share)
        rest -= share
    return parameter.weights([*shares, rest], parameter.lowest_weight)


def _share_names(name: str, parameter: Parameter) -> list[str]:
    """Optuna's names of all keys but the last: they are shares, not weights."""
    assert parameter.simplex is not None
    return [f"{name}: {key.rpartition('.')[2]}" for key in parameter.simplex[:-1]]


def _weights_label(weights: Mapping[str, float]) -> str:
    return " ".join(f"{weight:g}" for weight in weights.values())


def _params_of(values: Mapping[str, Any], name: str, parameter: Parameter) -> Params | None:
    if parameter.simplex is not None:
        return _simplex_params(values, name, parameter)
    value = values.get(name)
    if parameter.keys is not None:
        value = [values.get(key) for key in parameter.keys]
    if parameter.choice is not None:
        labels = [label_of(choice) for choice in parameter.choice]
        found = [i for i, label in enumerate(labels) if _is_same(value, parameter.choice[i], label)]
        return {name: _labels(parameter)[found[0]]} if found else None
    assert parameter.bounds is not None
    low, high = parameter.bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    if parameter.step is not None:
        nearest = min(parameter.steps() or (), key=lambda other: abs(other - value))
        if not math.isclose(nearest, value):
            return None
        value = nearest
    return {name: value}


def _is_same(value: Any, choice: Any, label: str) -> bool:
    numbers = [one for one in (value, choice) if isinstance(one, int | float)]
    if len(numbers) == 2 and not any(isinstance(one, bool) for one in numbers):
        return bool(value == choice)
    return label_of(value) == label


def _simplex_params(values: Mapping[str, Any], name: str, parameter: Parameter) -> Params | None:
    keys = parameter.simplex
    assert keys is not None
    weights = [values[key] for key in keys if isinstance(values.get(key), int | float)]
    if len(weights) < len(keys):
        return None
    low, total = parameter.lowest_weight, parameter.weight_sum
    if min(weights) < low or not math.isclose(sum(weights), total, rel_tol=1e-6):
        return None
    listed = parameter.all_assignments(name)
    if listed is not None:
        for one in listed:
            if all(math.isclose(one[key], values[key], abs_tol=1e-9) for key in keys):
                return {name: _weights_label(one)}
        return None
    spread = total - len(keys) * low
    rest, params = 1.0, Params()
    for index, param in enumerate(_share_names(name, parameter)):
        share = (weights[index] - low) / spread
        part = min(1.0, share / rest) if rest > 0 else 0.0
        params[param] = 1 - (1 - part) ** (len(keys) - 1 - index)
        rest -= share
    return params


def _without(objective: Any, keys: set[str]) -> Any:
    """An objective's settings without some keys, which may be those of a section in it."""
    if not isinstance(objective, Mapping):
        return objective
    return {
        key: _without(value, {k.removeprefix(f"{key}.") for k in keys if k.startswith(f"{key}.")})
        for key, value in objective.items()
        if key not in keys
    }
