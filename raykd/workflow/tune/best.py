"""Answer of `raykd best`: winner, rivals, failures, importance and cost of a study."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.report.tune.confirmed import confirmed_rows, confirmed_text
from raykd.report.tune.study import cost_of, cost_text
from raykd.report.tune.trials import Trial, values_text
from raykd.storage.working_files import write_atomically
from raykd.workflow.tune.study_result import (
    BEST_RECIPE_FILE,
    RECIPE_FILE,
    StudyResult,
    read_result,
)

# Longer lists are cut; --json and the page show all.
_MAX_LINES = 10
_FEW_TRIALS = 30


@dataclass(frozen=True)
class Opened:
    """Result of a study in a local folder; `run` is the run directory or its URL."""

    run: str
    folder: Path
    result: StudyResult
    url: str | None

    def below(self, name: str) -> str:
        """Path or URL of a file in the run directory."""
        if self.url is None:
            return str(Path(self.run) / name)
        from raykd.storage.remote.output import below  # imports pyarrow

        return below(self.url, name)


def open_result(run: Path) -> Opened:
    """Open the result of a study in a run directory or at its URL.

    Raises:
        InputError: there is no completed study, or a damaged one.
    """
    if run.is_dir():
        result = run / "tune" / "result"
        return Opened(str(run), result, read_result(result, str(run)), None)
    from raykd.storage.remote.output import below, local_folder, url_of  # imports pyarrow

    if (url := url_of(run)) is None:
        raise InputError(f"{run}: no such directory; give the run directory (runs/NAME)")
    result = local_folder(below(url, "tune/result"))
    return Opened(url, result, read_result(result, url), url)


def show_best(run: Path, *, as_json: bool = False) -> None:
    """Print the outcome of a completed study, and write the winner's recipe.

    Args:
        run: run directory; or its URL, where the recipe is written too.
        as_json: whether to print JSON.

    Raises:
        InputError: the folder contains no completed study, a damaged one, or one without a
            completed trial.
    """
    opened = open_result(run)
    path = write_recipe(opened)
    if as_json:
        text = json.dumps(values_of(opened.result, path), indent=2, allow_nan=False)
    else:
        text = "\n".join(lines_of(opened.result, path))
    print(text)  # noqa: T201  # the command's answer


def write_recipe(opened: Opened) -> str:
    """Write the winner's recipe to the run directory or URL; return where."""
    text = recipe_text(opened)
    if opened.url is None:
        write_atomically(Path(opened.run) / BEST_RECIPE_FILE, text)
    else:
        from raykd.storage.remote.output import write_object  # imports pyarrow

        write_object(opened.url, BEST_RECIPE_FILE, text)
    return opened.below(BEST_RECIPE_FILE)


def recipe_text(opened: Opened) -> str:
    """Recipe of the winner."""
    winner = opened.result.winner
    path = opened.folder / BEST_RECIPE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    # A result of an older version.
    from raykd.config import dump_yaml
    from raykd.workflow.recipe.recipe_file import load_recipe  # imports torch

    recipe = load_recipe(opened.folder / RECIPE_FILE)
    return dump_yaml(recipe.with_values(winner.values, "best trial"))


def values_of(result: StudyResult, recipe: str) -> dict[str, Any]:
    """Plain values of the outcome."""
    winner = result.winner
    rest = [trial for trial in result.ranked if trial.number != winner.number]
    return {
        "name": result.name,
        "metric": result.metric,
        "validation": result.validation,
        "seed": result.seed,
        "variant": result.variant,
        "winner": asdict(winner),
        "rivals": [asdict(trial) for trial in rest if trial.whole],
        "stopped": [asdict(trial) for trial in rest if not trial.whole],
        "failed": [
            asdict(trial) | {"error": trial.problem} for trial in result.trials if trial.failed
        ],
        "importance": result.importance,
        "cost": asdict(cost_of(result.trials)),
        "confirmation": result.confirmation,
        "recipe": recipe,
    }


def lines_of(result: StudyResult, recipe: str) -> Iterator[str]:
    """Lines of the outcome for a person."""
    winner = result.winner
    rest = [trial for trial in result.ranked if trial.number != winner.number]
    rivals = [trial for trial in rest if trial.whole]
    stopped = [trial for trial in rest if not trial.whole]
    failed = [trial for trial in result.trials if trial.failed]
    yield f"{result.metric} on {result.validation}, seed {result.seed}"
    yield f"winner: {_line(winner)}"
    if result.confirmation is not None:
        yield "confirmed with new seeds (trial, mean and 95 % interval, search score):"
        for number, mean, _, search_score, verdict in confirmed_rows(result.confirmation):
            yield f"  trial {number}  {mean}  {search_score}  {verdict}".rstrip()
        yield from (f"  {sentence}" for sentence in confirmed_text(result.confirmation))
    if len(tied := [trial for trial in rivals if trial.score == winner.score]) > 0:
        yield f"  {len(tied)} other trials have the same score"
    if rivals:
        yield "rivals, best first:"
        yield from _cut([f"  {_line(trial)}" for trial in rivals])
    if stopped:
        yield f"stopped early: {len(stopped)} trials, with scores from fewer epochs:"
        yield from _cut([f"  {_line(trial)}" for trial in stopped])
    if failed:
        yield f"{len(failed)} of {len(result.trials)} trials ended without a score:"
        yield from _cut(
            [
                f"  failed  trial {trial.number}: {values_text(trial.values)}: {trial.problem}"
                for trial in failed
            ]
        )
    if result.importance:
        num_scored = len(result.ranked)
        rough = "; rough" if num_scored < _FEW_TRIALS else ""
        yield f"importance of the keys (PED-ANOVA, {num_scored} trials{rough}):"
        for one in result.importance:
            yield f"  {100 * one['share']:3.0f} %  {one['key']}: {one['words']}"
    yield f"cost: {cost_text(cost_of(result.trials))}"
    yield f"best trial's recipe: {recipe}"


def _line(trial: Trial) -> str:
    size = "" if trial.num_parameters is None else f", {trial.num_parameters:,} parameters"
    return (
        f"{trial.score:.4f}  trial {trial.number}, {trial.epochs} epochs{size}: "
        f"{values_text(trial.values)}"
    )


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _MAX_LINES + 1:
        return lines
    return [*lines[:_MAX_LINES], f"  and {len(lines) - _MAX_LINES} more; --json shows all"]
