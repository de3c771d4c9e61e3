"""Parameters of the commands that run the stages of a recipe, or that inspect a run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raykd.storage.yaml_files import load_yaml

RecipeFile = Annotated[Path, Parameter(help="Recipe (YAML file).")]
OutFolder = Annotated[
    Path | None,
    Parameter(name="--out", help="Output directory or URL (default for recipes: runs/NAME)."),
]

JsonOption = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON.", show_default="no")
]


def check_is_yaml(recipe: Path) -> None:
    """Check that the recipe can be read, before the commands' imports, which take seconds.

    Raises:
        InputError: see `load_yaml`.
    """
    load_yaml(recipe)


def run_until(last: str, recipe: Path, out: Path | None) -> None:
    """Run the stages of a recipe up to and including `last`."""
    check_is_yaml(recipe)
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    with optional_output_at(out) as folder:
        run_stages(open_run(recipe, folder), last)
