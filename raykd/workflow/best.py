"""The trials of a search, and the one to take."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.manifest import check_source
from raykd.storage.working_files import write_atomically
from raykd.workflow.recipe.recipe_file import load_recipe

TRIALS_FILE = "trials.json"
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Trial:
    """One trial as it ended; `score` is that of its last epoch, None where it has none."""

    number: int
    values: dict[str, Any]
    epochs: int
    score: float | None
    whole: bool
    error: str | None = None


def show_best(folder: Path) -> None:
    """Print the trials of a finished search, best first, and write the best one's recipe.

    Raises:
        InputError: the folder holds no finished search, a damaged one, or one without an ended
            trial.
    """
    result = folder / "tune" / "result"
    trials_file = result / TRIALS_FILE
    if not all((result / name).is_file() for name in (MANIFEST, TRIALS_FILE, RECIPE_FILE)):
        raise InputError(
            f"{folder}: holds no finished search; run raykd tune RECIPE --out {folder}"
        )
    check_source(result)
    trials = read_trials(trials_file)
    found = json.loads(trials_file.read_text())
    ranked = rank(trials)
    problems = problems_of(trials)
    if not ranked:
        raise InputError(f"{trials_file}: no trial ended with a score: {'; '.join(problems)}")
    best = ranked[0]
    recipe = load_recipe(result / RECIPE_FILE)
    text = dump_yaml(recipe.with_values(best.values, "best trial"))
    write_atomically(folder / "best.yaml", text)
    lines = [f"{found['metric']} on {found['validation']}, seed {found['seed']}; best first"]
    for trial in ranked:
        stopped = "" if trial.whole else " (stopped early)"
        lines.append(
            f"  {trial.score:.4f}  trial {trial.number}, {trial.epochs} epochs{stopped}: "
            f"{_values_of(trial)}"
        )
    failed = [trial for trial in trials if trial not in ranked]
    if failed:
        lines.append(f"{len(failed)} of {len(trials)} trials ended without a score:")
        lines += [
            f"  failed  trial {trial.number}: {_values_of(trial)}: {_problem(trial)}"
            for trial in failed
        ]
    lines.append(f"winner's recipe: {folder / 'best.yaml'}")
    print("\n".join(lines))  # noqa: T201  # the command's answer


def read_trials(trials_file: Path) -> list[Trial]:
    """The trials of a finished search, in the order in which they were started."""
    return [Trial(**trial) for trial in json.loads(trials_file.read_text())["trials"]]


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """Best first: whole trials before stopped ones, then by score, then the earlier one.

    A stopped trial's score is that of fewer epochs, not one to choose by. Trials that failed are
    left out.
    """
    ended = [trial for trial in trials if not _failed(trial)]
    return sorted(ended, key=lambda t: (not t.whole, -(t.score or 0.0), t.number))


def problems_of(trials: Sequence[Trial]) -> list[str]:
    """The different reasons for which trials have no score."""
    return sorted({_problem(trial) for trial in trials if _failed(trial)})


def _failed(trial: Trial) -> bool:
    return trial.error is not None or trial.score is None or not math.isfinite(trial.score)


def _problem(trial: Trial) -> str:
    return trial.error or "its score is not a finite number"


def _values_of(trial: Trial) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in trial.values.items()
    )
