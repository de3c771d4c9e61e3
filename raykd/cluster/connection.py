"""Connection to Ray: a cluster that is given, one that runs on this machine, or a new one."""

import functools
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray

from raykd import progress
from raykd.cluster.processes import end_leftovers, recorded, records_folder
from raykd.errors import InputError

# Retries of a task that Ray killed because the machine ran out of memory, with a pause that doubles
# each time. Ray's own default is to retry forever.
MAX_OUT_OF_MEMORY_RETRIES = 3

# How often a thread of OpenMP looks whether the others are ready, before it sleeps. By default it
# looks for up to milliseconds, and where other processes use the same cores it does so in the time
# that the thread it waits for needs: a step of training took 2 s next to two busy loops, and 9 to
# 26 s next to two trainings, in place of 0.4 (bench_busy_cores.py, experiments/LOG.md). libgomp
# reads it when torch is imported.
_SPIN_VARIABLE, SPIN_COUNT = "GOMP_SPINCOUNT", "10000"

_CONNECT_TIMEOUT_S = 5
_START_TIMEOUT = "timed out during startup"
_ADDRESS = re.compile(r"local|auto|(?:ray://)?[^/\s]+:\d+/?")
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")


def connect() -> None:
    """Connect to the cluster of RAY_ADDRESS, or one running on this machine, or start one."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(MAX_OUT_OF_MEMORY_RETRIES))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(_SPIN_VARIABLE, SPIN_COUNT)
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
    port = any_agent_port() if address == "local" else nullcontext()
    with translate_connection_errors(address), recorded(folder), port:
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


@contextmanager
def any_agent_port() -> Iterator[None]:
    """Let `ray.init` start its node's agent on any port.

    It has no argument for that. The default port is taken where another Ray runs on the machine;
    the agent then tries for 3.4 s to get it, and the start of Ray waits for it.
    """
    parameter: Any = ray._private.parameter
    parameters = parameter.RayParams
    parameter.RayParams = functools.partial(parameters, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        parameter.RayParams = parameters


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
