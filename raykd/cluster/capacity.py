"""Current resources of the cluster: CPUs, GPUs, memory, nodes, and those that a task may use."""

from collections.abc import Mapping
from typing import Any

import ray

from raykd import progress
from raykd.cluster import autoscaler
from raykd.cluster.connection import connect
from raykd.errors import InputError

# Label of nodes in a cluster with several pools; work without a GPU keeps off the pool "gpu".
POOL_LABEL = "raykd-pool"
_GPU_POOL = "gpu"
_NODE_ID_LABEL = "ray.io/node-id"


def total_cpus() -> float:
    """Current number of CPUs of the cluster."""
    return _total("CPU")


def total_gpus() -> float:
    """Current number of GPUs of the cluster."""
    return _total("GPU")


def can_start_gpus() -> bool:
    """Return whether the cluster's autoscaler may start nodes with GPUs; see `autoscaler`."""
    connect()
    return autoscaler.can_start_gpus()


def can_start_nodes() -> bool:
    """Return whether the cluster's autoscaler may start nodes."""
    connect()
    return autoscaler.can_start_nodes()


def connected_resources() -> tuple[float, float] | None:
    """Current CPUs and GPUs of the cluster; None if this process is not connected to one."""
    if not ray.is_initialized():
        return None
    try:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    except Exception:  # the connection ends in the meantime
        return None
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def max_cpus_per_node() -> float:
    """Current number of CPUs of the cluster's largest node."""
    return max((node["Resources"].get("CPU", 0.0) for node in _nodes()), default=0.0)


def num_nodes() -> int:
    """Current number of nodes of the cluster."""
    return len(_nodes())


def cpu_nodes() -> dict[str, str]:
    """Label selector of the nodes for work without a GPU; {} for all nodes.

    Such work keeps off GPU nodes: they are scarce, and a busy one cannot be released. In a cluster
    with nodes that are labeled `raykd-pool`, it runs on nodes with another label than "gpu", which
    may still have to be started. Otherwise it keeps off the present GPU nodes, if other nodes have
    CPUs.
    """
    nodes = _nodes()
    if any(POOL_LABEL in node["Labels"] for node in nodes):
        return {POOL_LABEL: f"!{_GPU_POOL}"}
    with_gpu = [node["NodeID"] for node in nodes if node["Resources"].get("GPU")]
    with_cpu = [node["NodeID"] for node in nodes if node["Resources"].get("CPU")]
    if with_gpu and set(with_cpu) - set(with_gpu):
        return {_NODE_ID_LABEL: f"!in({','.join(sorted(with_gpu))})"}
    return {}


def limited_memory(memory_bytes: int) -> int:
    """Limit a request for memory to that of the largest node, so that some node can serve it."""
    sizes = [int(node["Resources"].get("memory", 0)) for node in _nodes()]
    return min([memory_bytes, *([max(sizes)] if any(sizes) else [])])


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


def _total(resource: str) -> float:
    connect()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return resources.get(resource, 0.0)


def _nodes() -> list[Mapping[str, Any]]:
    connect()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # untyped in ray
    return [node for node in nodes if node["Alive"]]
