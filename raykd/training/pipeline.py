"""Ray's edge of training: phases through Ray Train, teacher outputs as tasks."""

import math
import shutil
import threading
import traceback
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train
from ray.train.collective import barrier, broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from raykd import cluster, progress
from raykd.errors import FULL_DISK, InputError
from raykd.training.phases import PhaseJob, WorkersConfig, run_phase
from raykd.training.players import Worker
from raykd.training.teacher_cache import OutputsJob

_STEPS_A_MESSAGE = 10
_POLL_S = 0.5
_MAX_WORKER_FAILURES = 3
# Train retries a worker group that cannot be placed without end unless told otherwise.
_MAX_START_FAILURES = 5


def train_phases(
    jobs: Sequence[PhaseJob], workers: WorkersConfig, *, label: str, storage: Path
) -> None:
    """Run the jobs that are not done, `models_at_once` of them side by side.

    A model of one worker is one Ray task: processes, with all that they have loaded, serve one
    model after the other, while Ray Train starts about seven anew for each group of workers (15 s
    on two cores). Models of several workers (DDP) go through Ray Train.

    Raises:
        InputError: a job's input is wrong.
        Exception: as raised in a worker; once the jobs that run beside it have ended.
        ray.train.TrainingFailedError: workers were lost more often than is tolerated.
    """
    pending = [job for job in jobs if job.finished() is None]
    if not pending:
        return
    for job in pending:
        _tell_where_it_goes_on(job)
    # The longest first: no core is left with a long one at the end.
    pending.sort(key=PhaseJob.num_steps, reverse=True)
    cluster.connect()
    board: Any = ray.remote(num_cpus=0)(cluster.Board).remote()
    num_steps = sum(job.num_steps() for job in pending)
    train_all = _train_alone if workers.num_workers == 1 else _train_in_groups
    with progress.track(label, num_steps, "steps") as advance, _Watch(board, advance):
        train_all(pending, workers, board, label, storage)
    undone = [job.name for job in pending if job.finished() is None]
    assert not undone, undone


def _tell_where_it_goes_on(job: PhaseJob) -> None:
    step, notes = job.checkpoints(0).find()
    for note in notes:
        progress.say(f"  {job.name}: {note}")
    if step is not None:
        progress.say(f"  {job.name}: goes on after step {step} of {job.num_steps()}")


def _train_alone(
    jobs: Sequence[PhaseJob], workers: WorkersConfig, board: Any, label: str, storage: Path
) -> None:
    num_at_once = min(workers.models_at_once, len(jobs))
    num_cpus = _cpus_that_fit(workers, num_at_once)
    cluster.for_each(
        _phase_task,
        jobs,
        label=label,
        num_cpus=num_cpus,
        num_gpus=1.0 if workers.use_gpu else 0.0,
        num_at_once=num_at_once,
        shared={
            "board": board,
            "num_threads": max(1, int(num_cpus)),
            "every_s": workers.checkpoint_every_s,
        },
        shows_progress=False,
    )


def _phase_task(job: PhaseJob, *, board: Any, num_threads: int, every_s: float) -> None:
    # The process may have trained another model on another number of CPUs.
    torch.set_num_threads(num_threads)
    worker = Worker(device=_device())
    try:
        run_phase(
            job,
            worker,
            checkpoint_every_s=every_s,
            on_step=_Steps(board),
            on_lost=partial(_tell_lost, board, job),
        )
    except FloatingPointError as error:
        raise InputError(f"{job.name}: {error}") from error


def _train_in_groups(
    jobs: Sequence[PhaseJob], workers: WorkersConfig, board: Any, label: str, storage: Path
) -> None:
    """Each group of workers trains its share of the jobs one after the other."""
    shares = _shares(jobs, workers.models_at_once)
    names = [f"{label}-{uuid.uuid4().hex[:12]}" for _ in shares]
    trainers = [
        _trainer(share, workers, len(shares), board, name, storage)
        for share, name in zip(shares, names, strict=True)
    ]
    try:
        failures = _fit_all(trainers)
        problem: Exception | None = ray.get(board.problem.remote())
        if problem or failures:
            raise problem or failures[0]
    finally:
        for name in names:
            shutil.rmtree(storage / name, ignore_errors=True)


def _shares(jobs: Sequence[PhaseJob], num_shares: int) -> list[list[PhaseJob]]:
    """Spread the jobs, the longest first, so that every group has about as many steps."""
    shares: list[list[PhaseJob]] = [[] for _ in range(min(num_shares, len(jobs)))]
    steps = [0] * len(shares)
    for job in jobs:
        least = steps.index(min(steps))
        shares[least].append(job)
        steps[least] += job.num_steps()
    return shares


