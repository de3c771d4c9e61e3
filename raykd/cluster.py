"""Ray's edge: join or start a cluster, and run one task an item."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from raykd import progress
from raykd.errors import InputError

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
    # Train's progress goes through our own reports; its per-event INFO lines drown them.
    ray.init(
        logging_level=logging.WARNING,
        log_to_driver=os.environ.get("RAYKD_DEBUG") == "1",
    )


def total_cpus() -> float:
    """CPUs of the cluster as it stands now."""
    connect()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return resources.get("CPU", 0.0)


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
        function: A module-level function; idempotent, since Ray runs it again when a node is lost.
        items: One task each.
        label: What the progress bar says.
        unit: What the items are.
        num_cpus: CPUs a task takes.
        shared: Keyword arguments put into the object store once for all tasks.

    Returns:
        The results in the order of the items.

    Raises:
        InputError: as raised in a task; the tasks that have not started are cancelled.
    """
    connect()
    arguments = {name: ray.put(value) for name, value in (shared or {}).items()}
    task = ray.remote(num_cpus=num_cpus, max_retries=3)(function)
    window = max(1, int(total_cpus() / num_cpus)) * (1 + _QUEUED_TASKS_PER_CPU)
    results: list[Any] = [None] * len(items)
    running: dict[ray.ObjectRef[Any], int] = {}
    waiting = iter(enumerate(items))
    try:
        with progress.track(label, len(items), unit) as advance:
            while True:
                while len(running) < window and (following := next(waiting, None)) is not None:
                    running[task.remote(following[1], **arguments)] = following[0]
                if not running:
                    return results
                [ready], _ = ray.wait(list(running), num_returns=1)
                results[running.pop(ready)] = ray.get(ready)
                advance(1)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    finally:
        for reference in running:
            ray.cancel(reference)
