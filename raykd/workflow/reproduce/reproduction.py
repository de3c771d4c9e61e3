"""Making of a table: missing runs one after the other, then the scores of its rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from raykd import progress
from raykd.errors import InputError
from raykd.report.reproduced import (
    Cell,
    ReproducedTable,
    TableColumn,
    TableRow,
    markdown,
    page,
    state_of,
)
from raykd.report.results import Results
from raykd.storage.manifest import make_output_directory, read_manifest
from raykd.storage.outputs import output_path
from raykd.storage.working_files import write_if_new
from raykd.workflow.reproduce.cells import (
    TableRun,
    init_of,
    is_current,
    metric_of,
    runs_of,
    score_of,
    selected,
)
from raykd.workflow.reproduce.shared_outputs import take_over
from raykd.workflow.reproduce.table import Profile, RowConfig, TableConfig, load_table
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages

JSON_FILE = "table.json"
MARKDOWN_FILE = "table.md"
PAGE_FILE = "table.html"


@dataclass(frozen=True)
class _Done:
    """A run of the table with its results, or the reason why it has none."""

    run: TableRun
    folder: Path
    results: Results | None
    reason: str | None = None


def reproduce(
    path: Path,
    *,
    out: Path | None = None,
    profile: Profile = "small",
    only: Sequence[str] = (),
    num_seeds: int | None = None,
    trains: bool = True,
) -> ReproducedTable:
    """Make the runs of a table that are not complete, and write the table next to them.

    A run that fails is reported in its cells, and the others are made.

    Args:
        path: file of the table.
        out: directory to write; None for `runs/reproduce/NAME-PROFILE`.
        profile: size of the table.
        only: names of rows, of columns, or ROW/COLUMN, to make; none for all.
        num_seeds: use seeds 1 to this number in place of the profile's.
        trains: whether to make missing runs; if not, only complete ones are shown.

    Raises:
        InputError: the table or a recipe in it is not valid, before any run starts; or the output
            cannot be written.
    """
    table = load_table(path)
    cells = selected(table, profile, only, str(path))
    runs = runs_of(table, profile, cells, path, num_seeds)
    out = output_path(out or Path("runs") / "reproduce" / f"{table.name}-{profile}")
    make_output_directory(out)
    done: dict[tuple[str, str], _Done] = {}
    for number, run in enumerate(runs):
        if trains:
            progress.say(f"{run.column}, {run.name} (run {number + 1} of {len(runs)})")
            done[run.name, run.column] = _make(run, out, [*done.values()])
            # Readable while the others run.
            _write(_table(table, profile, cells, done), out)
        else:
            done[run.name, run.column] = _read(run, out)
    made = _table(table, profile, cells, done)
    _write(made, out)
    return made


def _make(run: TableRun, out: Path, earlier: Sequence[_Done]) -> _Done:
    folder = out / run.folder
    same_task = [one for one in earlier if one.run.column == run.column]
    take_over([(one.folder, one.run.recipe) for one in same_task], folder, run.recipe)
    try:
        run_stages(Run(run.recipe, folder, folder / "units"), "report")
    except InputError as error:
        progress.say(f"{run.column}, {run.name}: failed: {error}", level="error")
        return _Done(run, folder, None, str(error))
    return _read(run, out)


def _read(run: TableRun, out: Path) -> _Done:
    folder = out / run.folder
    try:
        results = Results.model_validate_json((folder / "results.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return _Done(run, folder, None)
    return _Done(run, folder, results if is_current(run, results) else None)


def _table(
    table: TableConfig,
    profile: Profile,
    cells: Sequence[tuple[str, str]],
    done: Mapping[tuple[str, str], _Done],
) -> ReproducedTable:
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
                cells=[
                    _cell(table, profile, name, column, done)
                    if (name, column) in cells
                    else Cell(column=column)
                    for column in columns
                ],
            )
            for name in rows
        ],
        expected_source=expected
        and f"{expected.date}, commit {expected.commit}, {expected.device}, "
        f"{expected.num_seeds} seeds, tolerance {expected.tolerance:g} points",
        versions=results[0].versions if results else {},
    )


def _metric(table: TableConfig, column: str, done: Mapping[tuple[str, str], _Done]) -> str | None:
    recipes = (one.run.recipe for (_, of), one in done.items() if of == table.task_column(column))
    recipe = next(recipes, None)
    return None if recipe is None else metric_of(table.columns[column], recipe)


def _cell(
    table: TableConfig,
    profile: Profile,
    name: str,
    column: str,
    done: Mapping[tuple[str, str], _Done],
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
    return Cell(
        column=column,
        mean=score.mean,
        deviation=score.deviation,
        num_seeds=score.num_seeds,
        paper=paper,
        expected=expected,
        state=state_of(score.mean, expected, config.tolerance if config else None),
        training_s=_training_s(row, one),
    )


def _training_s(row: RowConfig, one: _Done) -> float | None:
    """Seconds that one student's injections and adaptation took, mean over seeds."""
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
        manifests = [read_manifest(folder) for folder in folders]
        seconds.append(sum(manifest.duration_s for manifest in manifests if manifest))
    return fmean(seconds)


def _write(table: ReproducedTable, out: Path) -> None:
    values = table.model_dump(mode="json")
    write_if_new(out / JSON_FILE, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    write_if_new(out / MARKDOWN_FILE, markdown(table))
    write_if_new(out / PAGE_FILE, page(table))
