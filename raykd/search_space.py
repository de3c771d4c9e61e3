"""Keys and ranges that `raykd tune` searches."""

import math
from typing import Any, Self

from pydantic import Field, model_validator

from raykd.config import Config


class Parameter(Config):
    """The range of one searched key: exactly one of `float`, `int` and `choice`."""

    float_range: tuple[float, float] | None = Field(None, alias="float")
    int_range: tuple[int, int] | None = Field(None, alias="int")
    choice: tuple[Any, ...] | None = Field(None, min_length=1)
    log: bool = False

    def values(self) -> tuple[Any, ...]:
        """The ends of the range, or the choices."""
        return self.choice or self.float_range or self.int_range or ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.float_range, self.int_range, self.choice]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give exactly one of float: [low, high], int: [low, high], choice: []")
        bounds = self.float_range or self.int_range
        numbers = [value for value in self.values() if isinstance(value, float)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{list(self.values())}: every number must be finite")
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"{list(bounds)}: low must be below high")
        if self.log and (bounds is None or bounds[0] <= 0):
            raise ValueError("log needs a float or int range above 0")
        return self


class SearchConfig(Config):
    """What `raykd tune` searches: keys of the recipe by path, and how long."""

    space: dict[str, Parameter] = Field(min_length=1)
    num_trials: int = Field(8, ge=1, le=100_000)
    max_concurrent_trials: int = Field(2, ge=1)
    seed: int = Field(1, ge=0, lt=2**32)
    grace_epochs: int = Field(1, ge=1)
    arm: str | None = Field(
        None,
        description="the arm whose settings are searched; not given: that of the recipe's arms "
        "which learns from most text",
    )
