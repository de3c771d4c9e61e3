"""Parameters of the commands that run the stages of a recipe."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

RecipeFile = Annotated[Path, Parameter(help="Recipe (YAML file).")]
OutFolder = Annotated[
    Path | None, Parameter(name="--out", help="Output directory (default for recipes: runs/NAME).")
]


def run_until(last: str, recipe: Path, out: Path | None) -> None:
    """Run the stages of a recipe up to and including `last`."""
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    run_stages(open_run(recipe, out), last)
