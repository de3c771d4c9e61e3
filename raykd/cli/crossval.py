"""The command `raykd crossval`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raykd.cli.options.recipe import RecipeFile, check_is_yaml


def crossval(
    recipe: RecipeFile,
    /,
    *,
    folds: Annotated[
        int | None,
        Parameter(help="Number of folds.", show_default="task.folds of the recipe, or 5"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(name="--out", help="Output directory or URL (default: runs/NAME-crossval)."),
    ] = None,
) -> None:
    """Make the runs of the folds and the final student, and print the scores."""
    check_is_yaml(recipe)
    # These import torch.
    from raykd.report.crossval.section import summary
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.crossval.crossvalidation import crossvalidate

    with optional_output_at(out) as folder:
        results = crossvalidate(recipe, folder, folds)
    print(summary(results))  # noqa: T201  # the command's answer
