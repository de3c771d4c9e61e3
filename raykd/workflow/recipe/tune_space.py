"""Parameters that `raykd tune` searches: ranges, choices, weights that sum to a total."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from raykd.config import Config

# More weightings than this are not a list to choose from.
_MAX_WEIGHTINGS = 2000
_KINDS = "float: [low, high], int: [low, high], choice: [], simplex: [KEYS]"


class Parameter(Config):
    """One searched parameter: exactly one of `float`, `int`, `choice` and `simplex`."""

    float_range: tuple[float, float] | None = Field(
        None, alias="float", description="Range of a number: [low, high]."
    )
    int_range: tuple[int, int] | None = Field(
        None, alias="int", description="Range of an integer: [low, high], both included."
    )
    choice: tuple[Any, ...] | None = Field(
        None,
        min_length=1,
        description="List of values to choose from: numbers, names, lists, mappings such as layer "
        "maps; for a key `objective`, names of objectives, or mappings with a `name`.",
    )
    keys: tuple[str, ...] | None = Field(
        None,
        description="Keys that change together: each value of `choice` is a list of their values. "
        "The parameter has a name of its own in place of a key.",
    )
    simplex: tuple[str, ...] | None = Field(
        None,
        description="Keys of weights that always sum to `total`, drawn uniformly. The parameter "
        "has a name of its own in place of a key.",
    )
    total: float | None = Field(None, gt=0, description="Sum of a simplex's weights. Default: 1.")
    low: float | None = Field(
        None,
        ge=0,
        description="Smallest weight of a simplex. Default: step, or a hundredth of total.",
    )
    step: float | None = Field(
        None,
        gt=0,
        description="Distance of a range's values from `low` on, or of a simplex's weights. "
        "Default: any value.",
    )
    log: bool = Field(False, description="Sample the range on a logarithmic scale.")
    when: dict[str, Any] = Field(
        {},
        description="Conditions, as KEY: VALUE or KEY: [VALUES] of other searched keys: the "
        "parameter is searched only where all of them hold, else it is as in the recipe. An "
        "objective may be given by its name.",
    )

    @property
    def bounds(self) -> tuple[float, float] | tuple[int, int] | None:
        """Lowest and highest number of a range."""
        return self.float_range or self.int_range

    @property
    def weight_sum(self) -> float:
        """Sum of a simplex's weights."""
        return 1.0 if self.total is None else self.total

    @property
    def lowest_weight(self) -> float:
        """Smallest weight of a simplex."""
        if self.low is not None:
            return self.low
        return self.weight_sum / 100 if self.step is None else self.step

    def keys_of(self, name: str) -> tuple[str, ...]:
        """Keys of the recipe that a parameter of this name sets."""
        return self.simplex or self.keys or (name,)

    def values(self) -> tuple[Any, ...]:
        """The choices, or the ends of the range; those of a simplex are in `assignments`."""
        return self.choice or self.bounds or ()

    def steps(self) -> tuple[Any, ...] | None:
        """All values in order; None for a range of any number."""
        if self.choice is not None:
            return self.choice
        if self.int_range is not None and not self.log:
            low, high = self.int_range
            return tuple(range(low, high + 1, int(self.step or 1)))
        if self.float_range is None or self.step is None:
            return None
        first, step = Decimal(str(self.float_range[0])), Decimal(str(self.step))
        return tuple(float(first + i * step) for i in range(self._num_steps(*self.float_range) + 1))

    def assignments(self, name: str) -> list[dict[str, Any]]:
        """Values of its keys to check: choices, ends of a range, or the corners of a simplex.

        Args:
            name: the parameter's name in the space: its key, unless it is a simplex.
        """
        if self.simplex is None:
            return [self.assignment(name, value) for value in self.values()]
        low, keys = self.lowest_weight, self.simplex
        return [self.weights([0.0 if other != key else 1.0 for other in keys], low) for key in keys]

    def all_assignments(self, name: str) -> list[dict[str, Any]] | None:
        """All values of its keys; None where there is no end of them."""
        if self.simplex is None:
            values = self.steps()
            return None if values is None else [self.assignment(name, v) for v in values]
        if self.step is None:
            return None
        parts = self._num_steps(len(self.simplex) * self.lowest_weight, self.weight_sum)
        return [
            self.weights([count / parts for count in counts], self.lowest_weight)
            for counts in _compositions(parts, len(self.simplex))
        ]

    def assignment(self, name: str, value: Any) -> dict[str, Any]:
        """Values of its keys for one of `values`."""
        return {name: value} if self.keys is None else dict(zip(self.keys, value, strict=True))

    def weights(self, shares: Sequence[float], low: float) -> dict[str, float]:
        """Weights of a simplex by key.

        Args:
            shares: for each key, its share of what the smallest weights leave; they sum to 1.
            low: smallest weight.
        """
        assert self.simplex is not None
        spread = self.weight_sum - len(self.simplex) * low
        # Rounded, so that a step of 0.1 gives 0.3 and not 0.30000000000000004.
        weights = [float(f"{low + share * spread:.12g}") for share in shares]
        return dict(zip(self.simplex, weights, strict=True))

    @field_validator("choice", mode="before")
    @classmethod
    def _plain_values(cls, values: Any) -> Any:
        if not isinstance(values, list | tuple):
            return values
        plain = [_plain(value) for value in values]
        labels = [label_of(value) for value in plain]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"{label}: a value appears twice")
        return tuple(plain)

    @field_validator("when", mode="before")
    @classmethod
    def _plain_conditions(cls, conditions: Any) -> Any:
        return _plain(conditions) if isinstance(conditions, Mapping) else conditions

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.float_range, self.int_range, self.choice, self.simplex]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(f"give exactly one of {_KINDS}")
        if self.simplex is None and (self.total is not None or self.low is not None):
            raise ValueError("total and low are keys of a simplex")
        bounds = self.bounds
        if bounds and not all(map(math.isfinite, bounds)):
            raise ValueError(f"{list(bounds)}: every number must be finite")
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"{list(bounds)}: low must be below high")
        if self.log and (bounds is None or bounds[0] <= 0):
            raise ValueError("log needs a float or int range above 0")
        return self

    @model_validator(mode="after")
    def _values_are_of_keys(self) -> Self:
        if self.keys is None:
            return self
        if self.choice is None or len(self.keys) < 2 or len(set(self.keys)) < len(self.keys):
            raise ValueError("keys: give two or more different keys, and a choice of their values")
        for value in self.choice:
            if not isinstance(value, list) or len(value) != len(self.keys):
                raise ValueError(
                    f"{label_of(value)}: a list of {len(self.keys)} values is expected, one per key"
                )
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.step is None or (self.choice is None and self.bounds is None):
            return self
        if self.choice is not None or self.log:
            raise ValueError("step is for a float or int range without log, or a simplex")
        if self.int_range is not None and not self.step.is_integer():
            raise ValueError(f"step {self.step:g}: an int range needs a whole number")
        assert self.bounds is not None
        low, high = self.bounds
        if not _divides(self.step, high - low):
            raise ValueError(
                f"step {self.step:g}: from {low:g} it does not reach {high:g}; give a step that "
                f"divides {high - low:g}"
            )
        return self

    @model_validator(mode="after")
    def _weights_sum(self) -> Self:
        keys = self.simplex
        if keys is None:
            return self
        if len(keys) < 2 or len(set(keys)) < len(keys):
            raise ValueError(f"simplex {list(keys)}: give two or more different keys")
        low, total, num = self.lowest_weight, self.weight_sum, len(keys)
        if not num * low < total:
            raise ValueError(
                f"simplex: {num} weights of at least {low:g} cannot sum to {total:g}; low must be "
                f"below {total / num:g}"
            )
        if self.step is not None:
            spread = total - num * low
            if not _divides(self.step, spread):
                raise ValueError(
                    f"simplex: weights {low:g}, {low + self.step:g}, ... cannot sum to {total:g}; "
                    f"give a step that divides {spread:g}"
                )
            count = math.comb(self._num_steps(num * low, total) + num - 1, num - 1)
            if count > _MAX_WEIGHTINGS:
                raise ValueError(
                    f"simplex: step {self.step:g} gives {count:,} weightings, the most is "
                    f"{_MAX_WEIGHTINGS:,}; give a larger step, or none"
                )
        return self

    def _num_steps(self, low: float, high: float) -> int:
        assert self.step is not None
        return round((high - low) / self.step)


