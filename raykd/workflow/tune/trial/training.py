"""Training of the student of one trial, with the same function as a run."""

import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from raykd.cluster.devices import assigned_device
from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import SharedFolder
from raykd.errors import InputError, shortened
from raykd.storage.remote.task_files import TaskFiles
from raykd.training.phases import run_phase
from raykd.training.recovery import translate_training_errors
from raykd.training.trainers import Worker
from raykd.workflow.training_stages import adapt_job, inject_job
from raykd.workflow.tune.trial.corpora import run_of
from raykd.workflow.tune.trial.events import AdaptationEvents, TrialEvents
from raykd.workflow.tune.trial.setting import Setting, scored, tracked

_MAX_REASON_LENGTH = 400


def train_trial(
    values: Mapping[str, Any],
    trial_id: str,
    setting: Setting,
    folder: SharedFolder | None,
    events: AdaptationEvents,
    num_threads: int,
) -> int:
    """Inject and adapt one student in this process; return its number of parameters.

    Args:
        values: values of the searched keys.
        trial_id: name of the trial, and of its folder.
        setting: values shared by the trials.
        folder: the command's files, if this machine may not see them.
        events: reports the scores of each epoch but the last.
        num_threads: threads of the training.
    """
    run = run_of(setting, values, "trial")
    init = run.recipe.student.inits[0]
    worker = Worker(device=assigned_device(), num_threads=num_threads)
    injected: Path | None = None
    name = f"trial {trial_id}"
    for chain in setting.chains:
        job = inject_job(run, chain, init, setting.seed, injected=injected)
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
    job = adapt_job(run, setting.variant, init, setting.seed, injected=injected)
    # A trial that is started again has the same id, and so resumes from its checkpoint.
    job = replace(scored(job, run.recipe), out=setting.folder / "trials" / trial_id)
    events.begin(job.unfinished, keeps_best=job.config.keep == "best")
    job = tracked(job, name, setting)
    with present(folder, job.files()), translate_training_errors(job):
        run_phase(job, worker, events=events)
    manifest = job.finished()
    assert manifest is not None
    return int(manifest.counts["num_parameters"])


def reason_of(error: Exception, trace: Path) -> str:
    """Reason why a trial failed; the traceback of an unexpected error is written to a file."""
    if isinstance(error, InputError):
        return str(error)
    trace.parent.mkdir(parents=True, exist_ok=True)
    trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    message = shortened(" ".join(str(error).split()), _MAX_REASON_LENGTH)
    return f"{type(error).__name__}: {message} (traceback: {trace})"
