"""Trials of a sweep that run at present: reported epochs and time, for the record of each."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raykd import progress
from raykd.report.tune.trials import Trial, rank, values_text


@dataclass
class RunningTrial:
    """A started trial; `latest` is its last report, `started_s` a time of the clock."""

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
        num_cpus: CPUs of each trial.
        num_gpus: GPUs of each trial.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        num_cpus: float,
        num_gpus: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = tuple(metrics)
        self._num_cpus, self._num_gpus = num_cpus, num_gpus
        self._clock = clock
        self._running: dict[str, RunningTrial] = {}

    def start(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """Note the start of a trial; one that is started again keeps its first start and curve."""
        self._running.setdefault(trial_id, RunningTrial(dict(values), self._clock()))

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
        """Return the record of a trial that ended, without its number."""
        trial = self._running.pop(trial_id, None) or RunningTrial(dict(values), self._clock())
        latest = trial.latest
        scores = {name: float(latest[name]) for name in self._metrics if name in latest}
        scores = {name: score for name, score in scores.items() if math.isfinite(score)}
        num_parameters = latest.get("num_parameters")
        return Trial(
            number=0,
            values=dict(values),
            epochs=math.ceil(latest.get("epoch", 0)),
            score=scores.get(self._metrics[0]),
            whole=bool(latest.get("whole", 0)),
            error=error,
            scores=scores,
            curve=trial.curve,
            seconds=round(self._clock() - trial.started_s, 3),
            num_cpus=self._num_cpus,
            num_gpus=self._num_gpus,
            num_parameters=None if num_parameters is None else int(num_parameters),
        )


class TrialLines:
    """Watcher that counts ended trials, and prints a line for each.

    Args:
        advance: function that adds to the count of the progress bar.
        trials: trials that ended before.
        num_trials: trials of the whole sweep.
    """

    def __init__(
        self, advance: Callable[[int], None], trials: Sequence[Trial], num_trials: int
    ) -> None:
        self._advance, self._num_trials = advance, num_trials
        self._best = next(iter(rank(trials)), None)

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Count and print a trial: number, score, values, best so far."""
        known = [] if self._best is None else [self._best]
        self._best = next(iter(rank([*known, trial])), None)
        if trial.failed:
            outcome = f"failed: {trial.problem}"
        else:
            outcome = f"{trial.score:.4f}{'' if trial.whole else ' (stopped early)'}"
        best = "none" if self._best is None else f"{self._best.score:.4f}"
        progress.say(
            f"trial {trial.number} of {self._num_trials}: {outcome}; "
            f"{values_text(trial.values)}; best so far {best}"
        )
        self._advance(1)

    def on_tick(self, running: RunningTrials) -> None:
        """Do nothing."""
