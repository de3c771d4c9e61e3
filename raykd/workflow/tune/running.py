"""Trials of a sweep that run at present: reported epochs and time, for the record of each."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raykd.report.tune.trials import Trial
from raykd.workflow.tune.resources import TrialResources


@dataclass
class RunningTrial:
    """A started trial; `latest` is its last report, `started_s` a time of the clock."""

    number: int
    values: dict[str, Any]
    started_s: float
    curve: list[list[float]] = field(default_factory=list)
    latest: dict[str, Any] = field(default_factory=dict)


class SweepWatcher(Protocol):
    """Object that shows a sweep while it runs."""

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Handle the end of a trial, which was trained in the folder `trials/TRIAL_ID`."""

    def on_tick(self, running: "RunningTrials") -> None:
        """Show the present state; called several times per second, so it returns quickly."""


class RunningTrials:
    """Running trials by their ids.

    Args:
        metrics: the task's metrics, the main one first.
        resources: CPUs, GPUs and workers of each trial.
        ended: numbers of the trials that ended before; a proposed trial has the smallest free one.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        resources: TrialResources,
        ended: Iterable[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = tuple(metrics)
        self._resources = resources
        self.clock = clock
        self._taken = set(ended)
        self._numbers: dict[str, int] = {}
        self._running: dict[str, RunningTrial] = {}

    def number(self, trial_id: str) -> int:
        """Return the number of a trial, and give it one at the first call.

        Called when a trial is proposed: of two that start together, the second may be ready first.
        """
        if trial_id not in self._numbers:
            self._numbers[trial_id] = next(n for n in itertools.count() if n not in self._taken)
            self._taken.add(self._numbers[trial_id])
        return self._numbers[trial_id]

    def start(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """Note the start of a trial; one that is started again keeps its first start and curve."""
        if trial_id not in self._running:
            self._running[trial_id] = self._new(trial_id, values)

    def trials(self) -> list[RunningTrial]:
        """List the running trials in the order of their numbers."""
        return sorted(self._running.values(), key=lambda trial: trial.number)

    def report(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Note a report with `epoch`, `whole`, and the task's metrics.

        A second report of an epoch replaces the first one; a score that is not finite is left out.
        """
        trial = self._running[trial_id]
        trial.latest = dict(result)
        epoch = float(result.get("epoch", 0))
        trial.curve = [point for point in trial.curve if point[0] < epoch]
        score = float(result.get(self._metrics[0], math.nan))
        if math.isfinite(score):
            trial.curve.append([epoch, score])

    def end(self, trial_id: str, values: Mapping[str, Any], error: str | None) -> Trial:
        """Return the record of a trial that ended."""
        trial = self._running.pop(trial_id, None) or self._new(trial_id, values)
        latest = trial.latest
        scores = {name: float(latest[name]) for name in self._metrics if name in latest}
        scores = {name: score for name, score in scores.items() if math.isfinite(score)}
        num_parameters = latest.get("num_parameters")
        return Trial(
            number=trial.number,
            values=dict(values),
            epochs=math.ceil(latest.get("epoch", 0)),
            score=scores.get(self._metrics[0]),
            whole=bool(latest.get("whole", 0)),
            error=error,
            scores=scores,
            curve=trial.curve,
            seconds=round(self.clock() - trial.started_s, 3),
            num_cpus=self._resources.num_cpus,
            num_gpus=self._resources.num_gpus,
            num_workers=self._resources.num_workers,
            num_parameters=None if num_parameters is None else int(num_parameters),
        )

    def _new(self, trial_id: str, values: Mapping[str, Any]) -> RunningTrial:
        return RunningTrial(self.number(trial_id), dict(values), self.clock())
