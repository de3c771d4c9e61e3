"""The directory of a run: what lies where."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raykd import contextualize
from raykd.evaluation.store import read_task
from raykd.evaluation.tasks import Task
from raykd.models.student_init import Init
from raykd.recipe import DOCSTRINGS_SCHEME, Arm, Recipe, load_recipe

HITS_FILE = "hits.parquet"
QUERIES_FILE = "queries.parquet"


@dataclass(frozen=True)
class Run:
    """A recipe, where its results go, and the shards of its corpus.

    A search has a run of its own, on fewer examples, that shares the corpus.
    """

    recipe: Recipe
    out: Path
    units: Path

    def resolve(self, reference: str) -> Path:
        """The file a recipe's path means."""
        if reference.startswith(DOCSTRINGS_SCHEME):
            name = reference.removeprefix(DOCSTRINGS_SCHEME)
            return self.out / "docstrings" / f"{name}.parquet"
        return Path(reference)

    @property
    def task_folder(self) -> Path:
        """The task's examples."""
        return self.out / "task"

    @property
    def queries(self) -> Path:
        """Queries of the task's anchors."""
        return self.out / "queries"

    @property
    def hits(self) -> Path:
        """Hits of the task's anchors."""
        return self.out / "hits"

    @property
    def teacher(self) -> Path:
        """The fine-tuned teacher."""
        return self.out / "teacher"

    def split(self, name: str) -> Path:
        """Examples of a split: train, dev or test."""
        return self.task_folder / f"{name}.parquet"

    def textbook(self, arm: Arm) -> Path:
        """The corpus an arm learns from."""
        return self.out / "textbooks" / arm

    def text(self, name: str) -> Path:
        """A text that is trained on: an arm's, or the split `train`."""
        if name in ("task", "train"):
            return self.split("train")
        return self.textbook(name) / contextualize.TEXTBOOK_FILE  # type: ignore[arg-type]  # the other names are arms

    def teacher_logits(self, name: str) -> Path:
        """The teacher's logits on that text."""
        return self.out / "teacher_logits" / name

    def student(self, arm: Arm, init: Init, seed: int, phase: str) -> Path:
        """A student after a phase: injected or adapted."""
        return self.out / "students" / f"{arm}-{init}-seed{seed}" / phase

    def task(self) -> Task:
        """The task's splits, as the stage `task` wrote them."""
        return read_task(self.task_folder)

    def students(self) -> Iterator[tuple[Arm, Init, int]]:
        """Arm, init and seed of every student."""
        for init in self.recipe.student.inits:
            for arm in self.recipe.arms:
                if arm != "tfidf":
                    for seed in self.recipe.seeds:
                        yield arm, init, seed

    def injected_students(self) -> Iterator[tuple[Arm, Init, int]]:
        """Arm, init and seed of every student that has an injection."""
        for student in self.students():
            if student[0] in self.recipe.injected_arms:
                yield student


def open_run(recipe_file: Path, out: Path | None) -> Run:
    """The run of a recipe; its results go to `runs/NAME` unless told otherwise."""
    recipe = load_recipe(recipe_file)
    out = (out or Path("runs") / recipe.name).resolve()
    return Run(recipe, out, out / "units")
