"""Training of the student of one trial, with the same function as a run."""

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import distributed

from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import SharedFolder
from raykd.errors import InputError, shortened
from raykd.storage.remote.task_files import TaskFiles
from raykd.training.phase.job import PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.recovery import translate_training_errors
from raykd.training.trainers import Worker
from raykd.workflow.training_stages import adapt_job, inject_job
from raykd.workflow.tune.trial.corpora import run_of
from raykd.workflow.tune.trial.events import AdaptationEvents, TrialEvents
from raykd.workflow.tune.trial.folds import FoldStudents
from raykd.workflow.tune.trial.setting import Setting, fold_folder, scored, tracked

_MAX_REASON_LENGTH = 400


def train_trial(
    values: Mapping[str, Any],
    trial_id: str,
    setting: Setting,
    folder: SharedFolder | None,
    worker: Worker,
    events: AdaptationEvents | None,
) -> int:
    """Inject and adapt one student; return its number of parameters.

    Args:
        values: values of the searched keys.
        trial_id: name of the trial, and of its folder.
        setting: values shared by the trials.
        folder: the command's files, if this machine may not see them.
        worker: this process, in a process group if several train the trial's student.
        events: reports the scores of each epoch but the last, on the first worker.
    """
    name, trained = f"trial {trial_id}", setting.trained(trial_id)
    if setting.folds:
        assert worker.size == 1
        job = _train_on_folds(values, name, trained, setting, folder, worker, events)
    else:
        job = _train_student(values, name, trained, setting, folder, worker, events)
    return _of_first(lambda: _num_parameters(job), worker)


def _train_on_folds(
    values: Mapping[str, Any],
    name: str,
    trained: Path,
    setting: Setting,
    folder: SharedFolder | None,
    worker: Worker,
    events: AdaptationEvents | None,
) -> PhaseJob:
    """Train a student per fold, and report the scores of all held-out rows together.

    With `keep: best`, the number of epochs of each is chosen by the scores of the other folds.
    """
    students = FoldStudents(setting, values, trained)

    def train(number: int, stop_after: int | None = None) -> PhaseJob:
        out = fold_folder(trained, number, stopped=stop_after is not None)
        own, part = f"{name} fold {number}", setting.parts[number - 1]
        return _train_student(
            students.values, own, out, part, folder, worker, TrialEvents(), stop_after=stop_after
        )

    assert events is not None
    none_yet = dict.fromkeys(setting.run.task().metrics, math.nan)
    for number in students.numbers:
        job = train(number)
        events.on_folds(job.num_epochs() * number / len(setting.folds), none_yet)
    for number, stop_after in students.stops().items():
        train(number, stop_after)
    for epoch, means in students.mean_curve().items():
        events.on_folds(epoch, means)
    events.on_folds(job.num_epochs(), students.scores(worker.device), is_last=True)
    return job


def _train_student(
    values: Mapping[str, Any],
    name: str,
    out: Path,
    setting: Setting,
    folder: SharedFolder | None,
    worker: Worker,
    events: TrialEvents | None,
    *,
    stop_after: int | None = None,
) -> PhaseJob:
    """Inject and adapt one student; return its adaptation."""
    run = run_of(setting, values, "trial")
    init = run.recipe.student.inits[0]
    injected: Path | None = None
    for chain in setting.chains:
        job = inject_job(run, chain, init, setting.seed, injected=injected)
        if _is_unfinished(job, worker):  # else the injection shared by all trials applies
            job = replace(job, out=setting.folder / "injected" / job.key()[:16])
            job.out.parent.mkdir(parents=True, exist_ok=True)
            # A concurrent trial may need the same injection.
            lock = FileLock(job.out.with_suffix(".lock")) if worker.rank == 0 else nullcontext()
            with (
                lock,
                _present(folder, TaskFiles(writes=(job.out,)), worker),
                translate_training_errors(job),
            ):
                if _is_unfinished(job, worker):
                    run_phase(tracked(job, name, setting), worker, events=TrialEvents())
        injected = job.out
    job = adapt_job(run, setting.variant, init, setting.seed, injected=injected)
    # A trial that is started again has the same id, and so resumes from its checkpoint.
    job = replace(scored(job, run.recipe), out=out, stop_after=stop_after)
    job.out.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(events, AdaptationEvents):
        events.begin(job.unfinished, keeps_best=job.config.keep == "best")
    elif events is not None and job.finished() is not None:
        return job  # of a trial that is started again, with completed folds
    job = tracked(job, name, setting)
    with _present(folder, job.files(), worker), translate_training_errors(job):
        run_phase(job, worker, events=events)
    return job


def _num_parameters(job: PhaseJob) -> int:
    manifest = job.finished()
    assert manifest is not None
    return int(manifest.counts["num_parameters"])


def _is_unfinished(job: PhaseJob, worker: Worker) -> bool:
    """Return whether a job is to be done, as the first worker sees it: all have to agree."""
    return bool(_of_first(lambda: int(job.finished() is None), worker))


def _of_first(number: Callable[[], int], worker: Worker) -> int:
    """Return a number of the first worker on every worker."""
    numbers = [number() if worker.rank == 0 else 0]
    if worker.size > 1:
        distributed.broadcast_object_list(numbers, 0)
    return numbers[0]


@contextmanager
def _present(folder: SharedFolder | None, files: TaskFiles, worker: Worker) -> Iterator[None]:
    """Copy files to the machines of the workers; the first one sends back what is written."""
    if worker.rank > 0:
        # The first worker sends the checkpoints of a lost process before the others copy them.
        distributed.barrier()
        files = TaskFiles(files.reads + files.writes)
    with present(folder, files):
        if worker.rank == 0 and worker.size > 1:
            distributed.barrier()
        yield


def reason_of(error: Exception, trace: Path) -> str:
    """Reason why a trial failed; the traceback of an unexpected error is written to a file."""
    if isinstance(error, InputError):
        return str(error)
    trace.parent.mkdir(parents=True, exist_ok=True)
    trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    message = shortened(" ".join(str(error).split()), _MAX_REASON_LENGTH)
    return f"{type(error).__name__}: {message} (traceback: {trace})"
