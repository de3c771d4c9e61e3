"""Shards of a corpus as a Ray Data dataset: one row, one block and one task per shard.

Ray Data schedules the tasks, holds back those whose results wait to be read, asks an autoscaling
cluster for nodes, runs the task of a lost node again, and shows progress and resources of every
operator on its dashboard page. Rows of text never pass through it: a task reads the files of its
shard and writes its own files (see docs/architecture.md).
"""

import functools
import logging
import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import ray
import ray.data
from ray import cloudpickle
from ray.data import Dataset, TaskPoolStrategy
from ray.data._internal.execution.backpressure_policy import (
    ConcurrencyCapBackpressurePolicy,
    DownstreamCapacityBackpressurePolicy,
)
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from raykd import progress
from raykd.cluster import metrics
from raykd.cluster.capacity import cpu_nodes, limited_memory
from raykd.cluster.connection import connect
from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import SharedFolder, shared_folder
from raykd.cluster.tasks import MAX_RETRIES, labels_of, lost_process, references
from raykd.errors import InputError
from raykd.storage.remote.task_files import TaskFiles

Item = TypeVar("Item")
Result = TypeVar("Result")

# Memory of a task on a shard of `SHARD_BYTES`: 558 to 586 MB were measured in searches, which need
# most (experiments/benchmarks/bench_search_job.py --part memory).
SHARD_TASK_BYTES = 600 << 20

# Ray Data's policies without the budget of resources, which is empty in the first second of every
# execution, and leaves a CPU idle between two tasks. Ray itself queues the tasks.
_POLICIES = [ConcurrencyCapBackpressurePolicy, DownstreamCapacityBackpressurePolicy]

_RESULT = pa.schema(
    [("number", pa.int64()), ("is_error", pa.bool_()), ("value", pa.large_binary())]
)
_dumps: Callable[[Any], bytes] = cloudpickle.dumps


def for_each(
    function: Callable[..., Result],
    items: Sequence[Item],
    *,
    label: str,
    unit: str = "shards",
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    memory_bytes: int = SHARD_TASK_BYTES,
    num_at_once: int | None = None,
    shared: Mapping[str, Any] | None = None,
    files: Callable[[Item], TaskFiles] | None,
    shows_progress: bool = True,
) -> list[Result]:
    """Run `function(item, **shared)` in one task of Ray Data per item.

    Args:
        function: a picklable, idempotent function; it is called again when a node is lost.
        items: items to process, such as the paths of shards.
        label: label of the progress bar, and name of the dataset on Ray's dashboard.
        unit: plural noun for the items.
        num_cpus: CPUs per task.
        num_gpus: GPUs per task.
        memory_bytes: memory per task, by which tasks are placed; it is not enforced.
        num_at_once: maximum number of concurrent tasks; None for as many as fit the cluster.
        shared: keyword arguments, put into the object store once for all tasks; a value may be a
            reference from `tasks.share`.
        files: function that lists the files of an item's task in an output at a URL, for nodes that
            do not see them otherwise; None if the tasks use no files.
        shows_progress: False for short work without a progress bar.

    Returns:
        The results in the order of the items.

    Raises:
        InputError: the process of a task died in every attempt.
        Exception: the first exception of a task.
    """
    results = dict(
        as_completed(
            function,
            items,
            label=label,
            unit=unit,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory_bytes=memory_bytes,
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
    memory_bytes: int = SHARD_TASK_BYTES,
    num_at_once: int | None = None,
    shared: Mapping[str, Any] | None = None,
    files: Callable[[Item], TaskFiles] | None,
    shows_progress: bool = True,
) -> Iterator[tuple[int, Result]]:
    """Yield (index of the item, result) in order of completion; otherwise like `for_each`.

    The results that are not yet taken are held in the object store, up to Ray Data's limit.
    """
    if not items:
        return
    connect()
    folder = shared_folder()
    listed = [TaskFiles() if folder is None or files is None else files(item) for item in items]
    dataset = _dataset_of(list(zip(items, listed, strict=True)))
    operator = _item_operator(function, folder, references(shared), labels_of(label))
    request = _Request(num_cpus, num_gpus, memory_bytes, num_at_once)
    bar = progress.track(label, len(items), unit) if shows_progress else nullcontext(_ignore)
    with bar as advance:
        mapped = _mapped(dataset, operator, request, label)
        mapped.context.set_config("backpressure_policies.enabled", _POLICIES)
        for number, value in _results(mapped, label):
            yield number, value
            advance(1)
            progress.log_shard(label, number, len(items), unit)


def for_each_block(
    function: Callable[..., Result],
    dataset: Dataset,
    *,
    label: str,
    memory_bytes: int = SHARD_TASK_BYTES,
    shared: Mapping[str, Any] | None = None,
    files: TaskFiles,
) -> list[Result]:
    """Run `function(block, **shared)` on every block of a dataset, an Arrow table.

    Ray Data chooses the blocks; the results have no order. `files` are those of all tasks.

    Raises:
        InputError: the source of the dataset cannot be read, or a process died in every attempt.
        Exception: the first exception of a task.
    """
    connect()
    request = _Request(1.0, 0.0, memory_bytes, None)
    operator = _block_operator(
        function, shared_folder(), files, references(shared), labels_of(label)
    )
    results = []
    try:
        for _, value in _results(_mapped(dataset, operator, request, label), label):
            results.append(value)
    except ray.exceptions.RayTaskError as error:
        raise InputError(f"{label}: {shown(error.cause)}") from error
    return results


class _Request(NamedTuple):
    """Resources of one task."""

    num_cpus: float
    num_gpus: float
    memory_bytes: int
    num_at_once: int | None


def _mapped(
    dataset: Dataset, operator: Callable[[pa.Table], pa.Table], request: _Request, label: str
) -> Dataset:
    _keep_off_console()
    with warnings.catch_warnings():
        # `max_retries` has no named parameter in Ray 2.60; Ray Data's own default is to retry
        # forever a task that kills its process.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = dataset.map_batches(
            operator,
            # Ray Data requires a number with GPUs; a block of `for_each` has one row.
            batch_size=1 if request.num_gpus else None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(request.num_at_once),
            num_cpus=request.num_cpus,
            num_gpus=request.num_gpus or None,
            memory=limited_memory(request.memory_bytes),
            label_selector=None if request.num_gpus else cpu_nodes() or None,
            max_retries=MAX_RETRIES,
        )
    dataset.set_name(label)
    dataset.context.enable_progress_bars = False
    # A shard may take longer than Ray Data's half an hour, and so may a wait for nodes.
    dataset.context.execution_no_progress_timeout_s = -1
    return dataset


