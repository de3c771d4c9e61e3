"""Tuning of a recipe's settings with Ray Tune and Optuna: one student per trial.

A trial trains with the same function as a run (`training.phases.run_phase`), in its own process. It
is scored on rows that are not reported: on the dev split if a test split is reported, else on rows
held out of the train split.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
from filelock import FileLock
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from raykd import progress
from raykd.cluster.connection import connect
from raykd.cluster.devices import assigned_device
from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.models.student.init import Init
from raykd.storage.manifest import (
    Draft,
    digest_of_directory,
    digest_of_file,
    write_once,
)
from raykd.storage.remote import working_folder
from raykd.storage.remote.working_folder import WorkingFolder
from raykd.tasks.store import hold_out
from raykd.training.distributed.placement import threads_on
from raykd.training.events import TrainingEvents
from raykd.training.logging.records import Record
from raykd.training.logging.tracking import Tracking
from raykd.training.phases import PhaseJob, run_phase
from raykd.training.pipeline import train_phases
from raykd.training.recovery import translate_training_errors
from raykd.training.trainers import Worker
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.checks.tune_checks import (
    check_grace,
    check_space,
    most_epochs,
    section_of,
    tuned_variant,
)
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.tune_space import Parameter
from raykd.workflow.recipe.variants import Chain
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages
from raykd.workflow.training_stages import adapt_job, cache_outputs, inject_job
from raykd.workflow.tune.best import RECIPE_FILE, TRIALS_FILE, Trial, problems_of, rank, read_trials
from raykd.workflow.tune.resources import trial_resources

STUDY_FILE = "study.journal"
_HELD_OUT_FRACTION = 0.2
# Keys that change no result.
_RESOURCE_KEYS = {"cpus_per_trial", "gpus_per_trial"}


@dataclass(frozen=True)
class _Setting:
    """Values shared by all trials; `run` contains the rows that trials train on."""

    run: Run
    folder: Path
    variant: str
    metric: str

    @property
    def seed(self) -> int:
        return self.run.recipe.seeds[0]

    @property
    def init(self) -> Init:
        return self.run.recipe.student.inits[0]

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Injections in order."""
        chain = self.run.recipe.chain_of(self.variant)
        return () if chain is None else chain.prefixes()


def tune(run: Run) -> None:
    """Tune; write RUN/tune/result/trials.json, and RUN/tune/study.journal for live monitoring.

    Raises:
        InputError: no section `tune`, a key in it that a trial cannot change, or no trial ended.
    """
    recipe = run.recipe
    if recipe.tune is None:
        raise InputError(f"recipe {recipe.name}: no section 'tune', so there is nothing to tune")
    check_space(recipe)
    trial_resources(recipe)
    setting = _prepare(run)
    rows = setting.run.labeled_rows(recipe.adaptation_text(setting.variant))
    num_epochs = most_epochs(recipe, pq.read_metadata(rows).num_rows)
    check_grace(recipe, num_epochs)
    inputs = {
        "train": digest_of_file(rows),
        "validation": digest_of_file(setting.run.split("dev")),
        "teacher": digest_of_directory(setting.run.teacher),
    }
    for chain in setting.chains:
        text = chain.last.text
        inputs[f"text {text.name}"] = digest_of_file(setting.run.text(text))
    settings = {
        "tune": recipe.tune.model_dump(mode="json", by_alias=True, exclude=_RESOURCE_KEYS),
        **{
            key: section.model_dump(mode="json") if (section := getattr(recipe, key)) else None
            for key in ("student", "adaptation")
        },
        **{
            name: phase.model_dump(mode="json")
            for name, phase in recipe.injection_sections().items()
        },
        "variant": setting.variant,
        "seed": setting.seed,
    }
    out = setting.folder / "result"
    write_once(out, "tune", settings, inputs, partial(_search, setting, recipe, num_epochs))
    trials = read_trials(out / TRIALS_FILE)
    if problems := problems_of(trials):
        num_failed = len(trials) - len(rank(trials))
        progress.say(
            f"tune: {num_failed} of {len(trials)} trials ended without a score: "
            f"{'; '.join(problems)}"
        )
    progress.say(f"tune: {out / TRIALS_FILE}; raykd best {run.out} shows the best one")


