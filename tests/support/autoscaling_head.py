"""Head of a Ray cluster whose autoscaler starts and ends nodes on this machine, as in a cloud."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FakeMultiNodeProvider,
)
from ray_head import end_processes, unused_ports

# Ray's provider for tests starts nodes that join this port.
_PORT = 6379


@contextmanager
def autoscaling_head(
    folder: Path, node_types: dict[str, dict[str, Any]], *, is_second_version: bool
) -> Iterator[str]:
    """Start a head without CPUs; yield its address.

    Args:
        folder: folder of this cluster only.
        node_types: resources and numbers of the nodes that it may start, by name.
        is_second_version: whether to use version 2 of Ray's autoscaler, as KubeRay does.
    """
    dashboard, client, agent = unused_ports(3)
    session = tempfile.mkdtemp(prefix="ra", dir="/tmp")
    config: dict[str, Any] = {
        "cluster_name": "autoscaling",
        "max_workers": 8,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 10,
        "provider": {
            # As "external", since the defaults of "fake_multinode" are not in Ray's wheel.
            "type": "external",
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **{name: {"node_config": {}, **node} for name, node in node_types.items()},
        },
        "head_node_type": "ray.head.default",
        "head_node": {},
        "worker_nodes": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "auth": {},
    }
    if is_second_version:
        config["provider"]["launch_multiple"] = True
    path = folder / "autoscaler.yaml"
    path.write_text(json.dumps(config))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_USAGE_STATS_ENABLED": "0",
        # A busy machine needs more than the default of 30 s.
        "RAY_raylet_start_wait_time_s": "150",
        "RAY_AUTH_MODE": "disabled",
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": str(int(is_second_version)),
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--port={_PORT}", f"--temp-dir={session}", "--num-cpus=0"]
    command += [f"--autoscaling-config={path}", "--include-dashboard=false"]
    command += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}"]
    command += ["--object-store-memory=100000000"]
    log = folder / "head.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield f"127.0.0.1:{_PORT}"
    finally:
        process.send_signal(signal.SIGTERM)
        end_processes(session)
