"""Points of a search space: combinations of values that its conditions allow."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from raykd.workflow.recipe.tune_space import Parameter, holds

Space = Mapping[str, Parameter]
Point = dict[str, Any]


def in_order(space: Space) -> list[str]:
    """Names of the parameters, each after those that its conditions name.

    Raises:
        ValueError: a condition is on an unknown parameter or value, or conditions form a circle.
    """
    for name, parameter in space.items():
        for key, wanted in parameter.when.items():
            _check_condition(space, name, key, wanted)
    ordered: list[str] = []
    while len(ordered) < len(space):
        ready = [
            name for name in space if name not in ordered and space[name].when.keys() <= {*ordered}
        ]
        if not ready:
            circle = [name for name in space if name not in ordered]
            raise ValueError(f"space: the conditions of {', '.join(circle)} form a circle")
        ordered += ready
    return ordered


def is_active(parameter: Parameter, point: Mapping[str, Any]) -> bool:
    """Return whether a parameter is searched, given the values of those before it."""
    return all(key in point and holds(point[key], want) for key, want in parameter.when.items())


def combinations(
    space: Space, options: Callable[[str], Sequence[Mapping[str, Any]]]
) -> Iterator[Point]:
    """All points, in order.

    Args:
        space: parameters by name.
        options: returns the assignments to try of a parameter, each as its keys' values.
    """
    names = in_order(space)

    def extended(index: int, point: Point) -> Iterator[Point]:
        if index == len(names):
            yield point
            return
        if not is_active(space[names[index]], point):
            yield from extended(index + 1, point)
            return
        for assignment in options(names[index]):
            yield from extended(index + 1, {**point, **assignment})

    return extended(0, {})


def random_point(
    space: Space, options: Callable[[str], Sequence[Mapping[str, Any]]], chance: random.Random
) -> Point:
    """One point, drawn from the assignments of each parameter."""
    point: Point = {}
    for name in in_order(space):
        if is_active(space[name], point):
            point.update(chance.choice(options(name)))
    return point


def grid(space: Space, most: int) -> list[Point]:
    """The first `most` points of a space whose parameters all have steps or choices."""

    def options(name: str) -> Sequence[Mapping[str, Any]]:
        found = space[name].all_assignments(name)
        assert found is not None, name
        return found

    return list(itertools.islice(combinations(space, options), most))


def check_names(space: Space) -> None:
    """Check that no key is set twice at once, and that parameters of several keys have own names.

    Raises:
        ValueError: names the key.
    """
    owners: dict[str, list[str]] = {}
    for name, parameter in space.items():
        if (parameter.simplex or parameter.keys) and "." in name:
            raise ValueError(
                f"space: {name!r} sets several keys and needs a name of its own, such as weights: "
                "{simplex: [KEYS]}"
            )
        for key in parameter.keys_of(name):
            owners.setdefault(key, []).append(name)
    for key, names in owners.items():
        for one, other in itertools.combinations(names, 2):
            if not _exclude_each_other(space[one], space[other]):
                raise ValueError(f"space: {key!r} is searched by {one!r} and by {other!r}")


def _exclude_each_other(one: Parameter, other: Parameter) -> bool:
    """Return whether conditions on a common key never hold both."""
    for key in one.when.keys() & other.when.keys():
        wanted = [w if isinstance(w, list) else [w] for w in (one.when[key], other.when[key])]
        if not any(holds(value, wanted[1]) for value in wanted[0]):
            return True
    return False


def _check_condition(space: Space, name: str, key: str, wanted: Any) -> None:
    other = space.get(key)
    known = [n for n, p in space.items() if n != name and not (p.simplex or p.keys)]
    if other is None or key not in known:
        raise ValueError(
            f"space.{name}.when: {key!r} is no other searched key; choose from "
            f"{', '.join(known) or 'none'}"
        )
    values = other.steps()
    if values is None:
        raise ValueError(
            f"space.{name}.when: {key!r} is a range of any number; conditions are on choices, or "
            "on ranges with a step"
        )
    for one in wanted if isinstance(wanted, list) and wanted not in list(values) else [wanted]:
        if not any(holds(value, one) for value in values):
            raise ValueError(
                f"space.{name}.when: {key!r} is never {one!r}; its values are "
                f"{', '.join(map(str, values[:20]))}"
            )
    if wanted == []:
        raise ValueError(f"space.{name}.when: {key!r} has no values; give one or more")
