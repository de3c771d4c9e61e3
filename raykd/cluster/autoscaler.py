"""Nodes that a cluster's autoscaler may start.

Ray has no interface for it, only for nodes that are there or are being started. `ray up` gives the
autoscaler a file on the head node, where submitted jobs run as well. On Kubernetes the types of
nodes are known to the operator only.
"""

import functools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import yaml

_PROC = Path("/proc")
_OPTION = "--autoscaling-config="
_HEAD_TYPE = "head_node_type"


def can_start_nodes() -> bool:
    """Return whether the cluster of this process may grow by itself."""
    return bool(_types()) or _is_second_version()


def can_start_gpus() -> bool:
    """Return whether the autoscaler may start nodes with GPUs; False if that is not known."""
    return any(resources.get("GPU", 0) > 0 for resources in _types())


def _types() -> list[Mapping[str, float]]:
    """Resources of the types of nodes that may be started, as far as they are known."""
    # Set by operators that report them, such as Anyscale's.
    reported: Any = ray._private.state.state.get_cluster_config()
    if reported is not None:
        return [group.resources for group in reported.node_group_configs if group.max_count != 0]
    config = _config_of(ray.get_runtime_context().gcs_address)
    if config is None:
        return []
    default = config.get("max_workers", 0)
    return [
        node.get("resources") or {}
        for name, node in (config.get("available_node_types") or {}).items()
        if name != config.get(_HEAD_TYPE) and node.get("max_workers", default)
    ]


@functools.cache
def _config_of(address: str) -> Mapping[str, Any] | None:
    """Read the configuration of the autoscaler of a cluster that runs on this machine."""
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError, yaml.YAMLError):
            path = _config_file(
                (entry / "cmdline").read_bytes().decode(errors="replace").split("\0"), address
            )
            if path is not None:
                config: Mapping[str, Any] = yaml.safe_load(Path(path).read_text())
                return config
    return None


def _config_file(words: Sequence[str], address: str) -> str | None:
    is_monitor = any(word.endswith("monitor.py") for word in words[:4])
    if not is_monitor or f"--gcs-address={address}" not in words:
        return None
    return next((w.removeprefix(_OPTION) for w in words if w.startswith(_OPTION)), None)


def _is_second_version() -> bool:
    """Return whether version 2 of the autoscaler runs, as on Kubernetes."""
    raylet: Any = ray._raylet
    value: bytes | None = ray.experimental.internal_kv._internal_kv_get(
        raylet.GCS_AUTOSCALER_V2_ENABLED_KEY, namespace=raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    )
    return value == b"1"
