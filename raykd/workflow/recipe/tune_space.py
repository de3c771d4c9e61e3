"""Keys and ranges that `raykd tune` searches."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config


class Parameter(Config):
    """Range of one searched key: exactly one of `float`, `int` and `choice`."""

    float_range: tuple[float, float] | None = Field(
        None, alias="float", description="Range of a number: [low, high]."
    )
    int_range: tuple[int, int] | None = Field(
        None, alias="int", description="Range of an integer: [low, high], both included."
    )
    choice: tuple[Any, ...] | None = Field(
        None, min_length=1, description="List of values to choose from."
    )
    log: bool = Field(False, description="Sample the range on a logarithmic scale.")

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


class TuneConfig(Config):
    """Hyper-parameter search of `raykd tune`."""

    space: dict[str, Parameter] = Field(
        min_length=1,
        description="Ranges by the path of a key, such as adaptation.learning_rate: {float: "
        "[1e-5, 1e-3], log: true}.",
    )
    num_trials: int = Field(
        8, ge=1, le=100_000, description="Trials, each of which trains and scores one student."
    )
    max_concurrent_trials: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Trials that run at the same time. auto: as many as the cluster has room for.",
    )
    cpus_per_trial: float | None = Field(
        None,
        gt=0,
        description="CPUs, and threads, of each trial. Default: workers.cpus_per_worker.",
    )
    gpus_per_trial: float | None = Field(
        None,
        ge=0,
        description="GPUs of each trial; trials share a GPU with a fraction such as 0.5. Default: "
        "1 if workers.use_gpu, else 0.",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of the sampler of settings (Optuna).")
    grace_epochs: int = Field(
        1, ge=1, description="Epochs that every trial trains before it may be stopped early."
    )
    variant: str | None = Field(
        None,
        description="Variant to tune. Default: the recipe's variant that learns from most text.",
    )
