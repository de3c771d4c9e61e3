"""Two workers with one core each compared with one, and the parts of a step's time."""

import contextlib
import copy
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import distributed, nn
from training_peers import Given
from training_sides import (
    NUM_CLASSES,
    WARM_UP_STEPS,
    Bench,
    Side,
    Stopwatch,
    not_timed,
    num_rounds_of,
    own,
    part_of,
    rounded,
    task_rows,
    vanilla_kd,
)

from raykd.models.encoder import load_encoder
from raykd.objectives.base import Objective
from raykd.training import trainers
from raykd.training.distributed.shm_allreduce import ShmAllreduce
from raykd.training.trainers import Worker

# Relative to the change by three steps; gradients without averaging differ by half of it.
_STRAY = 0.05


def measure_workers(bench: Bench, ratios: dict[str, float]) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert len(cores) == 2, "two workers need two cores"
    found: dict[str, Any] = {}
    for task in bench.options.tasks:
        for batch_size in bench.options.worker_batch_sizes:
            out = bench.folder / f"{task}-{batch_size}"
            out.mkdir()
            jobs = (bench, task, batch_size, cores, out)
            torch.multiprocessing.spawn(work, jobs, nprocs=2)
            name = f"{task}, batches of {batch_size}"
            found[name] = json.loads((out / "0.json").read_text())
            ratios[f"{name}: two workers, times one"] = found[name]["times_one"]
    return found


def work(
    rank: int, bench: Bench, task: str, batch_size: int, cores: Sequence[int], out: Path
) -> None:
    """Run one of two processes, each on its own core."""
    os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    store = distributed.FileStore(str(out / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    num_steps = 6 if bench.options.quick else 15
    rows = task_rows(bench, task, batch_size * num_steps)
    logits = np.zeros((len(rows), NUM_CLASSES), np.float32)
    rows = replace(rows, teacher_logits=logits)
    given = replace(bench.given(rows, batch_size=batch_size), device=torch.device("cpu"))
    kept: list[Objective] = []
    sides = worker_sides(rank, kept)
    checked = replace(bench.checked(part_of(rows, batch_size)), device=given.device)
    strays = {name: stray(side, checked, kept) for name, side in sides.items()}
    assert all(strays[name] < _STRAY for name in strays if name != HALF), strays
    found, cpu = ({name: list[float]() for name in sides} for _ in range(2))
    losses: dict[str, list[float]] = {}
    for _ in range(num_rounds_of(bench)):
        for name, side in sides.items():
            distributed.barrier()
            clocks = (time.perf_counter, time.process_time)
            watches = [Stopwatch(given.device, num_steps, clock) for clock in clocks]
            losses[name] = side(given, functools.partial(call_all, watches))
            for watch, by_name in zip(watches, (found, cpu), strict=True):
                by_name[name].append(watch.seconds / (num_steps - 1 - WARM_UP_STEPS))
    seconds = {name: statistics.median(values) for name, values in found.items()}
    parts = exchange_seconds(given)
    if rank == 0:
        report = {
            "mean_length": rows.lengths.mean(),
            "stray": strays,
            "rows_per_s": {name: batch_size / seconds[name] for name in seconds if name != HALF},
            "times_one": seconds["one"] / seconds["two"],
            "times_one_of": {name: seconds["one"] / seconds[name] for name in seconds},
            "step_ms": {name: 1000 * value for name, value in seconds.items()},
            # CPU time of this process, without waiting: least affected by other load.
            "step_cpu_ms": {name: 1000 * statistics.median(values) for name, values in cpu.items()},
            "parts_ms": {name: 1000 * value for name, value in parts.items()},
            # Half of the rows in both processes at once, plus the allreduce, without overlap.
            "bound_times_one": seconds["one"] / (seconds[HALF] + parts["exchange"]),
            "losses": losses,
        }
        (out / "0.json").write_text(json.dumps(rounded(report)))
    distributed.destroy_process_group()


def call_all(watches: Sequence[Stopwatch]) -> None:
    for watch in watches:
        watch()


HALF = "half of the rows, both at once, no exchange"


def stray(side: Side, given: Given, kept: list[Objective]) -> float:
    """Return the difference from one worker's weights after three steps, relative to the change."""
    distributed.barrier()
    side(given, not_timed)
    ends = []
    for make in (lambda: kept[-1], lambda: trained_by_one_worker(given), lambda: vanilla_kd(given)):
        parameters = [p.detach().flatten() for p in make().parameters()]
        ends.append(torch.cat(parameters))
    found, wanted, start = ends
    return float((found - wanted).norm() / (wanted - start).norm())


def trained_by_one_worker(given: Given) -> Objective:
    objective = vanilla_kd(given)
    own(given, not_timed, make=lambda given: objective)
    return objective


def worker_sides(rank: int, kept: list[Objective]) -> dict[str, Side]:
    def make(given: Given) -> Objective:
        kept.append(vanilla_kd(given))
        del kept[:-1]
        return kept[-1]

    own_side = functools.partial(own, make=make)
    both = functools.partial(own_side, worker=Worker(rank, 2))

    def one(given: Given, lap: Callable[[], None]) -> list[float]:
        return own_side(given, lap) if rank == 0 or lap is not_timed else []

    def half(given: Given, lap: Callable[[], None]) -> list[float]:
        with without_exchange(rank):
            return both(given, lap)

    def by_gloo(given: Given, lap: Callable[[], None]) -> list[float]:
        with patch.object(trainers.ShmAllreduce, "open", lambda rank, size: None):
            return both(given, lap)

    return {"one": one, "two": both, "two, gradients sent by gloo": by_gloo, HALF: half}


@contextlib.contextmanager
def without_exchange(rank: int) -> Iterator[None]:
    """Let workers train on their shares without exchanging gradients."""
    without = patch.object(trainers, "distributed_model", lambda objective, exchange: objective)
    with without, patch.object(distributed, "all_reduce", lambda *given: None):
        yield


def exchange_seconds(given: Given) -> dict[str, float]:
    """Measure one allreduce of all gradients, one clipping and one update, in both processes."""
    model = copy.deepcopy(load_encoder(str(given.student)))
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    flat = torch.ones(sum(p.numel() for p in parameters))
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
    exchange = ShmAllreduce.open(distributed.get_rank(), 2)
    assert exchange is not None, "the workers need memory that both can map"
    jobs: dict[str, Callable[[], object]] = {
        "exchange": lambda: exchange.average(flat),
        "all_reduce of gloo": lambda: distributed.all_reduce(flat),
        "clip": lambda: nn.utils.clip_grad_norm_(parameters, 1.0),
        "update": optimizer.step,
    }
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(12):
        for name, job in jobs.items():
            distributed.barrier()
            started = time.perf_counter()
            job()
            if number > 1:
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in found.items()}
