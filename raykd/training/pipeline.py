"""Training on Ray: phases as tasks or through Ray Train, teacher outputs as tasks."""

import os
import shutil
import traceback
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray import train
from ray.train.collective import barrier, broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from raykd import progress
from raykd.cluster import capacity, metrics, tasks
from raykd.cluster.connection import connect
from raykd.cluster.devices import assigned_device
from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import shared_folder
from raykd.cluster.preemption import PreemptionWatcher
from raykd.cluster.progress_actor import ProgressThread, start_progress_actor
from raykd.errors import FULL_DISK
from raykd.models.threads import one_thread
from raykd.storage.remote.task_files import TaskFiles
from raykd.training.distributed.config import WorkersConfig
from raykd.training.distributed.placement import (
    cpus_per_worker,
    groups_at_once,
    resolved,
    shares,
    threads_on,
    uses_gpu,
    uses_ray_train,
    workers_that_fit,
)
from raykd.training.events import TrainingEvents
from raykd.training.logging.records import StepRecord
from raykd.training.masked_lm_head.head import HeadJob, run_head
from raykd.training.phase.job import PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.recovery import (
    killed_out_of_memory,
    report_resume_point,
    translate_training_errors,
)
from raykd.training.teacher_cache import OutputsJob
from raykd.training.trainers import Worker

_STEPS_PER_MESSAGE = 10
_MAX_WORKER_FAILURES = 3
# By default Ray Train retries a worker group that cannot be placed forever.
_MAX_START_FAILURES = 5
# An elastic group survives as many lost workers as a task does retries. Each loss is followed by
# failed starts, since Ray Train counts a lost node's resources for up to twenty seconds.
_MAX_ELASTIC_WORKER_FAILURES = 8
_MAX_ELASTIC_START_FAILURES = 32
_ELASTIC_START_TIMEOUT_S = "10"
# A group that grows restarts from the last checkpoint.
_RESIZE_EVERY_S = 60.0


# Training of one model in a phase, or of a masked-LM head.
TrainingJob = PhaseJob | HeadJob
Job = TypeVar("Job", PhaseJob | HeadJob, OutputsJob)


def train_phases(
    jobs: Sequence[TrainingJob],
    workers: WorkersConfig,
    *,
    label: str,
    storage: Path,
    only_model: bool = False,
) -> None:
    """Run the unfinished jobs, `models_at_once` of them concurrently.

    A Ray task trains models one after the other in one process. Ray Train, for several workers per
    model (DDP) and on GPUs, starts about seven processes per group of workers (15 s on two cores).

    Args:
        jobs: jobs to complete.
        workers: workers per job.
        label: label of the progress bar.
        storage: folder for Ray Train's files.
        only_model: see `placement.cpus_per_worker`.

    Raises:
        InputError: a job's input is wrong.
        Exception: as raised in a worker, after the concurrent jobs have ended.
        ray.train.TrainingFailedError: workers were lost more often than is tolerated.
    """
    pending = _pending(jobs)
    if not pending:
        return
    connect()
    if (folder := shared_folder()) is not None and folder.server is not None:
        for job in pending:
            job.tracking.check_shared()
    workers = resolved(workers)
    num_cpus = cpus_per_worker(workers, only_model=only_model)
    for job in pending:
        report_resume_point(job, threads_on(num_cpus))
    # Longest jobs first, so that no long job runs alone at the end.
    pending.sort(key=lambda job: job.num_steps(), reverse=True)
    progress_actor = start_progress_actor()
    num_steps = sum(job.num_steps() for job in pending)
    with (
        progress.track(label, num_steps, "steps") as advance,
        ProgressThread(progress_actor, advance),
    ):
        in_groups = [job for job in pending if isinstance(job, PhaseJob)]
        if uses_ray_train(workers) and in_groups:
            assert len(in_groups) == len(pending), "a head is trained by a task"
            _train_in_groups(in_groups, workers, num_cpus, progress_actor, label, storage)
        else:
            _train_alone(pending, workers, num_cpus, progress_actor, label)
    unfinished = [job.name for job in pending if job.finished() is None]
    assert not unfinished, unfinished


def _pending(jobs: Sequence[Job]) -> list[Job]:
    """Jobs to do; of the others, remove what a process that ended after its last commit left."""
    pending = []
    for job in jobs:
        if job.finished() is None:
            pending.append(job)
        else:
            shutil.rmtree(job.unfinished, ignore_errors=True)
    return pending


