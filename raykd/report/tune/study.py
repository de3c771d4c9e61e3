"""Facts of a tuning study that its page and `raykd best` show."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raykd.report.tune.trials import Trial

State = Literal["running", "interrupted", "complete"]
_LABEL_LENGTH = 48


@dataclass(frozen=True)
class Key:
    """Searched key; `categories` are the labels of its values, None for numbers."""

    name: str
    log: bool = False
    categories: list[str] | None = None

    def label(self, value: Any) -> str:
        """Label of a value that is no number."""
        return label_of(value)

    def place(self, value: Any) -> float:
        """Position of a value on an axis: the number, or the index of its label."""
        return float(value) if self.categories is None else self.categories.index(label_of(value))


@dataclass(frozen=True)
class Cost:
    """Resources that trials held; None if no trial has a record of them."""

    core_hours: float | None
    gpu_hours: float | None
    failed_core_hours: float
    stopped_core_hours: float


@dataclass(frozen=True)
class Study:
    """A tuning study.

    Attributes:
        name: name of the recipe.
        metric: metric that is the score.
        validation: rows that trials are scored on, in words.
        seed: seed of the students.
        variant: tuned variant.
        num_planned: trials that the study ends with.
        state: whether the sweep runs, was interrupted, or is complete.
        written: time of this state, ISO 8601 in UTC.
        keys: searched keys.
        trials: ended trials in order.
        recipe: lines of the recipe that all trials share.
        edits: changes that make the shared recipe that of a trial, by the trial's number.
        confirmation: repetitions of the best trials as plain values, which name the winner.
        targets: targets of the search, the score first; empty for the score alone.
        pick: conditions on the winner, see `pick`.
        devices: processors that the costs of the students were measured on.
    """

    name: str
    metric: str
    validation: str
    seed: int
    variant: str
    num_planned: int
    state: State
    written: str
    keys: list[Key]
    trials: list[Trial]
    recipe: list[str] = field(default_factory=list)
    edits: Mapping[int, "Edits"] = field(default_factory=dict)
    confirmation: dict[str, Any] | None = None
    targets: tuple[str, ...] = ()
    pick: str | None = None
    devices: list[str] = field(default_factory=list)

    @property
    def all_targets(self) -> tuple[str, ...]:
        """Targets of the search, the score first."""
        return self.targets or (self.metric,)


# (first line, number of lines, lines in their place), from the top.
Edits = list[tuple[int, int, list[str]]]


def label_of(value: Any) -> str:
    """Short text for a value of a choice."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 1]}…"


def keys_of(trials: Iterable[Trial], log_keys: Collection[str] = ()) -> list[Key]:
    """Searched keys of trials, in the order of their first use.

    Args:
        trials: ended trials.
        log_keys: keys that were sampled on a logarithmic scale.
    """
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.values.items():
            values.setdefault(name, []).append(value)
    return [_key_of(name, present, name in log_keys) for name, present in values.items()]


def _key_of(name: str, values: Sequence[Any], log: bool) -> Key:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or not all(map(math.isfinite, numbers)):
        return Key(name, categories=sorted({label_of(value) for value in values}))
    return Key(name, log=log and min(numbers) > 0)


def cost_of(trials: Iterable[Trial]) -> Cost:
    """Core-hours and GPU-hours of trials: wall time times resources."""
    timed = [trial for trial in trials if trial.seconds is not None and trial.num_cpus is not None]
    if not timed:
        return Cost(None, None, 0.0, 0.0)

    def hours(of: Iterable[Trial]) -> float:
        return sum((t.seconds or 0.0) * (t.num_cpus or 0.0) for t in of) / 3600

    return Cost(
        core_hours=hours(timed),
        gpu_hours=sum((t.seconds or 0.0) * (t.num_gpus or 0.0) for t in timed) / 3600,
        failed_core_hours=hours(t for t in timed if t.failed),
        stopped_core_hours=hours(t for t in timed if not t.failed and not t.whole),
    )


def cost_text(cost: Cost) -> str:
    """Format a cost as a sentence."""
    if cost.core_hours is None:
        return "The cost is not recorded."
    text = f"{_hours(cost.core_hours)} core-hours and {_hours(cost.gpu_hours or 0.0)} GPU-hours"
    shares = [
        f"{_hours(hours)} core-hours of {name} trials"
        for name, hours in (
            ("stopped", cost.stopped_core_hours),
            ("failed", cost.failed_core_hours),
        )
        if hours > 0
    ]
    return f"{text}{', including ' if shares else ''}{' and '.join(shares)}."


def _hours(hours: float) -> str:
    return "0" if hours == 0 else f"{hours:.3g}"
