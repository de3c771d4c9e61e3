"""Ended trials of a tuning study, and their order."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trial:
    """Result of one trial.

    Records of older versions have no value for the attributes with a default.

    Attributes:
        number: position in the order in which trials started, from 0.
        values: value of each searched key.
        epochs: epochs that the trial trained.
        score: main metric after the last epoch; None if there is none.
        whole: whether the trial trained to its end, and was not stopped early.
        error: reason of a failure.
        scores: all metrics of the task after the last epoch.
        curve: pairs of epoch and main metric, one per evaluated epoch.
        seconds: wall time from the start of the trial to its end.
        num_cpus: CPUs that the trial held in this time.
        num_gpus: GPUs that the trial held in this time.
        num_workers: processes that trained it together, and shared these.
        num_parameters: size of the student; unknown for stopped and failed trials.
        costs: measured costs of the student, see `targets.MEASURED_COSTS`.
    """

    number: int
    values: dict[str, Any]
    epochs: int
    score: float | None
    whole: bool
    error: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    curve: list[list[float]] = field(default_factory=list)
    seconds: float | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    num_workers: int = 1
    num_parameters: int | None = None
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """True if the trial has no score by which it can be compared."""
        return self.error is not None or self.score is None or not math.isfinite(self.score)

    @property
    def problem(self) -> str:
        """Reason why a failed trial has no score."""
        return self.error or "its score is not a finite number"

    def value(self, name: str) -> float | None:
        """Value of a metric of the task or of a cost of the student; None if it is unknown."""
        if name == "num_parameters":
            return self.num_parameters
        return self.scores.get(name, self.costs.get(name))


def rank(trials: Iterable[Trial]) -> list[Trial]:
    """Sort trials, best first: complete before stopped ones, then by score, then by start.

    The score of a stopped trial is from fewer epochs and not comparable. Failed trials are omitted.
    """
    ended = [trial for trial in trials if not trial.failed]
    return sorted(ended, key=lambda t: (not t.whole, -(t.score or 0.0), t.number))


def problems_of(trials: Sequence[Trial]) -> list[str]:
    """Return the distinct reasons why trials have no score."""
    return sorted({trial.problem for trial in trials if trial.failed})


def values_text(values: Mapping[str, Any]) -> str:
    """Format values of searched keys for a line of text."""
    return ", ".join(f"{key}={_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    # As in a recipe: JSON is YAML.
    return value if isinstance(value, str) else json.dumps(value)