def _train_alone(
    jobs: Sequence[TrainingJob],
    workers: WorkersConfig,
    num_cpus: float,
    progress_actor: Any,
    label: str,
) -> None:
    try:
        tasks.for_each(
            _phase_task,
            jobs,
            label=label,
            num_cpus=num_cpus,
            num_gpus=1.0 if uses_gpu(workers) else 0.0,
            num_at_once=workers.models_at_once,
            shared={
                "progress_actor": progress_actor,
                "num_threads": threads_on(num_cpus),
                "every_s": workers.checkpoint_every_s,
            },
            files=lambda job: job.files(),
            shows_progress=False,
        )
    except tasks.LostProcessError as error:
        raise killed_out_of_memory(jobs[error.number]) from error


def _phase_task(job: TrainingJob, *, progress_actor: Any, num_threads: int, every_s: float) -> None:
    with translate_training_errors(job), PreemptionWatcher() as has_notice:
        run = partial(run_head, job) if isinstance(job, HeadJob) else partial(run_phase, job)
        run(
            Worker(device=assigned_device(), num_threads=num_threads),
            checkpoint_every_s=every_s,
            events=_ReportedEvents(progress_actor, job, has_notice),
        )


def _train_in_groups(
    jobs: Sequence[PhaseJob],
    workers: WorkersConfig,
    num_cpus: float,
    progress_actor: Any,
    label: str,
    storage: Path,
) -> None:
    """Train each group's share of the jobs one after the other."""
    capacity.check_cpu_request(label, num_cpus)
    groups = shares(jobs, groups_at_once(workers))
    names = [f"{label}-{uuid.uuid4().hex[:12]}" for _ in groups]
    trainers = [
        _trainer(share, workers, num_cpus, len(groups), progress_actor, name, storage)
        for share, name in zip(groups, names, strict=True)
    ]
    try:
        failures = [
            (error, share)
            for error, share in zip(_fit_all(trainers), groups, strict=True)
            if error is not None
        ]
        problem: BaseException | None = ray.get(progress_actor.error.remote())
        if problem or failures:
            raise problem or _translate_group_failure(*failures[0])
    finally:
        for name in names:
            shutil.rmtree(storage / name, ignore_errors=True)


def _trainer(
    jobs: list[PhaseJob],
    workers: WorkersConfig,
    num_cpus: float,
    num_groups: int,
    progress_actor: Any,
    name: str,
    storage: Path,
) -> TorchTrainer:
    scaling: dict[str, Any] = {  # typed as in Ray Train V1, which has no ranges
        "num_workers": workers_that_fit(workers, num_groups, num_cpus),
        "use_gpu": uses_gpu(workers),
        "resources_per_worker": {"CPU": num_cpus},
        "elastic_resize_monitor_interval_s": max(_RESIZE_EVERY_S, workers.checkpoint_every_s),
    }
    is_elastic = workers.min_workers < workers.max_workers
    if is_elastic:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", _ELASTIC_START_TIMEOUT_S)
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={
            "jobs": jobs,
            "progress_actor": progress_actor,
            "num_threads": threads_on(num_cpus),
            "every_s": workers.checkpoint_every_s,
            "shared_folder": shared_folder(),
            "labels": tasks.labels_of("training"),
        },
        torch_config=TorchConfig(backend="nccl" if uses_gpu(workers) else "gloo"),
        scaling_config=train.ScalingConfig(**scaling),
        run_config=train.RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=train.FailureConfig(
                max_failures=_MAX_ELASTIC_WORKER_FAILURES if is_elastic else _MAX_WORKER_FAILURES,
                controller_failure_limit=(  # type: ignore[call-arg]  # typed as V1's, which lacks it
                    _MAX_ELASTIC_START_FAILURES if is_elastic else _MAX_START_FAILURES
                ),
            ),
        ),
    )


def _fit_all(trainers: Sequence[TorchTrainer]) -> list[BaseException | None]:
    """Run all groups until they end; returns each group's exception, or None."""
    with ThreadPoolExecutor(len(trainers)) as pool:
        fits = [pool.submit(trainer.fit) for trainer in trainers]
        try:
            wait(fits)
        except KeyboardInterrupt:
            # `fit` only returns when its workers do.
            ray.shutdown()
            raise
    return [fit.exception() for fit in fits]


def _translate_group_failure(error: BaseException, jobs: Sequence[PhaseJob]) -> BaseException:
    """Error to report for a failed group: out of memory if a process was killed for it."""
    failures = [*getattr(error, "worker_failures", {}).values()]
    for failure in [*failures, getattr(error, "controller_failure", None)]:
        cause = getattr(failure, "health_check_failure", failure)
        if isinstance(cause, ray.exceptions.OutOfMemoryError):
            unfinished = next(job for job in jobs if job.finished() is None)
            return killed_out_of_memory(unfinished)
    return error


