"""Students of the best trials so far, kept while a sweep runs."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from raykd.report.tune.targets import front
from raykd.report.tune.trials import Trial
from raykd.storage.working_files import discard
from raykd.workflow.tune.running import RunningTrials

# In the folder of a sweep; its subfolders are named by the numbers of the trials.
KEPT_FOLDER = "best"


class KeptStudents:
    """Watcher that keeps the models of the Pareto front, and removes those of other trials.

    With one target, the front is the best complete trial.

    Args:
        folder: folder of the sweep; a model is in its subfolder `best/NUMBER`.
        trials: trials that ended before.
        targets: targets of the search.
        keeps: whether models are kept; False to remove those of all trials.
    """

    def __init__(
        self, folder: Path, trials: Iterable[Trial], targets: Sequence[str], *, keeps: bool = True
    ) -> None:
        self._trained, self._folder = folder / "trials", folder / KEPT_FOLDER
        self._targets, self._keeps = tuple(targets), keeps
        self._front = front(trials, self._targets)

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Keep or remove the model of an ended trial; a kept one appears by one renaming."""
        trained = self._trained / trial_id
        changed = front([*self._front, trial], self._targets)
        if self._keeps and trial in changed:
            self._front = changed
            if trained.is_dir():
                self._folder.mkdir(exist_ok=True)
                kept = self._folder / str(trial.number)
                discard(kept)  # of a sweep with other settings
                trained.rename(kept)
            numbers = {str(one.number) for one in self._front}
            for other in self._folder.glob("*"):
                if other.name not in numbers:
                    discard(other)
        for name in (trial_id, f"{trial_id}.unfinished"):
            shutil.rmtree(self._trained / name, ignore_errors=True)

    def on_tick(self, running: RunningTrials) -> None:
        """Do nothing."""


def kept_student(folder: Path, number: int) -> Path | None:
    """Output of a trial's training in the folder of a sweep; None if it was not kept."""
    kept = folder / KEPT_FOLDER / str(number)
    return kept if kept.is_dir() else None
