"""Making of a table: missing runs one after the other, then the scores of its rows."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from raykd import progress
from raykd.errors import InputError
from raykd.report.reproduced import ReproducedTable, markdown, page
from raykd.report.results import Results
from raykd.storage.manifest import make_output_directory, read_manifest
from raykd.storage.outputs import alone_in, output_path
from raykd.storage.working_files import write_if_new
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.reproduce.cells import TableRun, runs_of, selected
from raykd.workflow.reproduce.results_table import (
    Done,
    row_differences,
    shown_table,
    with_same_rows,
)
from raykd.workflow.reproduce.row_scores import is_current, recipe_of_results
from raykd.workflow.reproduce.shared_outputs import take_over
from raykd.workflow.reproduce.table import Profile, load_table
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages

JSON_FILE = "table.json"
MARKDOWN_FILE = "table.md"
PAGE_FILE = "table.html"


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

    A run that fails is reported in its cells, and the others are made. Runs take over what they
    can use of those before them, and of tables in the folders next to this one.

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
    done: dict[tuple[str, str], Done] = {}
    for number, run in enumerate(runs):
        if trains:
            progress.say(f"{run.column}, {run.name} (run {number + 1} of {len(runs)})")
            done[run.name, run.column] = _make(run, out, [*done.values()])
            # Readable while the others run.
            _write(shown_table(table, profile, cells, done), out)
        else:
            done[run.name, run.column] = _read(run, out)
    done = with_same_rows(done)
    made = shown_table(table, profile, cells, done, row_differences(table, cells, done, out))
    _write(made, out)
    return made


def _make(run: TableRun, out: Path, earlier: Sequence[Done]) -> Done:
    folder = out / run.folder
    same_task = [(one.folder, one.run.recipe) for one in earlier if one.run.column == run.column]
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        take_over([*same_task, *_runs_of_other_tables(run, out)], folder, run.recipe)
        try:
            run_stages(Run(run.recipe, folder, folder / "units"), "report")
        except InputError as error:
            reason = str(error)
        except OSError:  # a full disk, for instance, which the other runs have as well
            raise
        except Exception as error:
            if os.environ.get("RAYKD_DEBUG") == "1":
                raise
            reason = f"internal error: {type(error).__name__}: {error}"
        else:
            return _read(run, out)
    progress.say(f"{run.column}, {run.name}: failed: {reason}", level="error")
    return Done(run, folder, None, reason)


def _runs_of_other_tables(run: TableRun, out: Path) -> Iterator[tuple[Path, Recipe]]:
    """Yield complete runs with the same task and teacher, of tables in folders next to `out`."""
    for table in sorted(out.absolute().parent.glob(f"*/{JSON_FILE}")):
        if table.parent.samefile(out):
            continue
        for file in sorted(table.parent.glob("*/*/results.json")):
            try:
                results = Results.model_validate_json(file.read_text("utf-8"))
            except (OSError, ValueError):
                continue
            recipe = recipe_of_results(results)
            if recipe is None:
                continue
            if (recipe.task, recipe.teacher) == (run.recipe.task, run.recipe.teacher):
                yield file.parent, recipe


def _read(run: TableRun, out: Path) -> Done:
    folder = out / run.folder
    try:
        results = Results.model_validate_json((folder / "results.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return Done(run, folder, None)
    # Of a later task there may be predictions, but no results yet.
    task = read_manifest(folder / "task")
    is_of_task = task is None or results.digests.get("task") == task.digest
    return Done(run, folder, results if is_of_task and is_current(run, results) else None)


def _write(table: ReproducedTable, out: Path) -> None:
    values = table.model_dump(mode="json")
    write_if_new(out / JSON_FILE, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    write_if_new(out / MARKDOWN_FILE, markdown(table))
    write_if_new(out / PAGE_FILE, page(table))
