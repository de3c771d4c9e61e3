"""Ray's edge: join or start a cluster, and run one task an item."""

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

# Tasks waiting at Ray beyond those running: enough to keep every core fed, few enough that a
# job of thousands of shards neither floods the scheduler nor works long after a failure.
_QUEUED_TASKS_PER_CPU = 2

# How often a task is run again when its process or node is lost: pre-emptible nodes go often, and
# a task that brings down every process it runs in must end nevertheless.
_MAX_RETRIES = 8

# How often one is run again that Ray killed when the machine was short of memory, with a pause
# that doubles each time; without a word from us Ray never stops.
_MAX_RETRIES_FOR_WANT_OF_MEMORY = 3

_ANSWER_TIMEOUT_S = 5
_ADDRESS = re.compile(r"local|auto|(?:ray://)?[^/\s]+:\d+/?")
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")
# Clouds give notice half a minute to two minutes before they take a machine away.
_NOTICE_POLL_S = 3.0


class LostProcessError(InputError):
    """The process of an item's task, the item of that `number`, was lost again and again."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def connect() -> None:
    """Join the cluster of RAY_ADDRESS or one running on this machine, or start one here."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(_MAX_RETRIES_FOR_WANT_OF_MEMORY))
    debug = os.environ.get("RAYKD_DEBUG") == "1"
    address = find_address()
    # Ray takes seconds to answer, minutes where a cluster is out of reach.
    progress.say(
        "starting Ray here"
        if address == "local"
        else f"joining Ray at {address} (RAY_ADDRESS=local would start one here)"
    )
    folder = records_folder() if address == "local" else None
    if folder is not None:
        end_leftovers(folder)
    # What the user needs to know comes back as results and errors; Ray's own lines drown it.
    with joining(address), recorded(folder):
        ray.init(
            address=address,
            # A Ray of our own ends with the command: its dashboard's eleven processes and gigabyte
            # would serve nobody. `ray start --head` has one.
            include_dashboard=False,
            logging_level=logging.INFO if debug else logging.ERROR,
            log_to_driver=debug,
        )
    if address == "local":
        # Ray's own hook first reports an error to the cluster, and waits a minute for a cluster
        # that the same signal has ended.
        sys.excepthook = ray._private.worker.normal_excepthook
    if not debug:
        _keep_in_log()
    if threading.current_thread() is threading.main_thread():
        # As Ctrl-C: Ray's own handler aborts with a crash report.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _keep_in_log() -> None:
    """Write what Ray's processes report of themselves to the session's log, not to the console.

    Ray's monitor publishes the place where a signal met it as a failure of the autoscaler, and Ray
    prints that on the output of drivers, whatever `log_to_driver` says.
    """
    worker: Any = ray._private.worker
    path = Path(worker._global_node.get_logs_dir_path()) / "raykd.log"

    def write(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        with suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in data["lines"])

    worker.print_to_stdstream = write


@contextmanager
def joining(address: str) -> Iterator[None]:
    """Say what a cluster's refusal means.

    Raises:
        InputError: it cannot be joined.
    """
    try:
        yield
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"Ray at {address} cannot be joined ({reason}); if it was started with "
            "RAY_AUTH_MODE=token, set that here too; RAY_ADDRESS=local starts one here instead"
        ) from error


def find_address() -> str:
    """RAY_ADDRESS, else a Ray that was started on this machine and answers, else "local".

    Raises:
        InputError: RAY_ADDRESS is not an address, or nothing answers there.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        if not _ADDRESS.fullmatch(given):
            raise InputError(
                f"RAY_ADDRESS={given:.200}: not an address of Ray; give HOST:PORT, "
                "ray://HOST:PORT, auto, or local to start Ray here"
            )
        if _HOST_AND_PORT.fullmatch(given) and not _answers(given):
            raise InputError(
                f"RAY_ADDRESS={given}: nothing answers there; correct it, or start Ray there, or "
                "set RAY_ADDRESS=local to start one here"
            )
        return given
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return "local"
    # A cluster that was killed leaves this file behind.
    return address if _HOST_AND_PORT.fullmatch(address) and _answers(address) else "local"


def _answers(address: str) -> bool:
    """Whether a port is open: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_TIMEOUT_S).close()
    except (OSError, OverflowError):
        return False
    return True


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


