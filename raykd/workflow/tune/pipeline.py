"""Trials of a sweep on Ray Tune, with values from Optuna: one student per trial.

A trial trains with the same function as a run (`training.phases.run_phase`).
"""

import json
import logging
import math
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from ray import tune as ray_tune
from ray.tune.schedulers import (
    ASHAScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher

from raykd import progress
from raykd.cluster.devices import assigned_device
from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import SharedFolder, shared_folder
from raykd.errors import InputError, shortened
from raykd.models.student.init import Init
from raykd.storage.remote.task_files import TaskFiles
from raykd.training.distributed.placement import threads_on
from raykd.training.logging.tracking import Tracking
from raykd.training.phases import PhaseJob, run_phase
from raykd.training.recovery import translate_training_errors
from raykd.training.trainers import Worker
from raykd.workflow.checks.tune_checks import tuned_variant
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_config import TuneConfig
from raykd.workflow.recipe.variants import Chain
from raykd.workflow.run import Run
from raykd.workflow.training_stages import adapt_job, inject_job
from raykd.workflow.tune.failures import FailedShare
from raykd.workflow.tune.interrupts import Interrupts
from raykd.workflow.tune.resources import trial_resources
from raykd.workflow.tune.running import RunningTrials, SweepWatcher
from raykd.workflow.tune.space import own_values, params_of
from raykd.workflow.tune.study import Study
from raykd.workflow.tune.sweep import Sweep
from raykd.workflow.tune.trial_events import AdaptationEvents, TrialEvents

# Keys of what Tune carries to and from a trial.
_VALUES, _ERROR = "values", "error"
# Times that a trial whose process or node was lost is started again.
_MAX_RETRIES = 1
_MAX_REASON_LENGTH = 400


@dataclass(frozen=True)
class Setting:
    """Values shared by all trials; `run` contains the rows that trials train on."""

    run: Run
    folder: Path
    variant: str
    metric: str

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
    def init(self) -> Init:
        """The recipe's first initialization."""
        return self.run.recipe.student.inits[0]

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Injections in order."""
        chain = self.run.recipe.chain_of(self.variant)
        return () if chain is None else chain.prefixes()

    def files(self) -> TaskFiles:
        """Files that every trial reads; the validation rows may be others than the task's."""
        read = ("task", "augmented", "texts", "generator", "teacher", "teacher_outputs", "students")
        return TaskFiles((*(self.run.out / name for name in read), self.run.split("dev")))


def setting_of(run: Run) -> Setting:
    """Values shared by the trials of a run; without a test split, trials use fewer train rows."""
    tuned = run
    if run.task().test is None:
        tuned = replace(run, out=run.out / "tune" / "run")
    variant = tuned_variant(run.recipe)
    return Setting(tuned, run.out / "tune", variant, run.task().main_metric)


def run_trials(
    setting: Setting,
    num_trials: int,
    num_epochs: int,
    sweep: Sweep,
    watchers: Sequence[SweepWatcher],
) -> None:
    """Run and record trials of a sweep.

    Args:
        setting: values shared by the trials.
        num_trials: trials to run, in addition to those that have ended.
        num_epochs: largest number of epochs of a trial.
        sweep: records of the ended trials.
        watchers: objects that show the sweep.

    Raises:
        InputError: too large a share of the trials failed.
    """
    config = setting.run.recipe.tune
    assert config is not None
    resources = trial_resources(setting.run.recipe)
    metrics = setting.run.task().metrics
    running = RunningTrials(metrics, resources.num_cpus, resources.num_gpus)
    interrupts, failures = Interrupts(), FailedShare(config.max_failed_share)
    recipe = setting.run.recipe
    first = own_values(recipe) if config.enqueue else None
    if first is not None and params_of(first, config.space) is None and not sweep.trials():
        progress.say("tune: the recipe's own values are not in the space, so no trial has them")
    study = Study(
        recipe.name,
        sweep.study_file,
        config,
        is_valid=partial(_is_recipe, recipe),
        first=first,
        ended=[trial.values for trial in sweep.trials()],
    )
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(
            partial(
                _trial,
                setting=setting,
                folder=shared_folder(),
                num_threads=threads_on(resources.num_cpus),
            ),
            resources.request,
        ),
        tune_config=ray_tune.TuneConfig(
            metric=setting.metric,
            mode="max",
            num_samples=num_trials,
            max_concurrent_trials=resources.num_at_once,
            # A new process per trial would spend seconds on imports.
            reuse_actors=True,
            search_alg=_Searcher(study, setting.metric),
            scheduler=_scheduler(config, num_epochs),
        ),
        run_config=ray_tune.RunConfig(
            name="ray",
            storage_path=str(setting.folder),
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=_MAX_RETRIES),
            callbacks=[_Recorder(sweep, running, watchers, interrupts, failures)],
        ),
    )
    with interrupts, failures:
        tuner.fit()


