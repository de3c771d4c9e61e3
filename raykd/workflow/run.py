"""Layout of a run directory."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from raykd.errors import InputError
from raykd.evaluation.baselines import BASELINES
from raykd.models.student.init import Init
from raykd.storage.checked_json import read_informative
from raykd.storage.locations import Location, location_of
from raykd.storage.manifest import FILE_NAME as MANIFEST_FILE
from raykd.storage.outputs import in_job_copy, missing_hint, output_path
from raykd.storage.schemas import EXAMPLES_FILE, TEXT_FILE, TIMES_FILE
from raykd.tasks.config import SPLITS
from raykd.tasks.store import read_task
from raykd.tasks.task import Task
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME, Recipe
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.recipe.variants import Chain, Step, Text
from raykd.workflow.stage_times import timed

# The folders of each stage's output below the run directory.
STAGE_FOLDERS = {
    "docstrings": ("docstrings",),
    "task": ("task", "evaluation_sets/*"),
    "ingest": ("units", "units@*"),
    "retrieve": ("queries", "hits", "hits@*", "tune/corpora/hits*"),
    "contextualize": ("sample", "sample@*", "texts/*", "augmented", "tune/corpora/texts/*"),
    "generator": ("generator/*",),
    "teacher": ("teacher",),
    "inject": ("teacher_outputs/*", "students/*/injected"),
    "adapt": ("teacher_outputs/*", "students/*/adapted"),
    "evaluate": ("predictions/*", "analysis/*", "differences", "costs", "baseline_costs/*"),
}


@dataclass(frozen=True)
class Run:
    """A recipe, its output directory, and the shards of its corpus.

    Tuning uses a separate run on fewer examples that shares the corpora. Outputs of a named corpus
    have its name as a suffix: `hits@news`.

    Attributes:
        units: folder of the shards of the unnamed corpus; those of named ones are next to it.
        validation: examples used in place of the dev split, as a search with held-out rows does.
        whole_task: folder of the task that this run's rows are part of, whose evaluation splits its
            corpora are cleaned of, too.
        corpora: folder of hits, contextualized corpora and teacher outputs on these, in place of
            the run directory, as tuning has it.
        last_rank: rank up to which the contextualized corpora are read; None for all of them.
        stop_after: epochs after which trainings end, chosen by cross-validation: of the `teacher`,
            and of adaptations by `student_name`.
    """

    recipe: Recipe
    out: Path
    units: Path
    validation: Path | None = None
    whole_task: Path | None = None
    corpora: Path | None = None
    last_rank: int | None = None
    stop_after: Mapping[str, int] = field(default_factory=dict)

    def resolve(self, reference: str) -> Location:
        """Resolve a path of the recipe to a file or URL."""
        if reference.startswith(DOCSTRINGS_SCHEME):
            name = reference.removeprefix(DOCSTRINGS_SCHEME)
            return self.out / "docstrings" / f"{name}.parquet"
        return location_of(reference)

    def units_of(self, corpus: str | None) -> Path:
        """Shards of a general corpus, see `Recipe.all_corpora`."""
        return _of(self.units, corpus)

    def sample_of(self, corpus: str | None) -> Path:
        """Units that represent a general corpus in figures, next to its shards."""
        return _of(self.units.with_name("sample"), corpus)

    @property
    def task_folder(self) -> Path:
        """The task's examples."""
        return self.out / "task"

    def evaluation_set(self, name: str) -> Path:
        """The examples of an evaluation set."""
        return self.out / "evaluation_sets" / name

    def predictions(self, model: Path, evaluation_set: str | None = None) -> Path:
        """Predictions of a model, given by its folder, on the task's rows or on a set."""
        name = str(model.relative_to(self.out)).replace("/", "-")
        return _of(self.out / "predictions" / name, evaluation_set)

    @property
    def queries(self) -> Path:
        """Queries of the task's sentences."""
        return self.out / "queries"

    def hits_in(self, corpus: str | None) -> Path:
        """Hits of the task's sentences in a general corpus."""
        return _of((self.corpora or self.out) / "hits", corpus)

    def embeddings_of(self, corpus: str | None) -> Path:
        """Embeddings of a general corpus, shared like the corpus."""
        return _of(self.units.with_name("embeddings"), corpus)

    def kept_of(self, corpus: str | None) -> Path:
        """Statistics and hits that a search of a grown general corpus uses again."""
        return _of(self.units.with_name("kept"), corpus)

    @property
    def teacher(self) -> Path:
        """The fine-tuned teacher, or its scores of the task's rows."""
        return self.out / "teacher"

    def generator(self, name: str) -> Path:
        """The masked language model whose head is trained for the generator of a phase."""
        return self.out / "generator" / name

    def replaced_folders(self) -> list[Path]:
        """Return folders that may contain user files, but that a stage replaces as a whole."""
        made = (
            self.out / name
            for name in ("docstrings", "static", "setfit", "int8_teacher", "student")
        )
        hits = (self.hits_in(corpus) for corpus in (None, *self.recipe.corpora))
        sets = (self.evaluation_set(one.name) for one in self.recipe.evaluation.sets)
        return [*made, self.task_folder, *sets, self.queries, *hits, self.teacher]

    def split(self, name: str) -> Path:
        """Examples of a split: train, dev or test."""
        if name == "dev" and self.validation is not None:
            return self.validation
        return self.task_folder / f"{name}.parquet"

    def training_text(self, text: Text) -> Path:
        """Folder of a text that is made from a general corpus."""
        folder = self._of_text(text)
        if self.has_slice(text):
            return folder / "slices" / f"{text.name}-rank-{self.last_rank}"
        return folder / "texts" / text.name

    def text(self, text: Text) -> Path:
        """The rows of a text of an injection."""
        if text.kind == "task":
            return self.split("train")
        if text.kind == "task_da":
            assert self.recipe.task_da is not None
            return Path(self.recipe.task_da) / TEXT_FILE
        return self.training_text(text) / TEXT_FILE

    def labeled_rows(self, name: str) -> Path:
        """The rows of an adaptation, see `Recipe.adaptation_text`."""
        return self.augmented_rows / EXAMPLES_FILE if name == "augmented" else self.split(name)

    @property
    def augmented_rows(self) -> Path:
        """The augmented rows that students adapt on."""
        return self.out / "augmented"

    def teacher_outputs(self, name: str) -> Path:
        """The teacher's outputs on the rows of an adaptation, see `Recipe.adaptation_text`."""
        if self.recipe.teacher.members:
            return self.teacher / name
        return self.out / "teacher_outputs" / name

    def step_outputs(self, step: Step) -> Path:
        """The teacher's outputs on the text of a step, or on the longer text that it begins."""
        if self.recipe.teacher.members:
            return self.teacher / "train"  # its outputs are those on the training rows
        return self._of_text(step.text) / "teacher_outputs" / step.outputs_name

    def has_slice(self, text: Text) -> bool:
        """Return whether a text is the first part of a longer one."""
        return self.last_rank is not None and text.kind == "contextualized"

    def _of_text(self, text: Text) -> Path:
        if self.corpora is not None and text.kind == "contextualized":
            return self.corpora
        return self.out

    @property
    def tokens(self) -> Path:
        """Tokens of long texts."""
        return self.out / "tokens"

    def adapted(self, variant: str, init: Init, seed: int) -> Path:
        """An adapted student."""
        return self._student(variant, init, seed) / "adapted"

    def injected(self, chain: Chain, init: Init, seed: int) -> Path:
        """The student that injections made, which variants with the same first steps share."""
        return self._student(chain.name, init, seed) / "injected"

    def _student(self, name: str, init: Init, seed: int) -> Path:
        return self.out / "students" / f"{student_name(name, init)}-seed{seed}"

    def analysis(self, variant: str, init: Init, seed: int) -> Path:
        """Comparison of an adapted student with the teacher."""
        return self.out / "analysis" / f"{variant}-{init}-seed{seed}"

    @property
    def differences(self) -> Path:
        """Differences between the scores of models, with their intervals."""
        return self.out / "differences"

    def baseline_cost(self, name: str) -> Path:
        """Inference cost of a baseline."""
        return self.out / "baseline_costs" / name

    @property
    def costs(self) -> Path:
        """Inference costs of teacher and students."""
        return self.out / "costs"

    def task(self) -> Task:
        """The task's splits, as the stage `task` wrote them."""
        return read_task(self.task_folder)

    @property
    def has_dev(self) -> bool:
        """False where all labeled rows are trained on, after cross-validation."""
        return self.recipe.task.folds is None or self.recipe.task.fold is not None

    def students(self) -> Iterator[tuple[str, Init, int]]:
        """Variant, init and seed of every student."""
        for init in self.recipe.student.inits:
            for variant in self.recipe.variants:
                if variant not in BASELINES:
                    for seed in self.recipe.seeds:
                        yield variant, init, seed

    def injections(self) -> Iterator[tuple[Chain, Init, int]]:
        """Steps, init and seed of every injected student, also of those that others begin from."""
        for init in self.recipe.student.inits:
            for chain in self.recipe.chains:
                for seed in self.recipe.seeds:
                    yield chain, init, seed

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Record the times of a stage unless it was skipped."""
        folders = STAGE_FOLDERS.get(stage, ())
        return timed(self.out, stage, tuple(f"{folder}/{MANIFEST_FILE}" for folder in folders))

    def times_s(self) -> dict[str, float]:
        """Wall time of the last work of each stage, in seconds, in the stages' order."""
        found = read_informative(self.out / TIMES_FILE)
        return {stage: found[stage] for stage in STAGE_FOLDERS if stage in found}


