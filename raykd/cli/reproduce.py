"""The command `raykd reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd.cli.options.recipe import OutFolder
from raykd.errors import InputError

TABLES = Path("experiments/expected/tables")


def reproduce(
    table: Annotated[
        str | None,
        Parameter(name="TABLE", help=f"YAML file of a table, or the name of one in {TABLES}."),
    ] = None,
    /,
    *,
    profile: Annotated[
        Literal["small", "full"],
        Parameter(help="Size: small for two cores, full for the paper's models and data."),
    ] = "small",
    only: Annotated[
        str, Parameter(help="Names of rows, columns or ROW/COLUMN, separated by commas.")
    ] = "",
    seeds: Annotated[
        int | None, Parameter(help="Number of seeds.", show_default="those of the profile")
    ] = None,
    out: OutFolder = None,
    check: Annotated[
        bool,
        Parameter(
            negative="",
            help="Exit with code 1 if a score is out of the tolerance of the table's expected "
            "value, is of another number of seeds, or is missing.",
            show_default="no",
        ),
    ] = False,
    show: Annotated[
        bool,
        Parameter(negative="", help="Train nothing; show complete runs.", show_default="no"),
    ] = False,
) -> int:
    """Make the runs of the table, and print it in Markdown."""
    if seeds is not None and seeds < 1:
        raise InputError(f"--seeds {seeds}: give at least 1")
    from raykd.workflow.reproduce.table import find_table, load_table, tables_in

    if table is None:
        for name in tables_in(TABLES):
            config = load_table(TABLES / f"{name}.yaml")
            print(f"{name:24} {', '.join(config.profiles):12} {config.title}")  # noqa: T201  # the command's answer
        return 0
    path = find_table(table, TABLES)
    expected = load_table(path).expected.get(profile)
    if check and not expected:
        raise InputError(
            f"--check: {path} has no expected scores of the profile {profile!r} to compare with"
        )
    if check and expected and seeds is not None and seeds != expected.num_seeds:
        raise InputError(
            f"--seeds {seeds}: --check compares with means over {expected.num_seeds} seeds; "
            "remove one of the two options"
        )
    # These import torch.
    from raykd.report.reproduced import markdown
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.reproduce.reproduction import reproduce as make_table

    names = [name.strip() for name in only.split(",") if name.strip()]
    with optional_output_at(out) as folder:
        made = make_table(
            path, out=folder, profile=profile, only=names, num_seeds=seeds, trains=not show
        )
    print(markdown(made), end="")  # noqa: T201  # the command's answer
    failed = any(cell.state == "failed" for row in made.rows for cell in row.cells)
    differs = bool(made.missed or made.num_not_run or made.num_of_other_seeds)
    return int(failed or (check and differs))
