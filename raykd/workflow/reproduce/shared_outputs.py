"""Outputs that runs of a table have in common, taken over from one run to the next.

Hard links cost no room, and a stage never changes a committed file. What a run cannot use has
another key in its manifest, and the stage writes its own in its place.
"""

import os
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from raykd.storage.manifest import read_manifest
from raykd.storage.working_files import files_below, partial_of, renamed
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import STAGE_FOLDERS

# Outputs that are no stage's result, but speed one up.
_CACHES = ("embeddings", "embeddings@*", "tokens/*")
_OF_STUDENTS = ("inject", "adapt", "evaluate")
# Sections of a recipe that change no injected student.
_NOT_INJECTION = {"name", "seeds", "variants", "adaptation", "alone", "workers", "report_to"}
_NOT_INJECTION |= {"prices", "tune"}
_NOT_ADAPTATION = _NOT_INJECTION - {"adaptation", "alone"}


def take_over(runs: Sequence[tuple[Path, Recipe]], out: Path, recipe: Recipe) -> None:
    """Link outputs of other runs of the same task that a new run can use into its directory.

    Args:
        runs: directories and recipes of the other runs.
        out: directory of the new run.
        recipe: of the new run.
    """
    before_students = (STAGE_FOLDERS[stage] for stage in STAGE_FOLDERS if stage not in _OF_STUDENTS)
    patterns = [*chain.from_iterable(before_students), *_CACHES, "teacher_outputs/*"]
    for folder, other in runs:
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                _link(path, out / path.relative_to(folder))
        for stage, left_out in (("injected", _NOT_INJECTION), ("adapted", _NOT_ADAPTATION)):
            if _without_inits(recipe, left_out) == _without_inits(other, left_out):
                for path in sorted(folder.glob(f"students/*/{stage}")):
                    _link(path, out / path.relative_to(folder))


def _without_inits(recipe: Recipe, left_out: set[str]) -> dict[str, object]:
    values = recipe.model_dump(mode="json", exclude=left_out)
    # The first weights are in the name of a student's folder.
    values["student"].pop("inits")
    # Whether students are adapted is in the key of their adaptation.
    sections = (values["injection"], values["task_da_injection"], *values["injections"].values())
    for section in sections:
        if section is not None:
            section.pop("adapt")
    return values


def _link(source: Path, target: Path) -> None:
    """Link the files of a complete folder under another name, unless it exists."""
    if target.exists() or read_manifest(source) is None:
        return
    partial = partial_of(target)
    try:
        for file in files_below(source):
            place = partial / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, place)
            except OSError:  # the file system has no links
                shutil.copy2(file, place)
        renamed(partial, target)
    except FileNotFoundError:  # another process has replaced or removed the source
        return
    finally:
        shutil.rmtree(partial, ignore_errors=True)
