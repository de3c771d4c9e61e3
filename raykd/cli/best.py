"""The command `raykd best`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raykd.cli.options.recipe import JsonOption
from raykd.errors import InputError


def best(
    folder: Annotated[Path, Parameter(name="RUN", help="Run directory or URL of `raykd tune`.")],
    /,
    *,
    as_json: JsonOption = False,
    pick: Annotated[
        str | None,
        Parameter(
            help="Choose another trial, by conditions such as 'accuracy within 1%, latency_ms <= "
            "5': the cheapest within a distance of the best score, else the best score. "
            "RUN/best.yaml, --rerun and --export are of this trial.",
        ),
    ] = None,
    rerun: Annotated[
        bool,
        Parameter(
            negative="",
            help="Train the winner again on the same inputs, in RUN/tune/rerun, and compare its "
            "score; exit code 1 if it differs.",
            show_default="no",
        ),
    ] = False,
    export: Annotated[
        Path | None, Parameter(help="Copy the winner's student to this new folder.")
    ] = None,
    sqlite: Annotated[
        Path | None,
        Parameter(
            help="Only copy the Optuna study, of a running sweep too, to this new SQLite file."
        ),
    ] = None,
) -> int:
    """Print the outcome of a study, and do what the options ask for."""
    if sqlite is not None:
        from raykd.workflow.tune.choice.sqlite import copy_to_sqlite

        copy_to_sqlite(folder, sqlite)
        return 0
    from raykd.workflow.tune.best import show_best  # keeps `raykd --help` fast

    if as_json and (rerun or export):
        raise InputError(
            "raykd best: --json prints the outcome only; give it without --rerun and --export"
        )
    show_best(folder, as_json=as_json, pick=pick)
    if rerun:
        from raykd.workflow.tune.choice.rerun import rerun_winner

        if not rerun_winner(folder, pick):
            return 1
    if export is not None:
        from raykd.workflow.tune.choice.exported import export_student

        export_student(folder, export, pick)
    return 0
