"""The trials of a search, and the one to take."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.manifest import write_atomically
from raykd.recipe_file import load_recipe

TRIALS_FILE = "trials.json"
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Trial:
    """One trial as it ended; `score` is that of its last epoch."""

    number: int
    values: dict[str, Any]
    epochs: int
    score: float
    whole: bool
    error: str | None = None


def show_best(folder: Path) -> None:
    """Print the trials of a finished search, best first, and write the best one's recipe.

    Raises:
        InputError: the folder holds no finished search, or none of its trials ended.
    """
    trials_file = folder / "tune" / "result" / TRIALS_FILE
    if not trials_file.is_file():
        raise InputError(
            f"{folder}: holds no finished search; run raykd tune RECIPE --out {folder}"
        )
    found = json.loads(trials_file.read_text())
    trials = [Trial(**trial) for trial in found["trials"]]
    ranked = rank(trials)
    if not ranked:
        errors = {trial.error for trial in trials if trial.error}
        raise InputError(f"{trials_file}: no trial ended: {'; '.join(sorted(errors))}")
    best = ranked[0]
    recipe = load_recipe(trials_file.parent / RECIPE_FILE)
    text = dump_yaml(recipe.with_values(best.values, "best trial"))
    write_atomically(folder / "best.yaml", text)
    lines = [f"{found['metric']} on {found['validation']}, seed {found['seed']}; best first"]
    for trial in ranked:
        values = ", ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in trial.values.items()
        )
        stopped = "" if trial.whole else " (stopped early)"
        lines.append(
            f"  {trial.score:.4f}  trial {trial.number}, {trial.epochs} epochs{stopped}: {values}"
        )
    lines.append(f"winner's recipe: {folder / 'best.yaml'}")
    print("\n".join(lines))  # noqa: T201  # the command's answer


def rank(trials: list[Trial]) -> list[Trial]:
    """Best first: whole trials before stopped ones, then by score, then the earlier one.

    A stopped trial's score is that of fewer epochs, not one to choose by. Trials that failed are
    left out.
    """
    ended = [trial for trial in trials if trial.error is None and math.isfinite(trial.score)]
    return sorted(ended, key=lambda t: (not t.whole, -t.score, t.number))
