"""Values and files that all trials of a sweep share."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from raykd.storage.remote.task_files import TaskFiles
from raykd.training.logging.tracking import Tracking
from raykd.training.phase.job import MODEL_FOLDER, PhaseJob
from raykd.workflow.checks.corpus_keys import searched_corpus_keys
from raykd.workflow.checks.tune_checks import tuned_variant
from raykd.workflow.crossval.folds import Crossval, without_choices
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.variants import Chain
from raykd.workflow.run import Run

CORPORA_FOLDER = "corpora"


@dataclass(frozen=True)
class Setting:
    """Values shared by all trials; `run` contains the rows that trials train on.

    The first of `targets` is the score. `main_metric` is the task's, which chooses the epoch of a
    student, in a trial as in a run. `folds` are the runs of the folds of a sweep with `tune.folds`,
    of which `run` is then the first; a trial trains a student on each.
    """

    run: Run
    folder: Path
    variant: str
    targets: tuple[str, ...]
    main_metric: str
    folds: tuple[Run, ...] = ()

    @property
    def parts(self) -> tuple["Setting", ...]:
        """Setting of each student of a trial: one per fold; without folds, the setting itself."""
        return tuple(replace(self, run=run, folds=()) for run in self.folds) or (self,)

    @property
    def metric(self) -> str:
        """Metric that is the score of a trial."""
        return self.targets[0]

    @property
    def seed(self) -> int:
        """The recipe's first seed."""
        return self.run.recipe.seeds[0]

    @property
    def validation(self) -> str:
        """Rows that trials are scored on, in words."""
        if self.folds:
            num_rows = sum(pq.read_metadata(run.split("dev")).num_rows for run in self.folds)
            return f"the {num_rows} held-out rows of {len(self.folds)} folds of train"
        rows = "dev" if self.run.task().test is not None else "rows held out of train"
        return rows if self.run.validation is None else f"{rows}, without those held out to confirm"

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Injections in order."""
        chain = self.run.recipe.chain_of(self.variant)
        return () if chain is None else chain.prefixes()

    def files(self) -> TaskFiles:
        """Files that every trial reads; the validation rows may be others than the task's."""
        if self.folds:
            return sum((part.files() for part in self.parts), TaskFiles())
        read = ("task", "augmented", "texts", "generator", "teacher", "teacher_outputs", "students")
        files = [self.run.out / name for name in read]
        if (corpora := self.run.corpora) is not None:
            files += [corpora / "texts", corpora / "teacher_outputs"]
        return TaskFiles((*files, self.run.split("dev")))

    def trained(self, trial_id: str) -> Path:
        """Folder of the trainings of a trial."""
        return self.folder / "trials" / trial_id

    def model(self, trial_id: str) -> Path:
        """The student of a trial; of several, that of the first fold."""
        trained = self.trained(trial_id)
        return (fold_folder(trained, 1) if self.folds else trained) / MODEL_FOLDER


def setting_of(run: Run) -> Setting:
    """Values shared by the trials of a run; without a test split, trials use fewer train rows."""
    tuned, folds = run, fold_runs(run)
    if folds:
        tuned = folds[0]
    elif run.task().test is None:
        tuned = replace(run, out=run.out / "tune" / "run", whole_task=run.task_folder)
    if searched_corpus_keys(run.recipe):
        tuned = replace(tuned, corpora=run.out / "tune" / CORPORA_FOLDER)
    variant, main_metric = tuned_variant(run.recipe), run.task().main_metric
    config = run.recipe.tune
    targets = (config.targets if config else None) or (main_metric,)
    return Setting(tuned, run.out / "tune", variant, targets, main_metric, folds)


def fold_runs(run: Run) -> tuple[Run, ...]:
    """Runs of the folds of `tune.folds`, whose dev rows are those of the fold; empty without it.

    Their teachers keep the last state: the number of epochs is chosen over folds.
    """
    recipe = run.recipe
    if recipe.tune is None or recipe.tune.folds is None:
        return ()
    crossval = crossval_of(run)
    values = without_choices(recipe, ["teacher"])
    runs = []
    for number in crossval.numbers:
        fold = {}
        if recipe.task.folds is not None:
            fold = {"task.folds": crossval.num_folds, "task.fold": number}
        changed = recipe.with_values({**values, **fold}, "tune.folds")
        folder = crossval.fold_folder(number)
        runs.append(Run(changed, folder, run.units, whole_task=run.task_folder))
    return tuple(runs)


def crossval_of(run: Run) -> Crossval:
    """The cross-validation that makes the teachers of `fold_runs`."""
    assert run.recipe.tune is not None
    assert run.recipe.tune.folds is not None
    return Crossval(run.recipe, run.out / "tune", run.recipe.tune.folds)


def fold_folder(trained: Path, number: int, *, stopped: bool = False) -> Path:
    """Output of the training of a student on a fold.

    Args:
        trained: folder of the student's trainings.
        number: number of the fold, from 1.
        stopped: whether it is the training that ends after a chosen number of epochs.
    """
    return trained / f"fold-{number}{'-stopped' if stopped else ''}"


def scored(job: PhaseJob, recipe: Recipe) -> PhaseJob:
    """Return the job with a score after each epoch, or every `tune.grace_steps` steps."""
    assert recipe.tune is not None
    return replace(job, num_scores=job.num_epochs(), score_every=recipe.tune.grace_steps)


def tracked(job: PhaseJob, name: str, setting: Setting) -> PhaseJob:
    """Return the job with tracking as a run of the study in the trackers of `report_to`."""
    recipe = setting.run.recipe
    tracking = Tracking(recipe.report_to, f"{recipe.name} tune", setting.folder, waits=True)
    return replace(job, name=f"{name} {job.name}", tracking=tracking)
