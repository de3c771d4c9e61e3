"""What the commands share that run the stages of a recipe."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

RecipeFile = Annotated[Path, Parameter(help="The recipe, a YAML file.")]
OutFolder = Annotated[
    Path | None, Parameter(name="--out", help="The run directory (default: runs/NAME).")
]


def run_until(last: str, recipe: Path, out: Path | None) -> None:
    """Run the stages of a recipe up to one."""
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    run_stages(open_run(recipe, out), last)