def most_cpus_of_a_node() -> float:
    """CPUs of the largest node of the cluster as it is now."""
    connect()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # untyped in ray
    return max((node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]), default=0.0)


def check_room(label: str, num_cpus: float) -> None:
    """Refuse, or report, work that would wait for a machine with more CPUs than there are.

    Raises:
        InputError: Ray runs on this machine alone, and no other can come.
    """
    most = most_cpus_of_a_node()
    # A head without CPUs has machines started when they are asked for.
    if not 0 < most < num_cpus:
        return
    problem = f"{label}: {num_cpus:g} CPUs are asked for, and no machine has more than {most:g}"
    if _is_own_ray():
        raise InputError(f"{problem}; lower workers.cpus_per_worker")
    progress.say(f"{problem}; waiting for one (if none comes: lower workers.cpus_per_worker)")


def _is_own_ray() -> bool:
    """Whether this process started its Ray, which then has this machine alone."""
    node: Any = ray._private.worker._global_node
    return node is not None and bool(node.is_head())


def num_nodes() -> int:
    """Nodes of the cluster as it stands now."""
    connect()
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]  # untyped in ray


def share(value: Any) -> Any:
    """Put a value into the object store once, to be given to `shared` of many calls."""
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
    """Run `function(item, **shared)` as one Ray task an item.

    Args:
        function: Can be pickled; idempotent, since Ray runs it again when a node is lost.
        items: One task each.
        label: What the progress bar says.
        unit: What the items are.
        num_cpus: CPUs a task takes.
        num_gpus: GPUs a task takes.
        num_at_once: Tasks that may run side by side; None: as many as the cluster has room for.
        shared: Keyword arguments, put into the object store once for all tasks; or what `share`
            returned.
        shows_progress: False where the tasks tell of it themselves.

    Returns:
        The results in the order of the items.

    Raises:
        LostProcessError: the process of a task is lost again and again.
        Exception: as raised in a task, once the tasks that run have ended.
    """
    found = dict(
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
    return [found[number] for number in range(len(items))]


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
    """As `for_each`, but yields (number of the item, result) as the tasks end, in any order.

    No more results are held than tasks run or wait, so that large ones can be added up.
    """
    check_room(label, num_cpus)
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
                # Asked anew each time: an autoscaling cluster grows while tasks wait.
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
        # Not cancelled: cancelling a task that is just ending aborts the driver (Ray 2.60,
        # "Tried to complete task that was not pending").
        if running:
            ray.wait(list(running), num_returns=len(running))
        # As itself, so that the user reads what was wrong; --debug shows where.
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        num_times = 1 + (
            _MAX_RETRIES_FOR_WANT_OF_MEMORY if isinstance(error, OutOfMemoryError) else _MAX_RETRIES
        )
        raise LostProcessError(
            f"{label}: the process of a task ended without a word {num_times} times, most likely "
            "for want of memory; give the machines more, or the tasks less (smaller shards)",
            number,
        ) from error


class Notices:
    """Hears, while it is entered, that Ray will take away one of some nodes.

    A call tells whether it heard of one since the last call; it never waits.

    Args:
        node_ids: of the nodes it is about; None for the one that this process runs on.
    """

    def __init__(self, node_ids: Sequence[str] | None = None) -> None:
        self._node_ids = frozenset(node_ids or [ray.get_runtime_context().get_node_id()])
        self._known: frozenset[str] = frozenset()
        self._is_new = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Callable[[], bool]:
        self._thread.start()
        return self._take

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _take(self) -> bool:
        is_new = self._is_new.is_set()
        self._is_new.clear()
        return is_new

    def _run(self) -> None:
        while not self._stop.wait(_NOTICE_POLL_S):
            # What Ray Train's own watcher asks; no public function tells it (2.60). Without an
            # answer the training only loses its early checkpoint.
            with suppress(Exception):
                draining = ray._private.state.state.get_draining_nodes()
                leaving = self._node_ids.intersection(draining)
                if leaving - self._known:
                    self._is_new.set()
                self._known = leaving


def _ignore(count: int) -> None:
    pass


def _apply(function: Callable[..., Result], item: Item, **shared: Any) -> Result:
    return function(item, **shared)
