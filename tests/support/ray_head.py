"""Head node of a Ray cluster of its own, with a dashboard and token authentication."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Head(NamedTuple):
    """A head node: the URL of its dashboard, and the session folder that its processes name."""

    url: str
    session: str


@contextmanager
def ray_head(folder: Path, token: str | None) -> Iterator[Head]:
    """Start a head node on unused ports.

    Its processes are ended by their own ids: `ray stop` would end every Ray on the machine.

    Args:
        folder: folder of this cluster only.
        token: token that it requires; None for a head that requires none.
    """
    port, dashboard, client, agent = unused_ports(4)
    # Paths of Ray's sockets must be short.
    session = tempfile.mkdtemp(prefix="rh", dir="/tmp")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_USAGE_STATS_ENABLED": "0",
        # A busy machine needs more than the default of 30 s.
        "RAY_raylet_start_wait_time_s": "150",
        "RAY_AUTH_MODE": "token" if token else "disabled",
        **({"RAY_AUTH_TOKEN": token} if token else {}),
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    command += ["--num-cpus=2", f"--temp-dir={session}", "--object-store-memory=100000000"]
    log = folder / "head.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{dashboard}"
    try:
        _wait_for(url, process, log)
        yield Head(url, session)
    finally:
        _end(process, session)


def unused_ports(number: int) -> list[int]:
    """Find ports of this machine on which nothing listens."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    """Wait until the job API answers; 401 is an answer too."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{url}/api/jobs/absent", timeout=5)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 404):
                return
        except OSError:
            pass
        time.sleep(1)
    raise TimeoutError(log.read_text())


def _end(process: subprocess.Popen, session: str) -> None:
    """End the head, then those of its processes that remain: they name its session folder."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
    end_processes(session)


def end_processes(session: str) -> None:
    """Kill the processes that name a session's folder, except this one."""
    own = re.compile(re.escape(session).encode())
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_own = own.search((entry / "cmdline").read_bytes()) and int(entry.name) != os.getpid()
            if is_own:
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue
