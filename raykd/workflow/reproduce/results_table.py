"""Contents of a table: scores, differences and training times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raykd.evaluation.differences import ScoreDifference
from raykd.report.reproduced import (
    Cell,
    Difference,
    ReproducedTable,
    TableColumn,
    TableRow,
    state_of,
)
from raykd.report.results import Results
from raykd.storage.manifest import digest_of, read_manifest
from raykd.tasks.store import read_task
from raykd.tasks.task import Task
from raykd.workflow.reproduce.cells import TableRun
from raykd.workflow.reproduce.row_differences import (
    CompleteRow,
    differences_of,
    has_predictions,
)
from raykd.workflow.reproduce.row_scores import init_of, metric_of, score_of
from raykd.workflow.reproduce.table import Profile, RowConfig, TableConfig
from raykd.workflow.run import Run


@dataclass(frozen=True)
class Done:
    """A run of a table with its results, or the reason why it has none."""

    run: TableRun
    folder: Path
    results: Results | None
    reason: str | None = None


def with_same_rows(done: Mapping[tuple[str, str], Done]) -> dict[tuple[str, str], Done]:
    """The runs, of which those have no results that are scored on other rows than the first.

    A file of evaluation rows may change between two runs, and classes depend on the training rows.

    Args:
        done: runs by name and column.
    """
    first: dict[str, tuple[str, str]] = {}
    same = dict(done)
    for (name, column), one in done.items():
        if one.results is None or read_manifest(one.folder / "task") is None:
            continue
        rows = _digest_of_rows(read_task(one.folder / "task"))
        other, expected = first.setdefault(column, (name, rows))
        if rows != expected:
            reason = (
                f"its evaluation rows or classes are not those of the run {other!r}; if a file "
                "changed in between, make the whole column again"
            )
            same[name, column] = Done(one.run, one.folder, None, reason)
    return same


def _digest_of_rows(task: Task) -> str:
    """Digest of the rows that models are scored on, with their labels."""
    return digest_of([task.labels, task.reported.to_pylist()])


def row_differences(
    table: TableConfig,
    cells: Sequence[tuple[str, str]],
    done: Mapping[tuple[str, str], Done],
    out: Path,
) -> dict[tuple[str, str], dict[str, ScoreDifference]]:
    """Differences of rows to those they are compared with, by row and column, then by other row.

    Columns of evaluation sets have none.

    Args:
        table: the table.
        cells: rows and columns to compare.
        done: runs by name and column.
        out: the table's folder.
    """
    found: dict[tuple[str, str], dict[str, ScoreDifference]] = {}
    for column in dict.fromkeys(column for _, column in cells):
        complete: dict[str, CompleteRow] = {}
        for name in (row for row, of in cells if of == column):
            config = table.rows[name]
            one = done.get((config.run, column))
            if one is None or one.results is None:
                continue
            run = Run(one.run.recipe, one.folder, one.folder / "units")
            row = CompleteRow(name, config, run)
            has_score = score_of(config, one.run, table.columns[column], one.results) is not None
            if has_score and has_predictions(row):
                complete[name] = row
        pairs = [
            (row, complete[other])
            for row in complete.values()
            for other in row.config.compared_with
            if other in complete
        ]
        metric = _metric(table, column, done)
        if pairs and metric is not None:
            for difference in differences_of(pairs, metric, out / column / "differences"):
                found.setdefault((difference.variant, column), {})[difference.other] = difference
    return found


def shown_table(
    table: TableConfig,
    profile: Profile,
    cells: Sequence[tuple[str, str]],
    done: Mapping[tuple[str, str], Done],
    differences: Mapping[tuple[str, str], Mapping[str, ScoreDifference]] | None = None,
) -> ReproducedTable:
    """Fill the table with the results of its runs so far.

    Args:
        table: the table.
        profile: its size.
        cells: rows and columns to show.
        done: runs by name and column.
        differences: result of `row_differences`.
    """
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    results = [one.results for one in done.values() if one.results is not None]
    expected = table.expected.get(profile)
    paper = table.paper
    return ReproducedTable(
        name=table.name,
        title=table.title,
        paper=paper and f"{paper.title}, {paper.part}",
        paper_url=paper and paper.url,
        paper_note=paper and paper.note,
        profile=profile,
        columns=[
            TableColumn(
                name=name, title=table.columns[name].title, metric=_metric(table, name, done)
            )
            for name in columns
        ],
        rows=[
            TableRow(
                name=name,
                title=table.rows[name].title,
                compared_with=list(table.rows[name].compared_with),
                cells=[
                    _cell(
                        *(table, profile, name, column, done),
                        (differences or {}).get((name, column), {}),
                    )
                    if (name, column) in cells
                    else Cell(column=column, state="not asked")
                    for column in columns
                ],
            )
            for name in rows
        ],
        expected_source=expected
        and f"{expected.date}, commit {expected.commit}, {expected.device}, "
        f"{expected.num_seeds} seeds, tolerance {expected.tolerance:g} points",
        versions=_versions(results),
    )


def _versions(results: Sequence[Results]) -> dict[str, str]:
    """Versions of the packages; those that differ between runs joined by "and"."""
    found: dict[str, list[str]] = {}
    for one in results:
        for name, version in one.versions.items():
            found.setdefault(name, []).append(version)
    return {name: " and ".join(dict.fromkeys(versions)) for name, versions in found.items()}


def _metric(table: TableConfig, column: str, done: Mapping[tuple[str, str], Done]) -> str | None:
    recipes = (one.run.recipe for (_, of), one in done.items() if of == table.task_column(column))
    recipe = next(recipes, None)
    return None if recipe is None else metric_of(table.columns[column], recipe)


def _cell(
    table: TableConfig,
    profile: Profile,
    name: str,
    column: str,
    done: Mapping[tuple[str, str], Done],
    differences: Mapping[str, ScoreDifference],
) -> Cell:
    row = table.rows[name]
    paper = table.paper_values.get(name, {}).get(column)
    config = table.expected.get(profile)
    expected = config.values.get(name, {}).get(column) if config else None
    one = done.get((row.run, table.task_column(column)))
    if one is None or one.results is None:
        reason = one.reason if one else None
        state = "failed" if reason else "not run"
        return Cell(column=column, paper=paper, expected=expected, state=state, reason=reason)
    score = score_of(row, one.run, table.columns[column], one.results)
    if score is None:
        return Cell(column=column, paper=paper, expected=expected)
    state = state_of(score.mean, expected, config.tolerance if config else None)
    # A mean over fewer seeds varies more.
    if state != "new" and config and row.is_student and score.num_seeds != config.num_seeds:
        state = "other seeds"
    return Cell(
        column=column,
        mean=score.mean,
        deviation=score.deviation,
        num_seeds=score.num_seeds,
        paper=paper,
        expected=expected,
        state=state,
        training_s=_training_s(row, one),
        differences={
            other: Difference(mean=100 * one.difference, low=100 * one.low, high=100 * one.high)
            for other, one in differences.items()
        },
    )


def _training_s(row: RowConfig, one: Done) -> float | None:
    """Seconds that one student's injections and adaptation took, mean over seeds.

    None if the folder of one of them is missing or damaged.
    """
    if not row.is_student:
        return None
    recipe = one.run.recipe
    run = Run(recipe, one.folder, one.folder / "units")
    init, chain = init_of(row, recipe), recipe.chain_of(row.variant)
    seconds = []
    for seed in recipe.seeds:
        folders = [run.injected(part, init, seed) for part in chain.prefixes()] if chain else []
        if row.stage == "adapted":
            folders.append(run.adapted(row.variant, init, seed))
        for manifest in map(read_manifest, folders):
            if manifest is None:
                return None
            seconds.append(manifest.duration_s)
    return sum(seconds) / len(recipe.seeds)
