"""Training of tiny models as a job, and in processes that can be killed."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from objective_settings import SETTINGS
from tiny_models import save_tiny_model, tiny_masked_lm
from torch import distributed

from raykd.storage import schemas
from raykd.training.logging.metrics_writer import STEPS_FILE
from raykd.training.phase.config import PhaseConfig
from raykd.training.phase.job import Labels, PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.trainers import Worker

NUM_STEPS = 45
_WORDS = ("the", "film", "was", "good", "bad", "great", "awful", "dull", "and", "story")


def job_in(folder: Path, objective: str) -> PhaseJob:
    """Return a job of 45 steps on 60 short rows, 15 steps per epoch."""
    model = save_tiny_model(folder / "model", num_layers=2)
    random = np.random.default_rng(0)
    rows = [
        {
            "row_id": row,
            "sentence1": " ".join(random.choice(_WORDS, random.integers(2, 9))),
            "sentence2": None,
            "label": float(row % 2),
        }
        for row in range(60)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schemas.EXAMPLES), folder / "train.parquet")
    logits = random.normal(size=(60, 2)).astype(np.float32)
    np.save(folder / "logits.npy", logits)
    config = SETTINGS[objective].model_copy(
        update={"relation_heads": 2} if objective == "minilmv2" else {}
    )
    generator = None
    if config.generator_reference(str(model)) is not None:
        generator = save_tiny_model(folder / "generator")
        tiny_masked_lm().model.save_pretrained(generator)
    return PhaseJob(
        stage="adapt",
        name=objective,
        out=folder / "whole",
        start=str(model),
        teacher=model,
        generator=None if generator is None else str(generator),
        text=folder / "train.parquet",
        teacher_outputs=folder if "logits" in config.needs_teacher else None,
        config=PhaseConfig(epochs=3, batch_size=4, learning_rate=1e-3, objective=config),
        labels=Labels(("praise", "blame"), regression=False),
        seed=1,
        inputs={},
    )


def run_on_worker(job: PhaseJob, rank: int, size: int, meeting: str) -> None:
    """Run the job in one process of a group; the group rendezvous uses a file."""
    if size > 1:
        distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=size)
    run_phase(job, Worker(rank, size), checkpoint_every_s=0)
    if size > 1:
        distributed.destroy_process_group()


class KilledTraining:
    """Job in separate processes, forked from one that has imported their modules."""

    def __init__(self, job: PhaseJob, num_workers: int) -> None:
        self.job, self._size = job, num_workers
        self._context = _forking_context()
        self._num_starts = 0

    def run_to_the_end(self) -> None:
        """Run until the job is completed."""
        for process in self._start():
            process.join(120)
            assert process.exitcode == 0

    def run_and_kill(self, last_step: int, delay_s: float) -> int:
        """Kill all processes some time after a step is logged; return the last logged step."""
        processes = self._start()
        try:
            while any(process.is_alive() for process in processes):
                if self._num_logged() >= last_step:
                    time.sleep(delay_s)
                    break
                time.sleep(0.001)
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGKILL)
                process.join(60)
        return self._num_logged()

    def _start(self) -> list[BaseProcess]:
        self._num_starts += 1
        meeting = f"{self.job.out}-meeting-{self._num_starts}"
        processes = [
            self._context.Process(target=run_on_worker, args=(self.job, rank, self._size, meeting))
            for rank in range(self._size)
        ]
        for process in processes:
            process.start()
        return processes

    def _num_logged(self) -> int:
        path = self.job.unfinished / STEPS_FILE
        return path.read_bytes().count(b"\n") if path.exists() else 0


def _forking_context() -> multiprocessing.context.ForkServerContext:
    """Return a context whose server process has imported the modules of its children."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_training"])
    # The server skips modules that it cannot find, without an error: put the folder on its path.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


def killed(job: PhaseJob) -> PhaseJob:
    """Return the same job with another output folder."""
    return replace(job, out=job.out.with_name("killed"))


def kills_its_worker_once(mark: Path, *, delay_s: float = 0.0) -> Callable[..., dict[str, float]]:
    """Return a score function that kills its process at the second call.

    During the delay before, other threads finish their queued work.
    """

    # Ray's workers can import raykd, but not this module; a nested function is pickled by value.
    def score(*_: object) -> dict[str, float]:
        if not mark.exists():
            mark.write_text("once")
        elif mark.read_text() == "once":
            mark.write_text("killed")
            time.sleep(delay_s)
            os.kill(os.getpid(), signal.SIGKILL)
        return {"accuracy": 0.5}

    return score
