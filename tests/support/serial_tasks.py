"""Stages in one process: the functions of tasks are called in turn, without Ray.

For tests that repeat a run hundreds of times, and look at what it writes, not at Ray.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from raykd.cluster import capacity, datasets, tasks
from raykd.evaluation import cost
from raykd.evaluation import pipeline as evaluation
from raykd.training import pipeline as training
from raykd.training.phase.job import PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.trainers import Worker


@contextmanager
def serial_tasks() -> Iterator[None]:
    """Call the functions of tasks in this process, and train with a checkpoint after each step."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (datasets, tasks):
            patch.setattr(module, "for_each", _for_each)
            patch.setattr(module, "as_completed", _as_completed)
        patch.setattr(tasks, "share", lambda value: value)
        facts = {"total_cpus": 2.0, "max_cpus_per_node": 2.0, "num_nodes": 1}
        for name, value in {**facts, "can_start_nodes": False}.items():
            patch.setattr(capacity, name, lambda value=value: value)
        # Costs are measured times; one round is enough to write them.
        patch.setattr(cost, "_ENOUGH_S", 0.0)
        patch.setattr(cost, "_MIN_ROUNDS", 1)
        for module in (training, evaluation):
            patch.setattr(module, "assigned_device", lambda: torch.device("cpu"))
        patch.setattr(training, "connect", lambda: None)
        patch.setattr(training, "start_progress_actor", lambda: None)
        patch.setattr(training, "ProgressThread", lambda *_: nullcontext())
        patch.setattr(training, "_train_alone", _train_alone)
        yield


def _for_each(
    function: Callable[..., Any],
    items: Sequence[Any],
    *,
    shared: Mapping[str, Any] | None = None,
    **_: Any,
) -> list[Any]:
    return [function(item, **(shared or {})) for item in items]


def _as_completed(
    function: Callable[..., Any],
    items: Sequence[Any],
    *,
    shared: Mapping[str, Any] | None = None,
    **_: Any,
) -> Iterator[tuple[int, Any]]:
    for number, item in enumerate(items):
        yield number, function(item, **(shared or {}))


def _train_alone(jobs: Sequence[PhaseJob], *_: Any) -> None:
    for job in jobs:
        run_phase(job, Worker(), checkpoint_every_s=0)