def _prepare(run: Run) -> _Setting:
    """Choose the variant to tune and the validation rows; build the outputs shared by all trials.

    If no test split is reported, the validation rows are removed from the train split before its
    sentences select the corpus and before the teacher is trained.
    """
    recipe = run.recipe
    check_models(run)
    run_stages(run, "ingest")
    folder = run.out / "tune"
    tuned = run
    if run.task().test is None:
        tuned = replace(run, out=folder / "run")
        hold_out(run.task_folder, _HELD_OUT_FRACTION, tuned.task_folder)
    run_stages(tuned, "teacher", first="retrieve")
    setting = _Setting(tuned, folder, tuned_variant(recipe), run.task().main_metric)
    own_steps = {chain.last for chain in setting.chains}
    cached = [step for step in recipe.steps_on_outputs() if step in own_steps]
    cache_outputs(tuned, cached, train=True)
    assert recipe.tune is not None
    changed = {section_of(path) for path in recipe.tune.space}
    for chain in setting.chains:
        if changed & {"student", chain.last.section}:
            break  # trials that change these keys need their own injections from here on
        job = inject_job(tuned, chain, setting.init, setting.seed)
        job = _tracked(job, "all trials", setting)
        train_phases(
            [job], recipe.workers, label="inject", storage=folder / "ray_train", only_model=True
        )
    return setting


def _search(setting: _Setting, recipe: Recipe, num_epochs: int, draft: Draft) -> None:
    _quiet_tune()
    connect()
    config = recipe.tune
    assert config is not None
    resources = trial_resources(recipe)
    study = setting.folder / STUDY_FILE
    # Restart an interrupted study: the injections of its trials are kept.
    study.unlink(missing_ok=True)
    shutil.rmtree(setting.folder / "trials", ignore_errors=True)
    with progress.track("tune", config.num_trials, "trials") as advance:
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
                num_samples=config.num_trials,
                max_concurrent_trials=resources.num_at_once,
                # A new process per trial would spend seconds on imports.
                reuse_actors=True,
                search_alg=OptunaSearch(
                    storage=JournalStorage(JournalFileBackend(str(study))),
                    study_name=setting.run.recipe.name,
                    sampler=TPESampler(seed=config.seed),
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
                callbacks=[_Advance(advance)],
            ),
        )
        grid = tuner.fit()
    trials = [_ended(number, grid[number], setting) for number in range(len(grid))]
    if not rank(trials):
        raise InputError(f"tune: no trial ended with a score: {'; '.join(problems_of(trials))}")
    summary = {
        "metric": setting.metric,
        "variant": setting.variant,
        "seed": setting.seed,
        "validation": "dev" if setting.run.task().test is not None else "rows held out of train",
        "trials": [asdict(trial) for trial in trials],
    }
    (draft.directory / TRIALS_FILE).write_text(json.dumps(summary, indent=2, allow_nan=False))
    (draft.directory / RECIPE_FILE).write_text(dump_yaml(recipe))
    for name in ("trials", "injected", "ray"):
        shutil.rmtree(setting.folder / name, ignore_errors=True)
    draft.counts["num_trials"] = len(trials)
    draft.counts["num_failed"] = len(trials) - len(rank(trials))


def _quiet_tune() -> None:
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
    values: Mapping[str, Any], setting: _Setting, folder: WorkingFolder | None, num_threads: int
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
                    run_phase(_tracked(job, name, setting), worker, events=_TrialEvents())
        injected = job.out
    job = adapt_job(run, setting.variant, setting.init, setting.seed, injected=injected)
    trial_folder = setting.folder / "trials" / trial_id

    job = replace(job, out=trial_folder, num_scores=job.num_epochs())
    events = _AdaptationEvents(setting.metric, keeps_best=job.config.keep == "best")
    with translate_training_errors(job):
        run_phase(_tracked(job, name, setting), worker, events=events)
    # Report this last: Tune may end this process after the report of the last epoch.
    ray_tune.report(events.last)


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


def _tracked(job: PhaseJob, name: str, setting: _Setting) -> PhaseJob:
    """Return the job with tracking as a run of the study in the trackers of `report_to`."""
    recipe = setting.run.recipe
    tracking = Tracking(recipe.report_to, f"{recipe.name} tune", setting.folder, waits=True)
    return replace(job, name=f"{name} {job.name}", tracking=tracking)


def _ended(number: int, result: ray_tune.Result, setting: _Setting) -> Trial:
    metrics = result.metrics or {}
    epochs = math.ceil(metrics.get("epoch", 0))
    score = float(metrics.get(setting.metric, math.nan))
    return Trial(
        number=number,
        values=dict(result.config or {}),
        epochs=epochs,
        score=score if math.isfinite(score) else None,
        whole=bool(metrics.get("whole", 0)),
        error=_reason(result.error),
    )


def _reason(error: Exception | None) -> str | None:
    """Return the last line of a trial's traceback without the exception class."""
    if error is None:
        return None
    last = str(error).strip().splitlines()[-1]
    return last.removeprefix("raykd.errors.InputError: ")


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


class _Advance(ray_tune.Callback):
    """Callback that advances the progress bar when a trial ends, complete or stopped early."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def __reduce__(self) -> tuple[type[ray_tune.Callback], tuple[()]]:
        """Pickle as an empty callback: a progress bar cannot be pickled, and Tune does so."""
        return ray_tune.Callback, ()

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        self._advance(1)

    def on_trial_error(self, *_: Any, **__: Any) -> None:
        self._advance(1)