def shown(error: BaseException | None) -> str:
    """Describe an error of a reader in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"[:500]


def _results(dataset: Dataset, label: str) -> Iterator[tuple[int, Any]]:
    batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    try:
        for batch in batches:
            assert isinstance(batch, pa.Table)
            for row in batch.to_pylist():
                value = pickle.loads(row["value"])
                if row["is_error"]:
                    error, trace = value
                    raise error from _RemoteError(trace)
                yield row["number"], value
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        raise InputError(lost_process(label, error)) from error


def _dataset_of(items: Sequence[Any]) -> Dataset:
    return ray.data.from_arrow(
        [
            pa.table(
                {
                    "number": [number],
                    "item": pa.array([_dumps(item)], pa.large_binary()),
                }
            )
            for number, item in enumerate(items)
        ]
    )


def _item_operator(
    function: Callable[..., Any],
    folder: SharedFolder | None,
    shared: Mapping[str, "ray.ObjectRef[Any]"],
    labels: dict[str, str],
) -> Callable[[pa.Table], pa.Table]:
    """Make the operator that applies a function to the item of each row."""

    def apply(batch: pa.Table) -> pa.Table:
        [row] = batch.to_pylist()

        def call() -> Any:
            item, files = pickle.loads(row["item"])
            with present(folder, files):
                return function(item, **_get(shared))

        return _result(row["number"], call, labels)

    return _named_as(function, apply)


def _block_operator(
    function: Callable[..., Any],
    folder: SharedFolder | None,
    files: TaskFiles,
    shared: Mapping[str, "ray.ObjectRef[Any]"],
    labels: dict[str, str],
) -> Callable[[pa.Table], pa.Table]:
    """Make the operator that applies a function to whole blocks."""

    def apply(block: pa.Table) -> pa.Table:
        def call() -> Any:
            with present(folder, files):
                return function(block, **_get(shared))

        return _result(0, call, labels)

    return _named_as(function, apply)


def _get(shared: Mapping[str, "ray.ObjectRef[Any]"]) -> dict[str, Any]:
    return dict(zip(shared, ray.get(list(shared.values())), strict=True))


def _result(number: int, call: Callable[[], Any], labels: dict[str, str]) -> pa.Table:
    """Make a result row; an error is a result, since Ray Data would lose its type and print it."""
    try:
        with metrics.recorded_task(labels):
            is_error, pickled = False, _dumps(call())
    except Exception as error:
        is_error, pickled = True, _pickled(error, traceback.format_exc())
    return pa.table([[number], [is_error], [pickled]], schema=_RESULT)


def _named_as(
    function: Callable[..., Any], operator: Callable[[pa.Table], pa.Table]
) -> Callable[[pa.Table], pa.Table]:
    """Give an operator the name of its function, which the dashboard shows."""
    named = function.func if isinstance(function, functools.partial) else function
    operator.__name__ = named.__name__.strip("_")
    return operator


def _pickled(error: Exception, trace: str) -> bytes:
    try:
        pickled = _dumps((error, trace))
        pickle.loads(pickled)
    except Exception:
        return _dumps((RuntimeError(trace), trace))
    return pickled


class _RemoteError(Exception):
    """Trace of an error in a task, shown with --debug."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@functools.cache
def _keep_off_console() -> None:
    """Leave Ray Data's messages to its log file, which is in the log folder of Ray's session."""
    if os.environ.get("RAYKD_DEBUG") != "1":
        logger = logging.getLogger("ray.data")
        for handler in list(logger.handlers):
            if isinstance(handler, logging.StreamHandler):
                logger.removeHandler(handler)


def _ignore(count: int) -> None:
    pass