class _Searcher(Searcher):
    """Searcher of Ray Tune that proposes the values of a study, as JSON, and reports to it."""

    def __init__(self, study: Study, metric: str) -> None:
        super().__init__()
        self._study, self._objective = study, metric
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        proposed = self._study.ask()
        if proposed is None:
            return Searcher.FINISHED
        self._numbers[trial_id], values = proposed
        # Tune would flatten lists and mappings.
        return {_VALUES: json.dumps(values)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        score, epoch = float(result.get(self._objective, math.nan)), result.get("epoch", 0)
        if math.isfinite(score) and epoch > 0:
            self._study.report(self._numbers[trial_id], math.ceil(epoch), score)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers.pop(trial_id)
        if error or result is None or _ERROR in result:
            facts = {} if result is None else {"error": str(result.get(_ERROR))}
            self._study.end(number, "failed", facts=facts)
            return
        self._numbers[trial_id] = number
        self.on_trial_result(trial_id, result)
        score = float(result[self._objective])
        if not result.get("whole"):
            self._study.end(number, "stopped")
        elif math.isfinite(score):
            self._study.end(number, "whole", [score])
        else:
            self._study.end(number, "failed", facts={"error": "its score is not a finite number"})

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: a sweep is resumed by its own records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a sweep is resumed by its own records")


def _scheduler(config: TuneConfig, num_epochs: int) -> TrialScheduler | None:
    match config.scheduler:
        case "asha":
            return ASHAScheduler(
                time_attr="epoch", max_t=num_epochs, grace_period=config.grace_epochs
            )
        case "median":
            return MedianStoppingRule(
                time_attr="epoch",
                grace_period=config.grace_epochs,
                # A pause would lose the trial's process, and its epochs.
                min_time_slice=math.inf,  # type: ignore[arg-type]  # any larger time; inf never is
            )
        case "none":
            return None


def _is_recipe(recipe: Recipe, values: Mapping[str, Any]) -> bool:
    try:
        recipe.with_values(values, "trial")
    except InputError:
        return False
    return True


def quiet_tune() -> None:
    """Disable Tune's handling of Ctrl-C and its console output.

    On Ctrl-C, Tune would return the completed trials as if the study had ended. It would also print
    tables, hints and tracebacks; the reason of a failed trial is in the result.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if os.environ.get("RAYKD_DEBUG") != "1":
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        optuna.logging.set_verbosity(optuna.logging.WARNING)


def _trial(
    config: Mapping[str, Any], setting: Setting, folder: SharedFolder | None, num_threads: int
) -> None:
    """Train one student in this process; an error is reported, since Tune would try again."""
    trial_id = ray_tune.get_context().get_trial_id()
    events = AdaptationEvents(setting.metric, ray_tune.report)
    try:
        with present(folder, setting.files()):
            values = json.loads(config[_VALUES])
            num_parameters = _train(values, trial_id, setting, folder, events, num_threads)
    except Exception as error:
        trace = setting.folder / "errors" / f"{trial_id}.txt"
        with present(folder, TaskFiles(writes=(trace,))):
            reason = _reason_of(error, trace)
        last = {setting.metric: math.nan, **events.last, "whole": 0, _ERROR: reason}
        ray_tune.report({"epoch": 0, **last, "done": True})
    else:
        # Report this last: Tune may end this process after the report of the last epoch.
        ray_tune.report({**events.last, "num_parameters": num_parameters})


def _train(
    values: Mapping[str, Any],
    trial_id: str,
    setting: Setting,
    folder: SharedFolder | None,
    events: AdaptationEvents,
    num_threads: int,
) -> int:
    """Inject and adapt one student; return its number of parameters."""
    run = replace(setting.run, recipe=setting.run.recipe.with_values(values, "trial"))
    worker = Worker(device=assigned_device(), num_threads=num_threads)
    injected: Path | None = None
    name = f"trial {trial_id}"
    for chain in setting.chains:
        job = inject_job(run, chain, setting.init, setting.seed, injected=injected)
        if job.finished() is None:  # else the injection shared by all trials applies
            job = replace(job, out=setting.folder / "injected" / job.key()[:16])
            job.out.parent.mkdir(parents=True, exist_ok=True)
            # A concurrent trial may need the same injection.
            with (
                FileLock(job.out.with_suffix(".lock")),
                present(folder, TaskFiles(writes=(job.out,))),
                translate_training_errors(job),
            ):
                if job.finished() is None:
                    run_phase(tracked(job, name, setting), worker, events=TrialEvents())
        injected = job.out
    job = adapt_job(run, setting.variant, setting.init, setting.seed, injected=injected)
    # A trial that is started again has the same id, and so resumes from its checkpoint.
    job = replace(job, out=setting.folder / "trials" / trial_id, num_scores=job.num_epochs())
    events.begin(job.unfinished, keeps_best=job.config.keep == "best")
    job = tracked(job, name, setting)
    with present(folder, job.files()), translate_training_errors(job):
        run_phase(job, worker, events=events)
    manifest = job.finished()
    assert manifest is not None
    return int(manifest.counts["num_parameters"])


def _reason_of(error: Exception, trace: Path) -> str:
    """Reason why a trial failed; the traceback of an unexpected error is written to a file."""
    if isinstance(error, InputError):
        return str(error)
    trace.parent.mkdir(parents=True, exist_ok=True)
    trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    message = shortened(" ".join(str(error).split()), _MAX_REASON_LENGTH)
    return f"{type(error).__name__}: {message} (traceback: {trace})"


def tracked(job: PhaseJob, name: str, setting: Setting) -> PhaseJob:
    """Return the job with tracking as a run of the study in the trackers of `report_to`."""
    recipe = setting.run.recipe
    tracking = Tracking(recipe.report_to, f"{recipe.name} tune", setting.folder, waits=True)
    return replace(job, name=f"{name} {job.name}", tracking=tracking)


def _lost_process(trial: Any) -> str:
    """Reason of a trial that Tune gave up: its process was lost, for all errors are reported.

    Tune copies the traceback to its storage (`trial.get_error`) only after its callbacks.
    """
    text = ""
    if trial.error_file is not None:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    cause = "out of memory" if "OutOfMemory" in text else "probably out of memory"
    return (
        f"its process was lost {1 + _MAX_RETRIES} times, {cause}; lower max_concurrent_trials or "
        "batch_size, or use larger machines"
    )


class _Recorder(ray_tune.Callback):
    """Callback that records each ended trial, and informs the watchers."""

    def __init__(
        self,
        sweep: Sweep,
        running: RunningTrials,
        watchers: Sequence[SweepWatcher],
        interrupts: Interrupts,
        failures: FailedShare,
    ) -> None:
        self._sweep, self._running = sweep, running
        self._watchers, self._interrupts, self._failures = watchers, interrupts, failures

    def __reduce__(self) -> tuple[type[ray_tune.Callback], tuple[()]]:
        """Pickle as an empty callback: a progress bar cannot be pickled, and Tune does so."""
        return ray_tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._running.start(trial.trial_id, _values_of(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._running.report(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, (trial.last_result or {}).get(_ERROR))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, _lost_process(trial))

    def _end(self, trial: Any, error: str | None) -> None:
        ended = self._sweep.append(self._running.end(trial.trial_id, _values_of(trial), error))
        for watcher in self._watchers:
            watcher.on_end(ended, trial.trial_id)
        self._interrupts.check()
        self._failures.count(ended, self._sweep.trials)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        for watcher in self._watchers:
            watcher.on_tick(self._running)
        self._failures.check()


def _values_of(trial: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(trial.config[_VALUES])
    return values
