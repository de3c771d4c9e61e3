"""Trials of a sweep on Ray Tune, with values from Optuna: one student per trial.

A trial trains with the same function as a run (`training.phases.run_phase`).
"""

import logging
import math
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from raykd import progress
from raykd.cluster.devices import assigned_device
from raykd.models.student.init import Init
from raykd.storage.remote import working_folder
from raykd.storage.remote.working_folder import WorkingFolder
from raykd.training.distributed.placement import threads_on
from raykd.training.events import TrainingEvents
from raykd.training.logging.records import Record
from raykd.training.logging.tracking import Tracking
from raykd.training.phases import PhaseJob, run_phase
from raykd.training.recovery import translate_training_errors
from raykd.training.trainers import Worker
from raykd.workflow.recipe.tune_space import Parameter
from raykd.workflow.recipe.variants import Chain
from raykd.workflow.run import Run
from raykd.workflow.training_stages import adapt_job, inject_job
from raykd.workflow.tune.resources import trial_resources
from raykd.workflow.tune.running import RunningTrials, SweepWatcher
from raykd.workflow.tune.sweep import Sweep


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
        return "dev" if self.run.task().test is not None else "rows held out of train"

    @property
    def init(self) -> Init:
        """The recipe's first initialization."""
        return self.run.recipe.student.inits[0]

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Injections in order."""
        chain = self.run.recipe.chain_of(self.variant)
        return () if chain is None else chain.prefixes()


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
    """
    config = setting.run.recipe.tune
    assert config is not None
    resources = trial_resources(setting.run.recipe)
    metrics = setting.run.task().metrics
    running = RunningTrials(metrics, resources.num_cpus, resources.num_gpus)
    interrupts = _Interrupts()
    storage = JournalStorage(JournalFileBackend(str(sweep.study_file)))
    num_known = _end_interrupted(storage, setting.run.recipe.name)
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(
            partial(
                _trial,
                setting=setting,
                folder=working_folder.current(),
                num_threads=threads_on(resources.num_cpus),
            ),
            resources.request,
        ),
        param_space={path: _domain(p) for path, p in config.space.items()},
        tune_config=ray_tune.TuneConfig(
            metric=setting.metric,
            mode="max",
            num_samples=num_trials,
            max_concurrent_trials=resources.num_at_once,
            # A new process per trial would spend seconds on imports.
            reuse_actors=True,
            search_alg=_Searcher(
                storage=storage,
                study_name=setting.run.recipe.name,
                # With the same seed, the first values would be those of the first trials again.
                sampler=TPESampler(seed=(config.seed + num_known) % 2**32),
            ),
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=num_epochs,
                grace_period=config.grace_epochs,
            ),
        ),
        run_config=ray_tune.RunConfig(
            name="ray",
            storage_path=str(setting.folder),
            verbose=0,
            callbacks=[_Recorder(sweep, running, watchers, interrupts)],
        ),
    )
    with interrupts:
        tuner.fit()


def _end_interrupted(storage: JournalStorage, name: str) -> int:
    """Mark the trials of a killed process as failed; return the number of all present trials."""
    if name not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(study_name=name, storage=storage)
    for trial in study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING]):
        study.tell(trial.number, state=TrialState.FAIL)  # word list: ok
    return len(study.trials)


class _Searcher(OptunaSearch):
    """Searcher that ends trials stopped early as pruned, not as complete."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        is_whole = result is not None and bool(result.get("whole"))
        super().on_trial_complete(trial_id, result if is_whole else None, error)


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
    values: Mapping[str, Any], setting: Setting, folder: WorkingFolder | None, num_threads: int
) -> None:
    """Inject and adapt one student in this process; report each epoch of its adaptation."""
    if folder is not None:
        folder.check()
    run = replace(setting.run, recipe=setting.run.recipe.with_values(values, "trial"))
    worker = Worker(device=assigned_device(), num_threads=num_threads)
    injected: Path | None = None
    trial_id = ray_tune.get_context().get_trial_id()
    name = f"trial {trial_id}"
    for chain in setting.chains:
        job = inject_job(run, chain, setting.init, setting.seed, injected=injected)
        if job.finished() is None:  # else the injection shared by all trials applies
            job = replace(job, out=setting.folder / "injected" / job.key()[:16])
            job.out.parent.mkdir(exist_ok=True)
            # A concurrent trial may need the same injection.
            with FileLock(job.out.with_suffix(".lock")), translate_training_errors(job):
                if job.finished() is None:
                    run_phase(tracked(job, name, setting), worker, events=_TrialEvents())
        injected = job.out
    job = adapt_job(run, setting.variant, setting.init, setting.seed, injected=injected)
    trial_folder = setting.folder / "trials" / trial_id

    job = replace(job, out=trial_folder, num_scores=job.num_epochs())
    events = _AdaptationEvents(setting.metric, keeps_best=job.config.keep == "best")
    with translate_training_errors(job):
        run_phase(tracked(job, name, setting), worker, events=events)
    manifest = job.finished()
    assert manifest is not None
    num_parameters = manifest.counts["num_parameters"]
    # Report this last: Tune may end this process after the report of the last epoch.
    ray_tune.report({**events.last, "num_parameters": num_parameters})


class _TrialEvents(TrainingEvents):
    """Events of a training in a trial."""

    def on_tracker_lost(self, tracker: str, problem: str) -> None:
        """Print to the trial's log, its only output."""
        progress.say(f"report_to: {tracker}: {problem}; the trial continues without it")


