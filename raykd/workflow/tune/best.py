"""Selection of the best trial of a tuning study."""

import json
from pathlib import Path

from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.report.tune.trials import Trial, problems_of, rank, values_text
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.manifest import check_source
from raykd.storage.remote.output import below, local_folder, url_of, write_object
from raykd.storage.working_files import write_atomically
from raykd.workflow.recipe.recipe_file import load_recipe

TRIALS_FILE = "trials.json"
RECIPE_FILE = "recipe.yaml"


def show_best(run: Path) -> None:
    """Print the trials of a completed study, best first, and write the best one's recipe.

    Args:
        run: run directory; or its URL, where the recipe is written too.

    Raises:
        InputError: the folder contains no completed study, a damaged one, or one without a
            completed trial.
    """
    url = url_of(run)
    folder = url or str(run)
    result = local_folder(below(url, "tune/result")) if url else run / "tune" / "result"
    trials_file = result / TRIALS_FILE
    if url is None and not run.is_dir():
        raise InputError(f"{folder}: no such directory; give the run directory (runs/NAME)")
    if not all((result / name).is_file() for name in (MANIFEST, TRIALS_FILE, RECIPE_FILE)):
        raise InputError(f"{folder}: no completed study; run raykd tune RECIPE --out {folder}")
    check_source(result)
    trials = read_trials(trials_file)
    study = json.loads(trials_file.read_text())
    ranked = rank(trials)
    problems = problems_of(trials)
    if not ranked:
        raise InputError(f"{trials_file}: no trial ended with a score: {'; '.join(problems)}")
    best = ranked[0]
    recipe = load_recipe(result / RECIPE_FILE)
    text = dump_yaml(recipe.with_values(best.values, "best trial"))
    if url:
        write_object(url, "best.yaml", text)
    else:
        write_atomically(run / "best.yaml", text)
    lines = [f"{study['metric']} on {study['validation']}, seed {study['seed']}; best first"]
    for trial in ranked:
        stopped = "" if trial.whole else " (stopped early)"
        lines.append(
            f"  {trial.score:.4f}  trial {trial.number}, {trial.epochs} epochs{stopped}: "
            f"{values_text(trial.values)}"
        )
    failed = [trial for trial in trials if trial not in ranked]
    if failed:
        lines.append(f"{len(failed)} of {len(trials)} trials ended without a score:")
        lines += [
            f"  failed  trial {trial.number}: {values_text(trial.values)}: {trial.problem}"
            for trial in failed
        ]
    lines.append(f"best trial's recipe: {below(folder, 'best.yaml')}")
    print("\n".join(lines))  # noqa: T201  # the command's answer


def read_trials(trials_file: Path) -> list[Trial]:
    """Read the trials of a completed study, in the order of their start."""
    return [Trial(**trial) for trial in json.loads(trials_file.read_text())["trials"]]
