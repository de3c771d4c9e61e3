"""Parameters of the commands that run the stages of a recipe, or that inspect a run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raykd.errors import InputError

RecipeFile = Annotated[Path, Parameter(help="Recipe (YAML file).")]
OutFolder = Annotated[
    Path | None, Parameter(name="--out", help="Output directory (default for recipes: runs/NAME).")
]

JsonOption = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON.", show_default="no")
]


def local_run(folder: str) -> Path:
    """Return the path of a run directory.

    Raises:
        InputError: it is a URL.
    """
    from raykd.storage.locations import is_url  # keeps `raykd --help` fast

    if is_url(folder):
        raise InputError(f"{folder}: a local directory is expected; copy the run to one first")
    return Path(folder)


def run_until(last: str, recipe: Path, out: Path | None) -> None:
    """Run the stages of a recipe up to and including `last`."""
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    run_stages(open_run(recipe, out), last)