def cache_teacher_outputs(jobs: Sequence[OutputsJob], *, use_gpu: bool) -> None:
    """Write the outputs of the unfinished jobs, the parts of all texts in parallel."""
    pending = _pending(jobs)
    if not pending:
        return
    parts = [(job, start, stop) for job in pending for start, stop in job.parts()]
    tasks.for_each(
        _outputs_task,
        parts,
        label="teacher",
        unit="parts",
        num_gpus=float(use_gpu),
        files=lambda part: part[0].files_of_part(part[1]),
    )
    for job in pending:
        job.join_parts()


def _outputs_task(part: tuple[OutputsJob, int, int]) -> None:
    job, start, stop = part
    with one_thread():
        job.write_part(start, stop, assigned_device())


def _train_on_worker(config: dict[str, Any]) -> None:
    context = train.get_context()
    worker = Worker(
        context.get_world_rank(), context.get_world_size(), get_device(), config["num_threads"]
    )
    files = sum((job.files() for job in config["jobs"]), TaskFiles())
    with ExitStack() as stack:
        # The first worker sends the checkpoints of a lost group before the others copy them.
        if worker.rank == 0:
            stack.enter_context(present(config["shared_folder"], files))
        barrier()
        if worker.rank > 0:
            reads = TaskFiles(files.reads + files.writes)
            stack.enter_context(present(config["shared_folder"], reads))
        _train_jobs(config, worker)


def _train_jobs(config: dict[str, Any], worker: Worker) -> None:
    jobs: list[PhaseJob] = config["jobs"]
    progress_actor = config["progress_actor"]
    first = worker.rank == 0
    # After a failure the group restarts: all workers must agree on the unfinished jobs.
    unfinished = [i for i, job in enumerate(jobs) if job.finished() is None] if first else []
    for i in broadcast_from_rank_zero(unfinished):
        # A failure in one group ends the others too, after their current jobs.
        if broadcast_from_rank_zero(first and ray.get(progress_actor.error.remote()) is not None):
            return
        notices = PreemptionWatcher(_nodes_of_group()) if first else nullcontext(lambda: False)
        try:
            with (
                progress.labeled(**config["labels"]),
                translate_training_errors(jobs[i]),
                notices as has_notice,
            ):
                run_phase(
                    jobs[i],
                    worker,
                    checkpoint_every_s=config["every_s"],
                    events=_ReportedEvents(progress_actor, jobs[i], has_notice),
                )
        except Exception as error:
            if _is_transient(error):
                raise
            # Reported to the driver, since Ray Train would only raise it after retries.
            error.add_note(traceback.format_exc())
            ray.get(progress_actor.report_error.remote(error))
            # A failure also ends workers that wait for this one. The group that Ray Train starts
            # next sees the reported error.
            raise
        barrier()


def _nodes_of_group() -> list[str] | None:
    group = ray.util.get_current_placement_group()
    if group is None:
        return None
    return list(ray.util.placement_group_table(group)["bundles_to_node_id"].values())


def _is_transient(error: Exception) -> bool:
    """True if a restart of the group may help: a lost worker, network or device."""
    if isinstance(error, OSError):
        return error.errno not in FULL_DISK
    return isinstance(error, RuntimeError | ray.exceptions.RayError)


class _ReportedEvents(TrainingEvents):
    """Events of a job that are reported to the progress actor."""

    def __init__(
        self, progress_actor: Any, job: TrainingJob, has_notice: Callable[[], bool]
    ) -> None:
        self._progress_actor, self._job, self._has_notice = progress_actor, job, has_notice
        self._tokens_per_step = 0.0

    def has_notice(self) -> bool:
        return self._has_notice()

    def on_step(self, step: int) -> None:
        if step % _STEPS_PER_MESSAGE == 0:
            self._progress_actor.report_steps.remote(str(self._job.out), step)

    def on_rows(self, num_tokens: int) -> None:
        if isinstance(self._job, PhaseJob):
            self._tokens_per_step = num_tokens * self._job.num_epochs() / self._job.num_steps()

    def on_step_records(self, records: Sequence[StepRecord]) -> None:
        if records:
            name, count = self._job.name, len(records)
            mean = sum(record.total for record in records) / count
            metrics.record("raykd_steps_total", count, model=name)
            metrics.record("raykd_tokens_total", count * self._tokens_per_step, model=name)
            metrics.record("raykd_loss", mean, model=name)

    def on_tracker_lost(self, tracker: str, problem: str) -> None:
        name = self._job.name
        line = f"  report_to: {tracker}: {name}: {problem}; the training continues without it"
        ray.get(self._progress_actor.report_line.remote(tracker, line))