def student_name(variant: str, init: str) -> str:
    """Name of the students that differ in their seed only."""
    return f"{variant}-{init}"


def check_uploaded(recipe: Recipe) -> None:
    """Check in a Ray job that the recipe's files were uploaded with the project.

    Raises:
        InputError: names a file that Ray's copy of the project lacks.
    """
    references = [path for split in SPLITS for path in recipe.task.files_of(split)]
    references += [recipe.task_da] if recipe.task_da else []
    references += [path for member in recipe.teacher.members for path in member.scores.paths]
    for reference in [*references, *recipe.evaluation.paths]:
        path = Path(reference)
        is_file = not reference.startswith(DOCSTRINGS_SCHEME)
        if is_file and in_job_copy(path) and not path.exists():
            raise InputError(f"{path}: no such file{missing_hint(path)}")


def _of(folder: Path, name: str | None) -> Path:
    """Return the folder, or the one of a named corpus or evaluation set next to it."""
    return folder if name is None else folder.with_name(f"{folder.name}@{name}")


def open_run(recipe_file: Path, out: Path | None, *, needs_dev: bool = True) -> Run:
    """Open the run of a recipe; the default output directory is `runs/NAME`.

    Args:
        recipe_file: file of the recipe.
        out: output directory; None for the default.
        needs_dev: whether a recipe for cross-validation is refused.

    Raises:
        InputError: the recipe is not valid, or is one for cross-validation.
    """
    recipe = load_recipe(recipe_file)
    if needs_dev and recipe.task.folds is not None and recipe.task.fold is None:
        raise InputError(
            f"{recipe_file}: task.folds: this command needs dev rows, and the recipe holds out "
            f"folds of the training rows in turn; use raykd crossval {recipe_file}, or name dev "
            "rows with task.dev instead"
        )
    check_uploaded(recipe)
    out = output_path(out or Path("runs") / recipe.name)
    return Run(recipe, out, out / "units")
