"""The directory of a run: what lies where."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raykd import contextualize
from raykd.arms import Arm
from raykd.errors import InputError
from raykd.evaluation.store import read_task
from raykd.evaluation.tasks import Task
from raykd.locations import Location, location_of
from raykd.manifest import FILE_NAME as MANIFEST_FILE
from raykd.models.student_init import Init
from raykd.outputs import in_job_copy, missing_hint, output_path
from raykd.recipe import DOCSTRINGS_SCHEME, Recipe
from raykd.recipe_file import load_recipe
from raykd.working_files import write_atomically

_TIMES_FILE = "times.json"
# The folders of each stage's output below the run directory.
_STAGE_FOLDERS = {
    "docstrings": ("docstrings",),
    "task": ("task",),
    "ingest": ("units",),
    "search": ("queries", "hits"),
    "contextualize": ("sample", "textbooks/*"),
    "teacher": ("teacher",),
    "inject": ("teacher_outputs/*", "students/*/injected"),
    "adapt": ("teacher_outputs/*", "students/*/adapted"),
    "evaluate": ("predictions/*", "analysis/*", "costs"),
}


@dataclass(frozen=True)
class Run:
    """A recipe, where its results go, and the shards of its corpus.

    A search has a run of its own, on fewer examples, that shares the corpus.
    """

    recipe: Recipe
    out: Path
    units: Path

    def resolve(self, reference: str) -> Location:
        """The file or URL that a recipe's path means."""
        if reference.startswith(DOCSTRINGS_SCHEME):
            name = reference.removeprefix(DOCSTRINGS_SCHEME)
            return self.out / "docstrings" / f"{name}.parquet"
        return location_of(reference)

    @property
    def sample(self) -> Path:
        """Units that stand for the general corpus in figures, beside its shards."""
        return self.units.with_name("sample")

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
    def embeddings(self) -> Path:
        """Embeddings of the corpus, where a search reads them; shared as the corpus is."""
        return self.units.with_name("embeddings")

    @property
    def teacher(self) -> Path:
        """The fine-tuned teacher."""
        return self.out / "teacher"

    def replaced_folders(self) -> list[Path]:
        """Folders that the user could have filled, and that a stage replaces as a whole."""
        made = (self.out / name for name in ("docstrings", "student"))
        return [*made, self.task_folder, self.queries, self.hits, self.teacher]

    def split(self, name: str) -> Path:
        """Examples of a split: train, dev or test."""
        return self.task_folder / f"{name}.parquet"

    def textbook(self, arm: Arm) -> Path:
        """The corpus an arm learns from."""
        return self.out / "textbooks" / arm

    def text(self, name: str) -> Path:
        """A text that is trained on: that of an injection, see `text_of`, or the split `train`."""
        if name in ("task", "train"):
            return self.split("train")
        if name == "task_da":
            assert self.recipe.task_da is not None
            return Path(self.recipe.task_da) / contextualize.TEXTBOOK_FILE
        return self.textbook(name) / contextualize.TEXTBOOK_FILE  # type: ignore[arg-type]  # the other names are arms

    def teacher_outputs(self, name: str) -> Path:
        """The teacher's outputs on that text."""
        return self.out / "teacher_outputs" / name

    @property
    def tokens(self) -> Path:
        """Tokens of long texts."""
        return self.out / "tokens"

    def student(self, arm: Arm, init: Init, seed: int, phase: str) -> Path:
        """A student after a phase: injected or adapted."""
        return self.out / "students" / f"{arm}-{init}-seed{seed}" / phase

    def analysis(self, arm: Arm, init: Init, seed: int) -> Path:
        """How near an adapted student is to the teacher."""
        return self.out / "analysis" / f"{arm}-{init}-seed{seed}"

    @property
    def costs(self) -> Path:
        """What teacher and students cost to run."""
        return self.out / "costs"

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

    def injections(self) -> Iterator[tuple[Arm, Init, int]]:
        """Those, and the students of other arms that they go on from."""
        for init in self.recipe.student.inits:
            for arm in self.recipe.injections:
                for seed in self.recipe.seeds:
                    yield arm, init, seed

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Keep the wall time of a stage that did some work."""
        before, started = self._manifest_times(stage), time.monotonic()
        yield
        if self._manifest_times(stage) != before:
            times_s = self.times_s() | {stage: round(time.monotonic() - started, 1)}
            write_atomically(self.out / _TIMES_FILE, json.dumps(times_s))

    def times_s(self) -> dict[str, float]:
        """Wall time of the last work of each stage, in seconds, in the stages' order."""
        path = self.out / _TIMES_FILE
        found: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        return {stage: found[stage] for stage in _STAGE_FOLDERS if stage in found}

    def _manifest_times(self, stage: str) -> set[tuple[Path, int]]:
        patterns = _STAGE_FOLDERS.get(stage, ())
        paths = [path for p in patterns for path in self.out.glob(f"{p}/{MANIFEST_FILE}")]
        return {(path, path.stat().st_mtime_ns) for path in paths}


def check_uploaded(recipe: Recipe) -> None:
    """Check in a Ray job that the recipe's files were sent with the project.

    Raises:
        InputError: names a file that Ray's copy of the project lacks.
    """
    references = [recipe.task.train, recipe.task.dev, recipe.task.test, recipe.task_da]
    for reference in filter(None, references):
        path = Path(reference)
        is_file = not reference.startswith(DOCSTRINGS_SCHEME)
        if is_file and in_job_copy(path) and not path.exists():
            raise InputError(f"{path}: no such file{missing_hint(path)}")


def open_run(recipe_file: Path, out: Path | None) -> Run:
    """The run of a recipe; its results go to `runs/NAME` unless told otherwise."""
    recipe = load_recipe(recipe_file)
    check_uploaded(recipe)
    out = output_path(out or Path("runs") / recipe.name)
    return Run(recipe, out, out / "units")
