"""Connection to Ray, and parallel execution of one task per item."""

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from raykd import progress
from raykd.cluster.processes import end_leftovers, recorded, records_folder
from raykd.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks queued in addition to those running: enough to keep every core busy, few enough that a job
# of thousands of shards neither floods the scheduler nor continues for long after a failure.
_QUEUED_TASKS_PER_CPU = 2

# Retries of a task whose process or node is lost: preemptible nodes are lost often, but a task that
# crashes every process it runs in must fail in the end.
_MAX_RETRIES = 8

# Retries of a task that Ray killed because the machine ran out of memory, with a pause that doubles
# each time. Ray's own default is to retry forever.
_MAX_OUT_OF_MEMORY_RETRIES = 3

_CONNECT_TIMEOUT_S = 5
_START_TIMEOUT = "timed out during startup"
_ADDRESS = re.compile(r"local|auto|(?:ray://)?[^/\s]+:\d+/?")
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")


class LostProcessError(InputError):
    """The process of one task died in every attempt; `number` is the index of its item."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def connect() -> None:
    """Connect to the cluster of RAY_ADDRESS, or one running on this machine, or start one."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(_MAX_OUT_OF_MEMORY_RETRIES))
    debug = os.environ.get("RAYKD_DEBUG") == "1"
    address = find_address()
    # Ray takes seconds to connect, and minutes when a cluster is unreachable.
    progress.say(
        "starting Ray on this machine"
        if address == "local"
        else f"connecting to Ray at {address} (RAY_ADDRESS=local starts one on this machine)"
    )
    folder = records_folder() if address == "local" else None
    if folder is not None:
        end_leftovers(folder)
    # raykd's own results and errors are complete; Ray's log lines would bury them.
    with translate_connection_errors(address), recorded(folder):
        ray.init(
            address=address,
            # A Ray that raykd starts ends with the command, too soon for its dashboard (eleven
            # processes, one gigabyte) to be useful. `ray start --head` has one.
            include_dashboard=False,
            logging_level=logging.INFO if debug else logging.ERROR,
            log_to_driver=debug,
        )
    if address == "local":
        # Ray's own hook reports an error to the cluster first, and waits a minute for a cluster
        # that the same signal has ended.
        sys.excepthook = ray._private.worker.normal_excepthook
    if not debug:
        _redirect_worker_output_to_log()
    if threading.current_thread() is threading.main_thread():
        # Handle it like Ctrl-C: Ray's own handler aborts with a crash report.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _redirect_worker_output_to_log() -> None:
    """Write the output of Ray's processes to the session's log instead of the console.

    When a signal interrupts Ray's monitor, it publishes its stack as a failure of the autoscaler,
    and Ray prints that on the driver's output even with `log_to_driver=False`.
    """
    worker: Any = ray._private.worker
    path = Path(worker._global_node.get_logs_dir_path()) / "raykd.log"

    def write(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        with suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in data["lines"])

    worker.print_to_stdstream = write


@contextmanager
def translate_connection_errors(address: str) -> Iterator[None]:
    """Report a failed connection to a cluster as the user's error.

    Raises:
        InputError: the connection failed.
    """
    try:
        yield
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"cannot connect to Ray at {address} ({reason}); if it was started with "
            "RAY_AUTH_MODE=token, set that here too; RAY_ADDRESS=local starts one on this machine"
        ) from error
    except Exception as error:
        # Ray raises a plain Exception here, which only its text identifies.
        if _START_TIMEOUT not in str(error):
            raise
        raise InputError(
            "Ray did not start on this machine within 30 s, probably because the machine is "
            "overloaded; stop other programs, then rerun the same command"
        ) from error


def find_address() -> str:
    """Return RAY_ADDRESS, or the address of a Ray that runs on this machine, or "local".

    Raises:
        InputError: RAY_ADDRESS is not a valid address, or nothing listens there.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        if not _ADDRESS.fullmatch(given):
            raise InputError(
                f"RAY_ADDRESS={given:.200}: not a Ray address; use HOST:PORT, ray://HOST:PORT, "
                "auto, or local to start Ray on this machine"
            )
        if _HOST_AND_PORT.fullmatch(given) and not _is_reachable(given):
            raise InputError(
                f"RAY_ADDRESS={given}: cannot connect; correct the address, start Ray there, or "
                "set RAY_ADDRESS=local to start one on this machine"
            )
        return given
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return "local"
    # The file of a killed cluster remains.
    return address if _HOST_AND_PORT.fullmatch(address) and _is_reachable(address) else "local"


def _is_reachable(address: str) -> bool:
    """Check that a port is open: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError):
        return False
    return True


def total_cpus() -> float:
    """Current number of CPUs of the cluster."""
    connect()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return resources.get("CPU", 0.0)


def total_gpus() -> float:
    """Current number of GPUs of the cluster."""
    connect()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return resources.get("GPU", 0.0)


def max_cpus_per_node() -> float:
    """Current number of CPUs of the cluster's largest node."""
    connect()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # untyped in ray
    return max((node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]), default=0.0)


def check_cpu_request(label: str, num_cpus: float) -> None:
    """Refuse or report work that needs more CPUs than any machine of the cluster has.

    Raises:
        InputError: Ray runs on this machine only, so no larger machine can join.
    """
    largest = max_cpus_per_node()
    # A head node without CPUs starts machines on demand.
    if not 0 < largest < num_cpus:
        return
    problem = f"{label}: needs {num_cpus:g} CPUs, but the largest machine has {largest:g}"
    if _is_own_ray():
        raise InputError(f"{problem}; lower workers.cpus_per_worker")
    progress.say(f"{problem}; waiting for a larger one (or lower workers.cpus_per_worker)")


def _is_own_ray() -> bool:
    """Return whether this process started its Ray, which then consists of this machine only."""
    node: Any = ray._private.worker._global_node
    return node is not None and bool(node.is_head())


def num_nodes() -> int:
    """Current number of nodes of the cluster."""
    connect()
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]  # untyped in ray


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
    shows_progress: bool = True,
) -> Iterator[tuple[int, Result]]:
    """Yield (index of the item, result) in order of completion; otherwise like `for_each`.

    At most as many results as running and queued tasks are held in memory at once.
    """
    check_cpu_request(label, num_cpus)
    arguments = {
        name: value if isinstance(value, ray.ObjectRef) else ray.put(value)
        for name, value in (shared or {}).items()
    }
    task: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(_apply)
    function_reference = ray.put(function)
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
                    reference = task.remote(function_reference, following[1], **arguments)
                    running[reference] = following[0]
                if not running:
                    return
                [ready], _ = ray.wait(list(running), num_returns=1)
                number = running[ready]
                result = ray.get(ready)
                yield running.pop(ready), result
                del ready, result
                advance(1)
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
        num_times = 1 + (
            _MAX_OUT_OF_MEMORY_RETRIES if isinstance(error, OutOfMemoryError) else _MAX_RETRIES
        )
        raise LostProcessError(
            f"{label}: a worker process died {num_times} times without an error message, probably "
            "out of memory; use larger machines or smaller shards",
            number,
        ) from error


def _ignore(count: int) -> None:
    pass


def _apply(function: Callable[..., Result], item: Item, **shared: Any) -> Result:
    return function(item, **shared)