def _trainer(
    jobs: list[PhaseJob],
    workers: WorkersConfig,
    num_groups: int,
    board: Any,
    name: str,
    storage: Path,
) -> TorchTrainer:
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={
            "jobs": jobs,
            "board": board,
            "every_s": workers.checkpoint_every_s,
        },
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": _cpus_that_fit(workers, num_groups)},
        ),
        run_config=train.RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=train.FailureConfig(
                max_failures=_MAX_WORKER_FAILURES,
                controller_failure_limit=_MAX_START_FAILURES,  # type: ignore[call-arg]  # typed as V1's, which lacks it
            ),
        ),
    )


def _fit_all(trainers: Sequence[TorchTrainer]) -> list[BaseException]:
    """Run all groups to their end; returns what those raised that failed."""
    with ThreadPoolExecutor(len(trainers)) as pool:
        fits = [pool.submit(trainer.fit) for trainer in trainers]
        try:
            wait(fits)
        except KeyboardInterrupt:
            # `fit` returns only when its workers do.
            ray.shutdown()
            raise
    return [error for fit in fits if (error := fit.exception())]


def cache_teacher_outputs(jobs: Sequence[OutputsJob], *, use_gpu: bool) -> None:
    """Write the outputs of the jobs that are not done, the parts of all texts side by side."""
    pending = [job for job in jobs if job.finished() is None]
    parts = [(job, start, stop) for job in pending for start, stop in job.parts()]
    cluster.for_each(_outputs_task, parts, label="teacher", unit="parts", num_gpus=float(use_gpu))
    for job in pending:
        job.join_parts()


def _outputs_task(part: tuple[OutputsJob, int, int]) -> None:
    job, start, stop = part
    job.write_part(start, stop, _device())


def _device() -> torch.device:
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def _train_on_worker(config: dict[str, Any]) -> None:
    context = train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), get_device())
    jobs: list[PhaseJob] = config["jobs"]
    board = config["board"]
    first = worker.rank == 0
    # After a failure the group starts again: all workers must agree on what is left to do.
    undone = [at for at, job in enumerate(jobs) if job.finished() is None] if first else []
    for at in broadcast_from_rank_zero(undone):
        # One group's problem ends the others too, each after the job it is at. Every worker
        # waits here for the first one's word.
        if broadcast_from_rank_zero(first and ray.get(board.problem.remote()) is not None):
            return
        try:
            on_step = _Steps(board) if first else lambda: None
            run_phase(
                jobs[at],
                worker,
                checkpoint_every_s=config["every_s"],
                on_step=on_step,
                on_lost=partial(_tell_lost, board, jobs[at]),
            )
        except Exception as error:
            if _may_pass(error):
                raise
            if isinstance(error, FloatingPointError):
                error = InputError(f"{jobs[at].name}: {error}")
            # Left for the driver, since Train would raise it only after vain retries.
            error.add_note(traceback.format_exc())
            ray.get(board.report_problem.remote(error))
            # The others may wait for this one for ever: a failure ends them. The group that Train
            # starts next sees the problem.
            raise
        barrier()


def _tell_lost(board: Any, job: PhaseJob, tracker: str, problem: str) -> None:
    line = f"  report_to: {tracker}: {job.name}: {problem}; the training goes on without it"
    ray.get(board.tell.remote(tracker, line))


def _may_pass(error: Exception) -> bool:
    """Whether it may go away when the group starts again: a lost worker, network or device."""
    if isinstance(error, OSError):
        return error.errno not in FULL_DISK
    return isinstance(error, RuntimeError | ray.exceptions.RayError)


def _cpus_that_fit(workers: WorkersConfig, num_groups: int) -> float:
    """CPUs a worker asks for; fewer groups than may run at once share all of their CPUs.

    On one machine never more than it has, else Train waits for ever.
    """
    wanted = workers.cpus_per_worker * workers.models_at_once / num_groups
    num_cpus = cluster.total_cpus()
    # A head without CPUs of its own has them come when they are asked for.
    if cluster.num_nodes() > 1 or workers.use_gpu or num_cpus == 0:
        return wanted
    share = num_cpus / (workers.num_workers * num_groups)
    return min(wanted, math.floor(share * 100) / 100)


class _Steps:
    """Tells the board how many steps are done, ten at a time."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._pending = 0

    def __call__(self) -> None:
        self._pending += 1
        if self._pending >= _STEPS_A_MESSAGE:
            self._board.add_steps.remote(self._pending)
            self._pending = 0


class _Watch:
    """Moves the driver's progress bar while `fit` blocks its thread."""

    def __init__(self, board: Any, advance: Any) -> None:
        self._board = board
        self._advance = advance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        shown = 0
        is_over = False
        while not is_over:
            is_over = self._stop.wait(_POLL_S)
            with suppress(ray.exceptions.RayError):
                done = ray.get(self._board.num_steps.remote())
                self._advance(done - shown)
                shown = done
                for line in ray.get(self._board.take_lines.remote()):
                    progress.say(line)
