"""Records of a sweep on the disk, by which an interrupted or extended sweep is resumed."""

import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

from raykd import progress
from raykd.errors import InputError
from raykd.report.tune.trials import Trial, rank
from raykd.storage.checked_json import from_checked_json, to_checked_json
from raykd.storage.working_files import write_atomically
from raykd.workflow.recipe.tune_config import MOST_TRIALS
from raykd.workflow.run import Run

STUDY_FILE = "study.journal"
RECORDS_FILE = "trials.jsonl"
_KEY_FILE = "sweep.json"
_PREVIOUS = "previous"
_RESULT = "result"


class Sweep:
    """Ended trials of a sweep, one line of JSON each, in the order in which they ended.

    Args:
        folder: directory of the sweep.
        key: digest of everything that a trial depends on, but not of the number of trials.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.study_file = folder / STUDY_FILE
        self._folder, self._key = folder, key
        self._records = folder / RECORDS_FILE

    def open(self) -> Path | None:
        """Continue the sweep with this key, or begin it; one without any score is begun again.

        Returns:
            The folder to which the records of another sweep were moved, if there were any.
        """
        key_file = self._folder / _KEY_FILE
        present = from_checked_json(key_file.read_bytes()) if key_file.exists() else None
        moved = None
        trials = self.trials()
        if present is None or present["key"] != self._key or (trials and not rank(trials)):
            name = "unknown" if present is None else str(present["key"])[:12]
            moved = self._move_to(self._folder / _PREVIOUS / name)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(key_file, to_checked_json({"key": self._key}))
        return moved

    def trials(self) -> list[Trial]:
        """Read the ended trials, by number; the line of a killed process is left out."""
        try:
            lines = self._records.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        records = [values for line in lines if (values := from_checked_json(line)) is not None]
        return sorted((Trial(**values) for values in records), key=lambda trial: trial.number)

    def append(self, trial: Trial) -> None:
        """Record an ended trial; it is on the disk when this returns."""
        line = json.dumps(json.loads(to_checked_json(asdict(trial))))
        with self._records.open("a", encoding="utf-8") as file:
            # A new line first ends one that a killed process left incomplete.
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def _move_to(self, target: Path) -> Path | None:
        names = (STUDY_FILE, RECORDS_FILE, _RESULT)
        present = [name for name in names if (self._folder / name).exists()]
        if not present:
            return None
        first, number = target, 1
        while target.exists():
            number += 1
            target = first.with_name(f"{first.name}-{number}")
        target.mkdir(parents=True)
        for name in present:
            (self._folder / name).rename(target / name)
        return target


def with_trials(run: Run, trials: str) -> Run:
    """Return a run whose sweep has another number of trials: `N`, or `+N` more than have ended.

    Raises:
        InputError: not such a number, or the recipe has no section `tune`.
    """
    config = run.recipe.tune
    if config is None:
        raise InputError(f"--trials: recipe {run.recipe.name} has no section 'tune'; add one")
    if not re.fullmatch(r"\+?[0-9]{1,9}", trials) or not 1 <= int(trials) <= MOST_TRIALS:
        raise InputError(f"--trials {trials}: expected a number from 1 to {MOST_TRIALS:,}, or +N")
    number = int(trials)
    if trials.startswith("+"):
        number += len(Sweep(run.out / "tune", "").trials())
        progress.say(f"tune: {number} trials in all; --trials {number} resumes after a stop")
    tune = config.model_copy(update={"num_trials": number})
    return replace(run, recipe=run.recipe.model_copy(update={"tune": tune}))
