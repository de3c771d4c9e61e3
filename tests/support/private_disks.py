"""Ray cluster on this machine whose nodes do not see each other's files in one folder.

Each node has a mount namespace of its own, in which that folder is another one.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ray_head import end_processes, unused_ports


def has_namespaces() -> bool:
    """Check whether this process may make mount namespaces."""
    command = ["unshare", "--mount", "true"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Nodes:
    """Nodes of a cluster, with one CPU each; the head has none.

    Args:
        folder: folder of this cluster only.
        hidden: folder that each node has for itself.
        environment: environment of all nodes.
    """

    def __init__(self, folder: Path, hidden: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._hidden, self._environment = folder, hidden, environment
        # Paths of Ray's sockets must be short.
        self.session = tempfile.mkdtemp(prefix="rp", dir="/tmp")
        self.address = f"127.0.0.1:{unused_ports(1)[0]}"
        self._processes: list[subprocess.Popen] = []
        port = self.address.rpartition(":")[2]
        head = ["--head", f"--port={port}", f"--temp-dir={self.session}", "--num-cpus=0"]
        self._start([*head, "--include-dashboard=false"], None)

    def add(self) -> int:
        """Add a node with one CPU; return its number."""
        number = len(self._processes)
        disk = self.disk(number)
        disk.mkdir(parents=True)
        self._hidden.mkdir(parents=True, exist_ok=True)
        self._start([f"--address={self.address}", "--num-cpus=1"], disk)
        return number

    def disk(self, number: int) -> Path:
        """The folder that a node has in place of the hidden one."""
        return self._folder / f"disk{number}"

    def kill(self, number: int) -> None:
        """Kill a node's processes; its disk remains."""
        os.killpg(self._processes[number].pid, signal.SIGKILL)

    def end(self) -> None:
        """End all nodes."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        end_processes(self.session)

    def _start(self, options: list[str], disk: Path | None) -> None:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        dashboard, client, agent = unused_ports(3)
        # Ray's default ports may be those of another cluster on this machine.
        ray += ["--object-store-memory=100000000", f"--dashboard-agent-listen-port={agent}"]
        if disk is None:
            ray += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        if disk is not None:
            script = 'mount --bind "$0" "$1" && shift && exec "$@"'
            ray = ["unshare", "--mount", "bash", "-c", script, str(disk), str(self._hidden), *ray]
        log = self._folder / f"node{len(self._processes)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ray,
                env=dict(self._environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        deadline = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)


@contextmanager
def nodes_with_private_disks(folder: Path, hidden: Path, number: int) -> Iterator[Nodes]:
    """Run a head and some nodes."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_USAGE_STATS_ENABLED": "0",
        # A busy machine needs more than the default of 30 s.
        "RAY_raylet_start_wait_time_s": "150",
        "RAY_AUTH_MODE": "disabled",
    }
    nodes = Nodes(folder, hidden, environment)
    try:
        for _ in range(number):
            nodes.add()
        yield nodes
    finally:
        nodes.end()
