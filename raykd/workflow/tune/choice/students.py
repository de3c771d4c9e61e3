"""Student of the best trial so far, kept while a sweep runs."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from raykd.report.tune.trials import Trial, rank
from raykd.storage.working_files import discard
from raykd.workflow.tune.running import RunningTrials

_BEST_FOLDER = "best"


class BestStudent:
    """Watcher that keeps the model of the best complete trial, and removes those of the others.

    Args:
        folder: folder of the sweep; the model is in its subfolder `best/NUMBER`.
        trials: trials that ended before.
    """

    def __init__(self, folder: Path, trials: Iterable[Trial]) -> None:
        self._trained, self._folder = folder / "trials", folder / _BEST_FOLDER
        self._best = next(iter(rank(trials)), None)

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Keep or remove the model of an ended trial; a kept one appears by one renaming."""
        trained = self._trained / trial_id
        known = [] if self._best is None else [self._best]
        if trial.whole and not trial.failed and rank([*known, trial])[0] is trial:
            self._best = trial
            if trained.is_dir():
                self._folder.mkdir(exist_ok=True)
                kept = self._folder / str(trial.number)
                discard(kept)  # of a sweep with other settings
                trained.rename(kept)
            for other in self._folder.glob("*"):
                if other.name != str(trial.number):
                    discard(other)
        for name in (trial_id, f"{trial_id}.unfinished"):
            shutil.rmtree(self._trained / name, ignore_errors=True)

    def on_tick(self, running: RunningTrials) -> None:
        """Do nothing."""


def best_student(folder: Path, number: int) -> Path | None:
    """Output of the best trial's training in the folder of a sweep; None if it was not kept."""
    kept = folder / _BEST_FOLDER / str(number)
    return kept if kept.is_dir() else None
