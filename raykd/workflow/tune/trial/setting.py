"""Values and files that all trials of a sweep share."""

from dataclasses import dataclass, replace
from pathlib import Path

from raykd.storage.remote.task_files import TaskFiles
from raykd.training.logging.tracking import Tracking
from raykd.training.phases import PhaseJob
from raykd.workflow.checks.corpus_keys import searched_corpus_keys
from raykd.workflow.checks.tune_checks import tuned_variant
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.variants import Chain
from raykd.workflow.run import Run

CORPORA_FOLDER = "corpora"


@dataclass(frozen=True)
class Setting:
    """Values shared by all trials; `run` contains the rows that trials train on.

    The first of `targets` is the score. `main_metric` is the task's, which chooses the epoch of a
    student, in a trial as in a run.
    """

    run: Run
    folder: Path
    variant: str
    targets: tuple[str, ...]
    main_metric: str

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
        rows = "dev" if self.run.task().test is not None else "rows held out of train"
        return rows if self.run.validation is None else f"{rows}, without those held out to confirm"

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Injections in order."""
        chain = self.run.recipe.chain_of(self.variant)
        return () if chain is None else chain.prefixes()

    def files(self) -> TaskFiles:
        """Files that every trial reads; the validation rows may be others than the task's."""
        read = ("task", "augmented", "texts", "generator", "teacher", "teacher_outputs", "students")
        files = [self.run.out / name for name in read]
        if (corpora := self.run.corpora) is not None:
            files += [corpora / "texts", corpora / "teacher_outputs"]
        return TaskFiles((*files, self.run.split("dev")))


def setting_of(run: Run) -> Setting:
    """Values shared by the trials of a run; without a test split, trials use fewer train rows."""
    tuned = run
    if run.task().test is None:
        tuned = replace(run, out=run.out / "tune" / "run")
    if searched_corpus_keys(run.recipe):
        tuned = replace(tuned, corpora=run.out / "tune" / CORPORA_FOLDER)
    variant, main_metric = tuned_variant(run.recipe), run.task().main_metric
    config = run.recipe.tune
    targets = (config.targets if config else None) or (main_metric,)
    return Setting(tuned, run.out / "tune", variant, targets, main_metric)


def scored(job: PhaseJob, recipe: Recipe) -> PhaseJob:
    """Return the job with a score after each epoch, or every `tune.grace_steps` steps."""
    assert recipe.tune is not None
    return replace(job, num_scores=job.num_epochs(), score_every=recipe.tune.grace_steps)


def tracked(job: PhaseJob, name: str, setting: Setting) -> PhaseJob:
    """Return the job with tracking as a run of the study in the trackers of `report_to`."""
    recipe = setting.run.recipe
    tracking = Tracking(recipe.report_to, f"{recipe.name} tune", setting.folder, waits=True)
    return replace(job, name=f"{name} {job.name}", tracking=tracking)
