"""Plain Ray tasks, one per item, for work on models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from raykd import progress
from raykd.cluster import metrics
from raykd.cluster.capacity import check_cpu_request, cpu_nodes, total_cpus
from raykd.cluster.connection import MAX_OUT_OF_MEMORY_RETRIES, connect
from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import SharedFolder, shared_folder
from raykd.errors import InputError
from raykd.storage.remote.task_files import TaskFiles

Item = TypeVar("Item")
Result = TypeVar("Result")

# Retries of a task whose process or node is lost: preemptible nodes are lost often, but a task that
# crashes every process it runs in must fail in the end.
MAX_RETRIES = 8

# Tasks queued in addition to those running: enough to keep every core busy, few enough that a job
# of thousands of items neither floods the scheduler nor continues for long after a failure.
_QUEUED_TASKS_PER_CPU = 2


class LostProcessError(InputError):
    """The process of one task died in every attempt; `number` is the index of its item."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def share(value: Any) -> Any:
    """Put a value into the object store once, for the `shared` argument of several calls."""
    connect()
    return ray.put(value)


def for_each(
    function: Callable[..., Result],
    items: Sequence[Item],
    *,
    label: str,
    unit: str = "shards",
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    num_at_once: int | None = None,
    shared: Mapping[str, Any] | None = None,
    files: Callable[[Item], TaskFiles] | None,
    shows_progress: bool = True,
) -> list[Result]:
    """Run `function(item, **shared)` in one Ray task per item.

    Args:
        function: a picklable, idempotent function; Ray calls it again when a node is lost.
        items: items to process.
        label: label of the progress bar.
        unit: plural noun for the items.
        num_cpus: CPUs per task.
        num_gpus: GPUs per task.
        num_at_once: maximum number of concurrent tasks; None for as many as fit the cluster.
        shared: keyword arguments, put into the object store once for all tasks; a value may be a
            reference from `share`.
        files: function that lists the files of an item's task in an output at a URL, for nodes that
            do not see them otherwise; None if the tasks use no files.
        shows_progress: False if the tasks report progress themselves.

    Returns:
        The results in the order of the items.

    Raises:
        LostProcessError: the process of a task died in every attempt.
        Exception: the first exception of a task, after the running tasks have ended.
    """
    results = dict(
        as_completed(
            function,
            items,
            label=label,
            unit=unit,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            num_at_once=num_at_once,
            shared=shared,
            files=files,
            shows_progress=shows_progress,
        )
    )
    return [results[number] for number in range(len(items))]


def as_completed(
    function: Callable[..., Result],
    items: Sequence[Item],
    *,
    label: str,
    unit: str = "shards",
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    num_at_once: int | None = None,
    shared: Mapping[str, Any] | None = None,
    files: Callable[[Item], TaskFiles] | None,
    shows_progress: bool = True,
) -> Iterator[tuple[int, Result]]:
    """Yield (index of the item, result) in order of completion; otherwise like `for_each`.

    At most as many results as running and queued tasks are held in memory at once.
    """
    check_cpu_request(label, num_cpus)
    arguments = references(shared)
    task: Any = ray.remote(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_retries=MAX_RETRIES,
        label_selector={} if num_gpus else cpu_nodes(),
    )(_apply)
    function_reference = ray.put(function)
    folder = shared_folder()
    place_reference = ray.put((folder, labels_of(label)))
    running: dict[ray.ObjectRef[Any], int] = {}
    waiting = iter(enumerate(items))
    try:
        bar = progress.track(label, len(items), unit) if shows_progress else nullcontext(_ignore)
        with bar as advance:
            while True:
                # Updated in every iteration: an autoscaling cluster grows while tasks wait.
                window = max(1, int(total_cpus() / num_cpus)) * (1 + _QUEUED_TASKS_PER_CPU)
                window = min(window, num_at_once or window)
                while len(running) < window and (following := next(waiting, None)) is not None:
                    number, item = following
                    own = TaskFiles() if folder is None or files is None else files(item)
                    reference = task.remote(
                        place_reference, own, function_reference, item, **arguments
                    )
                    running[reference] = number
                if not running:
                    return
                [ready], _ = ray.wait(list(running), num_returns=1)
                number = running[ready]
                result = ray.get(ready)
                yield running.pop(ready), result
                del ready, result
                advance(1)
                progress.log_shard(label, number, len(items), unit)
    except RayTaskError as error:
        # Wait instead of canceling: canceling a task that is about to end aborts the driver
        # (Ray 2.60, "Tried to complete task that was not pending").
        if running:
            ray.wait(list(running), num_returns=len(running))
        # Raise the cause, so that the user sees the error itself; --debug shows where it was.
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        raise LostProcessError(lost_process(label, error), number) from error


def references(shared: Mapping[str, Any] | None) -> dict[str, "ray.ObjectRef[Any]"]:
    """Put the values that are no references yet into the object store."""
    return {
        name: value if isinstance(value, ray.ObjectRef) else ray.put(value)
        for name, value in (shared or {}).items()
    }


def lost_process(label: str, error: Exception) -> str:
    """Describe a task whose process died in every attempt, with the remedy."""
    is_out_of_memory = isinstance(error, OutOfMemoryError)
    num_times = 1 + (MAX_OUT_OF_MEMORY_RETRIES if is_out_of_memory else MAX_RETRIES)
    return (
        f"{label}: a worker process died {num_times} times without an error message, probably "
        "out of memory; use larger machines or smaller shards"
    )


def _ignore(count: int) -> None:
    pass


def labels_of(label: str) -> dict[str, str]:
    """Labels of the tasks of some work; those of a command without stages are named by it."""
    return {"stage": label.partition(",")[0], **progress.labels()}


def _apply(
    place: tuple[SharedFolder | None, dict[str, str]],
    files: TaskFiles,
    function: Callable[..., Result],
    item: Item,
    **shared: Any,
) -> Result:
    folder, labels = place
    with present(folder, files), metrics.recorded_task(labels):
        return function(item, **shared)
