"""Trials of a sweep on Ray Tune, with values from Optuna: one student per trial."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray import tune as ray_tune
from ray.tune.schedulers import (
    ASHAScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher

from raykd import progress
from raykd.cluster.companions import Companions, LostCompanionError
from raykd.cluster.devices import assigned_device
from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import SharedFolder, shared_folder
from raykd.errors import InputError
from raykd.storage.remote.task_files import TaskFiles
from raykd.training.distributed.placement import threads_on
from raykd.training.trainers import Worker
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_config import StopUnit, TuneConfig
from raykd.workflow.tune.failures import FailedShare
from raykd.workflow.tune.interrupts import Interrupts
from raykd.workflow.tune.resources import trial_resources
from raykd.workflow.tune.running import RunningTrials, SweepWatcher
from raykd.workflow.tune.sampling.space import own_values, params_of
from raykd.workflow.tune.sampling.study import Study
from raykd.workflow.tune.sweep import Sweep
from raykd.workflow.tune.trial.costs import student_costs
from raykd.workflow.tune.trial.events import AdaptationEvents
from raykd.workflow.tune.trial.outcome import ERROR, Outcomes
from raykd.workflow.tune.trial.setting import Setting
from raykd.workflow.tune.trial.training import reason_of, train_trial

# Key of what Tune carries to a trial.
_VALUES = "values"
# Times that a trial whose process or node was lost is started again.
_MAX_RETRIES = 1


def run_trials(
    setting: Setting,
    num_trials: int,
    longest: int,
    sweep: Sweep,
    watchers: Sequence[SweepWatcher],
) -> None:
    """Run and record trials of a sweep.

    Args:
        setting: values shared by the trials.
        num_trials: trials to run, in addition to those that have ended.
        longest: epochs of the longest trial, or steps where the scheduler counts these.
        sweep: records of the ended trials.
        watchers: objects that show the sweep.

    Raises:
        InputError: too large a share of the trials failed.
    """
    config = setting.run.recipe.tune
    assert config is not None
    resources = trial_resources(setting.run.recipe)
    metrics = tuple(dict.fromkeys((setting.metric, *setting.run.task().metrics)))
    numbers = [trial.number for trial in sweep.trials()]
    running = RunningTrials(metrics, resources, numbers)
    interrupts, failures = Interrupts(), FailedShare(config.max_failed_share)
    recipe = setting.run.recipe
    first = own_values(recipe) if config.enqueue else None
    if first is not None and params_of(first, config.space) is None and not sweep.trials():
        progress.say("tune: the recipe's own values are not in the space, so no trial has them")
    study = Study(
        recipe.name,
        sweep.study_file,
        config,
        targets=setting.targets,
        is_valid=partial(_is_recipe, recipe),
        first=first,
        ended=[trial.values for trial in sweep.trials()],
    )
    outcomes = Outcomes(setting, student_costs(setting))
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(
            partial(
                _trial,
                setting=setting,
                folder=shared_folder(),
                num_workers=resources.num_workers,
                num_threads=threads_on(resources.per_worker["CPU"]),
            ),
            # A trial's processes start together, or wait together.
            ray_tune.PlacementGroupFactory([resources.per_worker] * resources.num_workers),
        ),
        tune_config=ray_tune.TuneConfig(
            metric=setting.metric,
            mode="max",
            num_samples=num_trials,
            max_concurrent_trials=resources.num_at_once,
            # A new process per trial would spend seconds on imports.
            reuse_actors=True,
            search_alg=_Searcher(study, running, setting.metric, config.stop_unit, outcomes),
            scheduler=_scheduler(config, longest),
        ),
        run_config=ray_tune.RunConfig(
            name="ray",
            storage_path=str(setting.folder),
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=_MAX_RETRIES),
            callbacks=[_Recorder(sweep, running, outcomes, watchers, interrupts, failures)],
        ),
    )
    with interrupts, failures:
        tuner.fit()


class _Searcher(Searcher):
    """Searcher of Ray Tune that proposes the values of a study, as JSON, and reports to it."""

    def __init__(
        self,
        study: Study,
        running: RunningTrials,
        metric: str,
        unit: StopUnit,
        outcomes: Outcomes,
    ) -> None:
        super().__init__()
        self._study, self._running = study, running
        self._score, self._unit, self._outcomes = metric, unit, outcomes
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        proposed = self._study.ask()
        if proposed is None:
            return Searcher.FINISHED
        self._numbers[trial_id], values = proposed
        self._running.number(trial_id)
        # Tune would flatten lists and mappings.
        return {_VALUES: json.dumps(values)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        score, time = float(result.get(self._score, math.nan)), result.get(self._unit, 0)
        if math.isfinite(score) and time > 0:
            self._study.report(self._numbers[trial_id], math.ceil(time), score)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers[trial_id]
        if error or result is None:
            self._study.end(number, "failed")
            return
        if ERROR not in result:
            self.on_trial_result(trial_id, result)
        outcome = self._outcomes.of(trial_id, result)
        facts = {} if outcome.error is None else {"error": outcome.error}
        self._study.end(number, outcome.how, outcome.values, facts)

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: a sweep is resumed by its own records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a sweep is resumed by its own records")


def _scheduler(config: TuneConfig, longest: int) -> TrialScheduler | None:
    match config.scheduler:
        case "asha":
            return ASHAScheduler(
                time_attr=config.stop_unit, max_t=longest, grace_period=config.grace
            )
        case "median":
            return MedianStoppingRule(
                time_attr=config.stop_unit,
                grace_period=config.grace,
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


# Of this process, which runs one trial after the other.
_companions = Companions()


def _trial(
    config: Mapping[str, Any],
    setting: Setting,
    folder: SharedFolder | None,
    num_workers: int,
    num_threads: int,
) -> None:
    """Train one student; an error is reported, since Tune would try again, but no lost process."""
    trial_id = ray_tune.get_context().get_trial_id()
    events = AdaptationEvents(setting.main_metric, ray_tune.report)
    train = partial(
        _train_on_worker,
        values=json.loads(config[_VALUES]),
        trial_id=trial_id,
        setting=setting,
        folder=folder,
        num_workers=num_workers,
        num_threads=num_threads,
    )
    device = assigned_device()
    backend = "gloo" if device.type == "cpu" else "nccl"
    try:
        with _companions.process_group(num_workers, train, backend):
            num_parameters = train(0, events=events)
    except LostCompanionError:
        raise
    except Exception as error:
        trace = setting.folder / "errors" / f"{trial_id}.txt"
        with present(folder, TaskFiles(writes=(trace,))):
            reason = reason_of(error, trace)
        last = {setting.metric: math.nan, **events.last, "whole": 0, ERROR: reason}
        ray_tune.report({"epoch": 0, "step": 0, **last, "done": True})
    else:
        # Report this last: Tune may end this process after the report of the last epoch.
        ray_tune.report({**events.last, "num_parameters": num_parameters})


def _train_on_worker(
    rank: int,
    *,
    values: Mapping[str, Any],
    trial_id: str,
    setting: Setting,
    folder: SharedFolder | None,
    num_workers: int,
    num_threads: int,
    events: AdaptationEvents | None = None,
) -> int:
    worker = Worker(rank, num_workers, assigned_device(), num_threads)
    with present(folder, setting.files()):
        return train_trial(values, trial_id, setting, folder, worker, events)


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
        outcomes: Outcomes,
        watchers: Sequence[SweepWatcher],
        interrupts: Interrupts,
        failures: FailedShare,
    ) -> None:
        self._sweep, self._running, self._outcomes = sweep, running, outcomes
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
        outcome = self._outcomes.of(trial.trial_id, trial.last_result or {})
        self._end(trial, outcome.error, outcome.costs)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, _lost_process(trial))

    def _end(self, trial: Any, error: str | None, costs: Mapping[str, float] | None = None) -> None:
        ended = self._running.end(trial.trial_id, _values_of(trial), error)
        ended = replace(ended, costs=dict(costs or {}))
        self._sweep.append(ended)
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
