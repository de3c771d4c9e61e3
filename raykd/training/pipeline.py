"""Ray's edge of training: phases through Ray Train, teacher outputs as tasks."""

import math
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray import train
from ray.train.collective import barrier, broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from raykd import cluster, progress
from raykd.errors import InputError
from raykd.manifest import Draft, Manifest, write_once
from raykd.training.loop import Worker
from raykd.training.phases import PhaseJob, WorkersConfig, run_phase
from raykd.training.teacher_cache import LOGITS, parts_of, teacher_logits

LOGITS_FILE = "logits.parquet"
_STEPS_A_MESSAGE = 10
_POLL_S = 0.5
_MAX_WORKER_FAILURES = 3
# Train retries a worker group that cannot be placed without end unless told otherwise.
_MAX_START_FAILURES = 5


def train_phases(
    jobs: Sequence[PhaseJob], workers: WorkersConfig, *, label: str, storage: Path
) -> None:
    """Run the jobs that are not done, `models_at_once` of them side by side.

    Starting a group of workers costs seconds, and a recipe has dozens of small jobs (seeds times
    arms), so that each group runs its share of them one after the other.

    Raises:
        InputError: a job's input is wrong.
        ray.train.TrainingFailedError: workers failed more often than is tolerated.
    """
    pending = [job for job in jobs if job.finished() is None]
    if not pending:
        return
    cluster.connect()
    board: Any = ray.remote(num_cpus=0)(cluster.Board).remote()
    shares = _shares(pending, workers.models_at_once)
    names = [f"{label}-{uuid.uuid4().hex[:12]}" for _ in shares]
    trainers = [
        _trainer(share, workers, _cpus_a_worker(workers, len(jobs)), board, name, storage)
        for share, name in zip(shares, names, strict=True)
    ]
    num_steps = sum(job.num_steps() for job in pending)
    with progress.track(label, num_steps, "steps") as advance, _Watch(board, advance):
        _fit_all(trainers)
    if message := ray.get(board.problem.remote()):
        raise InputError(message)
    for name in names:
        shutil.rmtree(storage / name, ignore_errors=True)
    undone = [job.name for job in pending if job.finished() is None]
    assert not undone, undone


def _shares(jobs: Sequence[PhaseJob], num_shares: int) -> list[list[PhaseJob]]:
    """Spread the jobs so that every group has about as many steps: the longest first."""
    shares: list[list[PhaseJob]] = [[] for _ in range(min(num_shares, len(jobs)))]
    steps = [0] * len(shares)
    for job in sorted(jobs, key=PhaseJob.num_steps, reverse=True):
        least = steps.index(min(steps))
        shares[least].append(job)
        steps[least] += job.num_steps()
    return shares


def _trainer(
    jobs: list[PhaseJob],
    workers: WorkersConfig,
    cpus_a_worker: float,
    board: Any,
    name: str,
    storage: Path,
) -> TorchTrainer:
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={"jobs": jobs, "board": board},
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": cpus_a_worker},
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


def _fit_all(trainers: Sequence[TorchTrainer]) -> None:
    """Run all groups; when one fails the others end their work, which stays done."""
    with ThreadPoolExecutor(len(trainers)) as pool:
        fits = [pool.submit(trainer.fit) for trainer in trainers]
        try:
            wait(fits)
        except KeyboardInterrupt:
            # `fit` returns only when its workers do.
            ray.shutdown()
            raise
    for fit in fits:
        fit.result()


def cache_teacher_logits(
    teacher: Path, text: Path, out: Path, *, max_length: int, inputs: Mapping[str, str]
) -> Manifest:
    """Write the teacher's logits of every row of a text table, in its order, to `out`."""
    settings = {"max_length": max_length}

    def write(draft: Draft) -> None:
        num_rows = pq.read_metadata(text).num_rows
        parts = cluster.for_each(
            _logits_task,
            parts_of(num_rows),
            label=f"teacher's logits of {out.name}",
            unit="parts",
            shared={"teacher": teacher, "text": text, "max_length": max_length},
        )
        logits = np.concatenate(parts)
        table = pa.table({"logits": list(logits)}, schema=LOGITS)
        pq.write_table(table, draft.directory / LOGITS_FILE)
        draft.counts["num_rows"] = len(logits)

    return write_once(out, "teacher_logits", settings, inputs, write)


def _logits_task(
    rows: tuple[int, int], *, teacher: Path, text: Path, max_length: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    return teacher_logits(teacher, text, *rows, max_length=max_length)


def _train_on_worker(config: dict[str, Any]) -> None:
    context = train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), get_device())
    jobs: list[PhaseJob] = config["jobs"]
    board = config["board"]
    first = worker.rank == 0
    # After a failure the group starts again: all workers must agree on what is left to do.
    undone = [at for at, job in enumerate(jobs) if job.finished() is None] if first else []
    for at in broadcast_from_rank_zero(undone):
        try:
            run_phase(jobs[at], worker, on_step=(_Steps(board) if first else lambda: None))
        except InputError as error:
            # Retrying a mistake of the user's would only repeat it.
            ray.get(board.report_problem.remote(str(error)))
            return
        barrier()


def _cpus_a_worker(workers: WorkersConfig, num_jobs: int) -> float:
    """CPUs a worker asks for, which are its threads too.

    On one machine a single job takes the CPUs of all models that may train at once; the number of
    all jobs decides, done or not, so that a resumed run computes with the same threads. More than
    the machine has is never asked for: Train would wait for ever.
    """
    total_cpus = cluster.total_cpus()
    if cluster.num_nodes() > 1 or workers.use_gpu or not total_cpus:
        return workers.cpus_per_worker
    num_groups = min(workers.models_at_once, num_jobs)
    wanted = workers.cpus_per_worker * workers.models_at_once / num_groups
    share = total_cpus / (workers.num_workers * num_groups)
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
        while not self._stop.wait(_POLL_S):
            with suppress(ray.exceptions.RayError):
                done = ray.get(self._board.num_steps.remote())
                self._advance(done - shown)
                shown = done
