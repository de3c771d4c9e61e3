"""Answer of `raykd best`: winner, rivals, failures, importance and cost of a study."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.report.tune.confirmed import confirmed_rows, confirmed_text
from raykd.report.tune.pick import check_pick, known_names, parse_pick, winner_of
from raykd.report.tune.study import cost_of, cost_text
from raykd.report.tune.targets import devices_text, direction_of, targets_text, value_text
from raykd.report.tune.trials import Trial, values_text
from raykd.storage.working_files import write_atomically
from raykd.workflow.tune.study_result import (
    BEST_RECIPE_FILE,
    FRONT_FOLDER,
    RECIPE_FILE,
    StudyResult,
    read_result,
)

# Longer lists are cut; --json and the page show all.
_MAX_LINES = 10
_FEW_TRIALS = 30


@dataclass(frozen=True)
class Opened:
    """Result of a study in a local folder; `run` is the run directory or its URL.

    `own_winner` is the trial that the study chose, if there is one; `result.winner` that of the
    caller's conditions.
    """

    run: str
    folder: Path
    result: StudyResult
    url: str | None
    own_winner: int | None

    def below(self, name: str) -> str:
        """Path or URL of a file in the run directory."""
        if self.url is None:
            return str(Path(self.run) / name)
        from raykd.storage.remote.output import below  # imports pyarrow

        return below(self.url, name)


def open_result(run: Path, pick: str | None = None) -> Opened:
    """Open the result of a study in a run directory or at its URL.

    Args:
        run: run directory, or its URL.
        pick: conditions on the winner, in place of the study's own choice.

    Raises:
        InputError: there is no completed study, a damaged one, or the conditions name something
            that its trials do not have.
    """
    if run.is_dir():
        folder, name, url = run / "tune" / "result", str(run), None
    else:
        from raykd.storage.remote.output import below, local_folder, url_of  # imports pyarrow

        if (url := url_of(run)) is None:
            raise InputError(f"{run}: no such directory; give the run directory (runs/NAME)")
        folder, name = local_folder(below(url, "tune/result")), url
    result = read_result(folder, name)
    own = winner_of(result.trials, result.all_targets, result.pick, result.confirmation)
    if pick is not None:
        try:
            check_pick(parse_pick(pick), result.all_targets, known_names(result.trials))
        except ValueError as error:
            raise InputError(f"--pick: {error}") from None
        result = replace(result, pick=pick)
    return Opened(name, folder, result, url, None if own is None else own.number)


def show_best(run: Path, *, as_json: bool = False, pick: str | None = None) -> None:
    """Print the outcome of a completed study, and write the winner's recipe.

    Args:
        run: run directory; or its URL, where the recipe is written too.
        as_json: whether to print JSON.
        pick: conditions on the winner, in place of the study's own choice.

    Raises:
        InputError: the folder contains no completed study, a damaged one, or one without a
            completed trial; or no trial meets the conditions.
    """
    opened = open_result(run, pick)
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
    path = opened.folder / FRONT_FOLDER / f"{winner.number}.yaml"
    if winner.number == opened.own_winner:
        path = opened.folder / BEST_RECIPE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    # A result of an older version, or a trial that is not on the Pareto front.
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
        "folds": result.num_folds,
        "seed": result.seed,
        "variant": result.variant,
        "targets": [
            {"name": target, "direction": direction_of(target)} for target in result.all_targets
        ],
        "pick": result.pick,
        "front": [asdict(trial) for trial in result.front_trials],
        "devices": result.devices,
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
    winner, targets = result.winner, result.all_targets
    yield f"{result.metric} on {result.validation}, seed {result.seed}"
    if len(targets) > 1:
        yield f"targets: {targets_text(targets)}"
    chosen = "" if result.pick is None else f" ({result.pick})"
    yield f"winner{chosen}: {_line(winner, targets)}"
    if len(targets) > 1:
        yield f"Pareto front, {len(result.front)} trials, best {targets[0]} first:"
        yield from _cut(list(_table(result.front_trials, targets, winner.number)))
        yield from devices_text(result.devices)
    if result.confirmation is not None:
        yield "confirmed with new seeds (trial, mean and 95 % interval, search score):"
        for number, mean, _, search_score, verdict in confirmed_rows(result.confirmation):
            yield f"  trial {number}  {mean}  {search_score}  {verdict}".rstrip()
        yield from (f"  {sentence}" for sentence in confirmed_text(result.confirmation))
    yield from _other_trials(result, winner)
    if result.importance:
        num_scored = len(result.ranked)
        rough = "; rough" if num_scored < _FEW_TRIALS else ""
        yield f"importance of the keys (PED-ANOVA, {num_scored} trials{rough}):"
        for one in result.importance:
            yield f"  {100 * one['share']:3.0f} %  {one['key']}: {one['words']}"
    yield f"cost: {cost_text(cost_of(result.trials))}"
    yield f"best trial's recipe: {recipe}"
    if result.num_folds is not None:
        yield f"its student, trained on all rows: raykd {result.command} {recipe}"


def _other_trials(result: StudyResult, winner: Trial) -> Iterator[str]:
    targets = result.all_targets
    shown = {winner.number, *(result.front if len(targets) > 1 else ())}
    rest = [trial for trial in result.ranked if trial.number not in shown]
    rivals = [trial for trial in rest if trial.whole]
    stopped = [trial for trial in rest if not trial.whole]
    failed = [trial for trial in result.trials if trial.failed]
    tied = [trial for trial in rivals if trial.score == winner.score]
    if tied and len(targets) == 1:
        yield f"  {len(tied)} other trials have the same score"
    if rivals:
        yield "rivals, best first:" if len(targets) == 1 else "trials not on the front:"
        yield from _cut([f"  {_line(trial, targets)}" for trial in rivals])
    if stopped:
        yield f"stopped early: {len(stopped)} trials, with scores from fewer epochs:"
        yield from _cut([f"  {_line(trial, targets)}" for trial in stopped])
    if failed:
        yield f"{len(failed)} of {len(result.trials)} trials ended without a score:"
        yield from _cut(
            [
                f"  failed  trial {trial.number}: {values_text(trial.values)}: {trial.problem}"
                for trial in failed
            ]
        )


def _table(trials: Sequence[Trial], targets: Sequence[str], winner: int) -> Iterator[str]:
    """Lines of a table of the trials' targets and values; the winner is marked."""
    rows = [
        [str(trial.number), *(value_text(target, trial.value(target)) for target in targets)]
        for trial in trials
    ]
    rows = [["trial", *targets], *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ends = ["values", *(values_text(trial.values) for trial in trials)]
    for row, end, number in zip(rows, ends, [None, *(t.number for t in trials)], strict=True):
        cells = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{'*' if number == winner else ' '} {cells}  {end}"


def _line(trial: Trial, targets: Sequence[str]) -> str:
    size = "" if trial.num_parameters is None else f", {trial.num_parameters:,} parameters"
    others = "".join(
        f", {target} {value_text(target, trial.value(target))}"
        for target in targets[1:]
        if target != "num_parameters"
    )
    unit = "epoch" if trial.epochs == 1 else "epochs"
    return (
        f"{trial.score:.4f}  trial {trial.number}{others}, {trial.epochs} {unit}{size}: "
        f"{values_text(trial.values)}"
    )


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _MAX_LINES + 1:
        return lines
    return [*lines[:_MAX_LINES], f"  and {len(lines) - _MAX_LINES} more; --json shows all"]
