"""Runs of a cross-validation: one per fold, and one on all labeled rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.storage.outputs import output_path
from raykd.storage.yaml_files import load_yaml
from raykd.tasks.task import load_task
from raykd.training.settings import TrainingConfig
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME, Recipe
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.run import Run, check_uploaded
from raykd.workflow.scoring.calibration import chosen_student

DEFAULT_FOLDS = 5
# Trainings on labeled rows.
SECTIONS = ("teacher", "adaptation", "alone")


@dataclass(frozen=True)
class Crossval:
    """A recipe, the output directory of its cross-validation, and the number of folds.

    All runs share the shards of the general corpus, which do not depend on the fold.
    """

    recipe: Recipe
    out: Path
    num_folds: int

    @property
    def numbers(self) -> range:
        """Numbers of the folds, from 1."""
        return range(1, self.num_folds + 1)

    def run(self, folder: Path, values: Mapping[str, Any], stop_after: Mapping[str, int]) -> Run:
        """A run of the recipe with changed keys; it makes no choices of its own."""
        fixed = {"tune": None, **without_choices(self.recipe, SECTIONS), **values}
        recipe = self.recipe.with_values(fixed, "raykd crossval")
        return Run(recipe, folder, self.out / "units", stop_after=stop_after)

    def fold_run(self, number: int, stop_after: Mapping[str, int]) -> Run:
        """The run whose dev rows are those of a fold."""
        values = {"name": f"{self.recipe.name}-fold-{number}", "task.fold": number}
        return self.run(self.fold_folder(number), values, stop_after)

    def fold_folder(self, number: int) -> Path:
        """Directory of the run of a fold."""
        return self.out / "folds" / self._name(number)

    def choices_of(self, number: int) -> Path:
        """Folder of the trainings of a fold that epochs are chosen by."""
        return self.out / "choices" / self._name(number)

    def final_run(self, stop_after: Mapping[str, int]) -> Run:
        """The run that trains one student on all labeled rows."""
        variant, init, seed = chosen_student(self.whole_run)
        values = {"variants": [variant], "student.inits": [init], "seeds": [seed]}
        return self.run(self.out / "final", values, stop_after)

    @property
    def whole_run(self) -> Run:
        """The recipe as it is, in the output directory."""
        return Run(self.recipe, self.out, self.out / "units")

    @property
    def pooled_run(self) -> Run:
        """The run whose dev rows are those of all folds; it has predictions only."""
        folder = self.out / "pooled" / f"{self.num_folds}-folds"
        return Run(self.recipe, folder, self.out / "units")

    def chooses(self, section: str) -> bool:
        """True if epochs are chosen for `teacher`, `adaptation` or `alone`."""
        return chooses(self.recipe, section)

    def _name(self, number: int) -> str:
        # Folders of another number of folds are never mistaken for these.
        return f"{number}-of-{self.num_folds}"


def open_crossval(recipe_file: Path, out: Path | None, num_folds: int | None) -> Crossval:
    """Open the cross-validation of a recipe, and check that its rows can be divided.

    Args:
        recipe_file: recipe without dev rows.
        out: output directory; None for `runs/NAME-crossval`.
        num_folds: number of folds; None for that of the recipe, or 5.

    Raises:
        InputError: the recipe or its rows do not suit; names the key, or the class.
    """
    if num_folds is not None and num_folds < 2:
        raise InputError(f"--folds {num_folds}: give at least 2")
    recipe = _load(recipe_file, num_folds)
    _check(recipe, str(recipe_file))
    check_uploaded(recipe)
    assert recipe.task.folds is not None
    out = output_path(out or Path("runs") / f"{recipe.name}-crossval")
    crossval = Crossval(recipe, out, recipe.task.folds)
    load_task(recipe.task, crossval.whole_run.resolve)  # divides the rows, or raises
    return crossval


def _load(path: Path, num_folds: int | None) -> Recipe:
    if num_folds is None:
        task = load_yaml(path).get("task")
        if isinstance(task, dict) and task.get("folds") is not None:
            return load_recipe(path)
    return load_recipe(path, {"folds": num_folds or DEFAULT_FOLDS})


def _check(recipe: Recipe, source: str) -> None:
    """Refuse recipes whose meaning in a cross-validation is not defined.

    Raises:
        InputError: names the key to remove.
    """
    task = recipe.task
    if task.fold is not None:
        raise InputError(
            f"{source}: task.fold: makes a run of one fold (raykd run); remove it, raykd crossval "
            "runs all of them"
        )
    if task.has("test"):
        raise InputError(
            f"{source}: task.test: cross-validation scores the labeled rows only; remove it, and "
            "score the student on the test rows afterwards, with raykd predict"
        )
    if recipe.evaluation.sets:
        raise InputError(
            f"{source}: evaluation.sets: cross-validation scores the labeled rows only; remove "
            "them, and score the student on these rows afterwards, with raykd predict"
        )
    if any(path.startswith(DOCSTRINGS_SCHEME) for path in task.files_of("train")):
        raise InputError(
            f"{source}: task.train: rows of the section docstrings are made during a run and "
            "cannot be divided before it; give a file"
        )
    for section in SECTIONS:
        config = _section(recipe, section)
        if chooses(recipe, section) and config is not None and config.num_steps is not None:
            raise InputError(
                f"{source}: {section}.num_steps: with keep: best, cross-validation chooses the "
                "number of epochs; give epochs instead, or set keep: last"
            )


def _section(recipe: Recipe, section: str) -> TrainingConfig | None:
    config: TrainingConfig | None = getattr(recipe, section)
    return config


def chooses(recipe: Recipe, section: str) -> bool:
    """True if epochs of a training are chosen: of `teacher`, `adaptation` or `alone`."""
    if section == "teacher":
        teacher = recipe.teacher
        return teacher.model is not None and not teacher.fine_tuned and teacher.keep == "best"
    config = _section(recipe, section) or recipe.adaptation
    return config.keep == "best"


def without_choices(recipe: Recipe, sections: Sequence[str]) -> dict[str, Any]:
    """Keys by which trainings of a fold keep the last state, which is scored after each epoch."""
    values: dict[str, Any] = {}
    for section in sections:
        if _section(recipe, section) is not None and chooses(recipe, section):
            fixed = {"keep": "last", "patience": None, "score_every": None}
            values |= {f"{section}.{key}": value for key, value in fixed.items()}
    return values