def label_of(value: Any) -> str:
    """A value of a choice on one line, such as `{1: 2, 2: 4}`; the name of a bare objective."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        if value.keys() == {"name"}:
            return str(value["name"])
        return f"{{{', '.join(f'{key}: {label_of(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(label_of, value))}]"
    return str(value)


def holds(value: Any, wanted: Any) -> bool:
    """Return whether a value is the one, or one of the list, that a condition wants.

    An objective is also known by its name.
    """
    candidates = wanted if isinstance(wanted, list | tuple) else [wanted]
    names = [label_of(value)]
    if isinstance(value, Mapping) and "name" in value:
        names.append(str(value["name"]))
    return (
        any(label_of(candidate) in names for candidate in candidates)
        or label_of(wanted) == names[0]
    )


def _plain(value: Any) -> Any:
    """The value as JSON has it.

    Raises:
        ValueError: it is not plain, such as a date, or not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value}: every number must be finite")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise ValueError(
        f"{value!r:.60}: a number, a name, true, false, a list or a mapping is expected; put "
        "text in quotes"
    )


def _divides(step: float, distance: float) -> bool:
    return math.isclose(distance / step, round(distance / step), abs_tol=1e-6)


def _compositions(total: int, num_parts: int) -> list[tuple[int, ...]]:
    """All ways to write `total` as an ordered sum of `num_parts` counts."""
    if num_parts == 1:
        return [(total,)]
    return [
        (first, *rest)
        for first in range(total + 1)
        for rest in _compositions(total - first, num_parts - 1)
    ]
