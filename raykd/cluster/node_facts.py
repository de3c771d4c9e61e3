"""Facts about machines, for `raykd doctor`: versions, GPUs, disk, shared memory, clock.

This file also runs alone, as a job on a cluster where raykd is not installed: `python node_facts.py
[URL]` prints the facts of every node as one line of JSON. So it imports nothing else at the top.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MARK = "raykd-node-facts: "
_PACKAGES = ("raykd", "ray", "torch", "transformers", "pyarrow")
_TASK_TIMEOUT_S = 120


def facts_of_machine(out: str | None = None, *, uses_torch: bool | None = None) -> dict[str, Any]:
    """Collect the facts of this machine.

    Args:
        out: place of an output to probe; it needs raykd.
        uses_torch: whether torch is imported to count its GPUs; None: if there is a GPU device.
    """
    devices = list(Path("/dev").glob("nvidia[0-9]*"))
    facts: dict[str, Any] = {
        "host": os.uname().nodename,
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": _versions(),
        "gpu_devices": len(devices),
        "torch_gpus": _torch_gpus() if (devices if uses_torch is None else uses_torch) else 0,
        "disk": [tempfile.gettempdir(), shutil.disk_usage(tempfile.gettempdir()).free],
        "shared_memory": _shared_memory(),
        "clock_s": time.time(),
    }
    if out is not None:
        facts["storage_problem"] = _storage_problem(out)
    return facts


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def _torch_gpus() -> int | str:
    """Count the GPUs that torch can use; a text if it cannot."""
    try:
        import torch

        if not torch.cuda.is_available():
            return "torch sees no GPU: its CUDA build does not fit the driver, or it has none"
        return torch.cuda.device_count()
    except Exception as error:  # a broken installation raises anything
        return f"{type(error).__name__}: {error}"[:300]


def _shared_memory() -> int | None:
    """Total bytes of /dev/shm, in which Ray keeps its objects; None if there is none."""
    try:
        return shutil.disk_usage("/dev/shm").total
    except OSError:
        return None


def _storage_problem(out: str) -> str | None:
    """Probe a place; return the problem, or None."""
    try:
        from raykd.storage.locations import location_of
        from raykd.storage.probe import probe_storage
    except ImportError:
        return "not probed: this node's raykd is missing or older"
    try:
        probe_storage(location_of(out, to_write=True))
    except (ValueError, OSError) as error:
        return str(error)
    return None


def main() -> None:
    """Print the facts of all nodes of the cluster that this job runs on."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    out = sys.argv[1] if len(sys.argv) > 1 else None
    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    task = ray.remote(num_cpus=0, max_retries=0)(facts_of_machine)
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # untyped in ray
    facts = []
    for node in nodes:
        affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        has_gpu = bool(node["Resources"].get("GPU"))
        reference = task.options(scheduling_strategy=affinity).remote(out, uses_torch=has_gpu)
        try:
            one = ray.get(reference, timeout=_TASK_TIMEOUT_S)
        except Exception as error:
            one = {"host": node["NodeManagerHostname"], "problem": f"{error}"[:300]}
        one["is_head"] = "node:__internal_head__" in node["Resources"]
        one["ray_gpus"] = node["Resources"].get("GPU", 0.0)
        facts.append(one)
    print(MARK + json.dumps(facts))  # noqa: T201  # read from the job's output


if __name__ == "__main__":
    main()
