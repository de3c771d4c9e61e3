"""Ray's edge: join or start a cluster, and run one task an item."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from raykd import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks waiting at Ray beyond those running: enough to keep every core fed, few enough that a
# job of thousands of shards neither floods the scheduler nor works long after a failure.
_QUEUED_TASKS_PER_CPU = 2


def connect() -> None:
    """Join the cluster of RAY_ADDRESS or one running on this machine, or start one here."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    debug = os.environ.get("RAYKD_DEBUG") == "1"
    # What the user needs to know comes back as results and errors; Ray's own lines drown it.
    ray.init(logging_level=logging.INFO if debug else logging.ERROR, log_to_driver=debug)


def total_cpus() -> float:
    """CPUs of the cluster as it stands now."""
    connect()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return resources.get("CPU", 0.0)


def total_gpus() -> float:
    """GPUs of the cluster as it stands now."""
    connect()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return resources.get("GPU", 0.0)


def num_nodes() -> int:
    """Nodes of the cluster as it stands now."""
    connect()
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]  # untyped in ray


def for_each(
    function: Callable[..., Result],
    items: Sequence[Item],
    *,
    label: str,
    unit: str = "shards",
    num_cpus: float = 1.0,
    shared: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Run `function(item, **shared)` as one Ray task an item.

    Args:
        function: Can be pickled; idempotent, since Ray runs it again when a node is lost.
        items: One task each.
        label: What the progress bar says.
        unit: What the items are.
        num_cpus: CPUs a task takes.
        shared: Keyword arguments put into the object store once for all tasks.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: as raised in a task, once the tasks that run have ended.
    """
    connect()
    arguments = {name: ray.put(value) for name, value in (shared or {}).items()}
    task: Any = ray.remote(num_cpus=num_cpus, max_retries=3)(_apply)
    function_reference = ray.put(function)
    results: list[Any] = [None] * len(items)
    running: dict[ray.ObjectRef[Any], int] = {}
    waiting = iter(enumerate(items))
    try:
        with progress.track(label, len(items), unit) as advance:
            while True:
                # Asked anew each time: an autoscaling cluster grows while tasks wait.
                window = max(1, int(total_cpus() / num_cpus)) * (1 + _QUEUED_TASKS_PER_CPU)
                while len(running) < window and (following := next(waiting, None)) is not None:
                    reference = task.remote(function_reference, following[1], **arguments)
                    running[reference] = following[0]
                if not running:
                    return results
                [ready], _ = ray.wait(list(running), num_returns=1)
                results[running.pop(ready)] = ray.get(ready)
                advance(1)
    except RayTaskError as error:
        # Not cancelled: cancelling a task that is just ending aborts the driver (Ray 2.60,
        # "Tried to complete task that was not pending").
        if running:
            ray.wait(list(running), num_returns=len(running))
        # As itself, so that the user reads what was wrong; --debug shows where.
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


class Board:
    """An actor between a worker and the driver: steps done, and what went wrong.

    It stands here because this module loads fast, and the actor's process has to load it.
    """

    def __init__(self) -> None:
        self._num_steps = 0
        self._problem: Exception | None = None

    def add_steps(self, count: int) -> None:
        """Count steps of any worker."""
        self._num_steps += count

    def num_steps(self) -> int:
        """Steps of all workers so far."""
        return self._num_steps

    def report_problem(self, error: Exception) -> None:
        """Leave an error for the driver; the first one is kept."""
        self._problem = self._problem or error

    def problem(self) -> Exception | None:
        """The error left, if any."""
        return self._problem


def _apply(function: Callable[..., Result], item: Item, **shared: Any) -> Result:
    return function(item, **shared)
