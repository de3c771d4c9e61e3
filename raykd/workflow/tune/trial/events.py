"""Events of the trainings in a trial."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raykd import progress
from raykd.training.events import TrainingEvents
from raykd.training.logging.metrics_writer import CURVE_FILE, Position
from raykd.training.logging.records import Record


class TrialEvents(TrainingEvents):
    """Events of a training in a trial."""

    def on_tracker_lost(self, tracker: str, problem: str) -> None:
        """Print to the trial's log, its only output."""
        progress.say(f"report_to: {tracker}: {problem}; the trial continues without it")


class AdaptationEvents(TrialEvents):
    """Events of a trial's adaptation, which reports all scores but the last.

    `last` has the latest scores, or the best ones so far if the best model is kept.

    Args:
        metric: name of the score that decides.
        report: function that reports to the sweep.
    """

    def __init__(self, metric: str, report: Callable[[dict[str, Any]], object]) -> None:
        self.last: dict[str, float] = {}
        self._metric, self._report = metric, report
        self._keeps_best, self._folder = False, Path()

    def begin(self, folder: Path, *, keeps_best: bool) -> None:
        """Set the working folder of the adaptation, and whether it keeps the best model."""
        self._folder, self._keeps_best = folder, keeps_best

    def on_start(self, step: int, position: Position) -> None:
        """Read the scores up to the checkpoint that the training resumes from."""
        curve = self._folder / CURVE_FILE
        if step > 0 and curve.exists():
            for line in curve.read_text(encoding="utf-8").splitlines():
                self._note(Record(**json.loads(line)), is_last=False)

    def on_record(self, record: Record, is_last: bool) -> None:
        """Report scores that are not the last."""
        if record.scores:
            self._note(record, is_last)
            if not is_last:
                self._report(self.last)

    def on_folds(self, epoch: float, scores: Mapping[str, float], *, is_last: bool = False) -> None:
        """Report scores of a trial that trains a student per fold, unless they are the last.

        Args:
            epoch: epochs trained, as a mean over folds.
            scores: metrics; not a number as long as folds are trained.
            is_last: whether they are those of all held-out rows together.
        """
        self.last = {"epoch": epoch, "step": 0, "whole": int(is_last), **scores}
        if not is_last:
            self._report(self.last)

    def _note(self, record: Record, is_last: bool) -> None:
        scores = record.scores
        if self._keeps_best and scores:
            scores = better(self.last, scores, self._metric)
        if scores:
            self.last = {
                "epoch": record.epoch,
                "step": record.step,
                "whole": int(is_last),
                **scores,
            }


def better(
    before: Mapping[str, float], scores: Mapping[str, float], metric: str
) -> dict[str, float]:
    """Return the better of two sets of scores by the metric; `before` may be empty.

    Of equal ones it is the first, whose state the training keeps.
    """
    if metric in before and before[metric] >= scores[metric]:
        return {name: before[name] for name in scores}
    return dict(scores)