class _AdaptationEvents(_TrialEvents):
    """Events of a trial's adaptation: Tune gets the scores of each epoch but the last.

    `last` has the scores of the latest epoch, or the best ones so far if the best model is kept.
    """

    def __init__(self, metric: str, *, keeps_best: bool) -> None:
        self.last: dict[str, float] = {}
        self._metric, self._keeps_best = metric, keeps_best

    def on_record(self, record: Record, is_last: bool) -> None:
        scores = record.scores
        if not scores:
            return
        if self._keeps_best:
            scores = better(self.last, scores, self._metric)
        self.last = {"epoch": record.epoch, "whole": int(is_last), **scores}
        if not is_last:
            ray_tune.report(self.last)


def better(
    before: Mapping[str, float], scores: Mapping[str, float], metric: str
) -> dict[str, float]:
    """Return the better of two sets of scores by the metric; `before` may be empty."""
    if before.get(metric, -math.inf) > scores[metric]:
        return {name: before[name] for name in scores}
    return dict(scores)


def tracked(job: PhaseJob, name: str, setting: Setting) -> PhaseJob:
    """Return the job with tracking as a run of the study in the trackers of `report_to`."""
    recipe = setting.run.recipe
    tracking = Tracking(recipe.report_to, f"{recipe.name} tune", setting.folder, waits=True)
    return replace(job, name=f"{name} {job.name}", tracking=tracking)


def _reason(trial: Any) -> str | None:
    """Return the last line of a failed trial's traceback without the exception class.

    Tune copies the traceback to its storage (`trial.get_error`) only after its callbacks.
    """
    if trial.error_file is None:
        return None
    lines = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last.removeprefix("raykd.errors.InputError: ") or "no reason is known"


def _domain(parameter: Parameter) -> Any:
    """Convert a range, both ends included, to a domain of Ray Tune."""
    if parameter.choice is not None:
        return ray_tune.choice(list(parameter.choice))
    if parameter.int_range is not None:
        low, high = parameter.int_range
        draw = ray_tune.lograndint if parameter.log else ray_tune.randint
        return draw(low, high + 1)
    assert parameter.float_range is not None
    draw = ray_tune.loguniform if parameter.log else ray_tune.uniform
    return draw(*parameter.float_range)


class _Recorder(ray_tune.Callback):
    """Callback that records each ended trial, and informs the watchers."""

    def __init__(
        self,
        sweep: Sweep,
        running: RunningTrials,
        watchers: Sequence[SweepWatcher],
        interrupts: "_Interrupts",
    ) -> None:
        self._sweep, self._running = sweep, running
        self._watchers, self._interrupts = watchers, interrupts

    def __reduce__(self) -> tuple[type[ray_tune.Callback], tuple[()]]:
        """Pickle as an empty callback: a progress bar cannot be pickled, and Tune does so."""
        return ray_tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._running.start(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._running.report(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        ended = self._running.end(trial.trial_id, trial.config, _reason(trial))
        ended = self._sweep.append(ended)
        for watcher in self._watchers:
            watcher.on_end(ended)
        self._interrupts.check()

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        for watcher in self._watchers:
            watcher.on_tick(self._running)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)


class _Interrupts:
    """Context manager that remembers Ctrl-C.

    A KeyboardInterrupt can be lost in a library: on a busy machine a study continued to its end
    after Ctrl-C.
    """

    def __init__(self) -> None:
        self._is_interrupted = False
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if callable(self._before):
                signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        if callable(self._before):
            signal.signal(signal.SIGINT, self._before)
        self.check()

    def _handle(self, number: int, frame: Any) -> None:
        self._is_interrupted = True
        self._before(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self._is_interrupted:
            raise KeyboardInterrupt
