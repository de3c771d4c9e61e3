"""Check that every node sees the working folder of an output at a URL."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raykd.storage.remote import working_folder
from raykd.storage.remote.working_folder import WorkingFolder

_NODE_TIMEOUT_S = 60
_checked: set[WorkingFolder] = set()


def check_nodes() -> None:
    """Check the present nodes before work starts; tasks check the nodes that come later.

    Raises:
        InputError: a node does not see the working folder.
    """
    folder = working_folder.current()
    if folder is None or folder in _checked:
        return
    _checked.add(folder)
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # untyped in ray
    if len(nodes) == 1:
        return
    task: Any = ray.remote(num_cpus=0)(_check)
    running = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(folder)
        for node in nodes
    ]
    try:
        ray.get(running, timeout=_NODE_TIMEOUT_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
        return  # a node that is lost or busy; its tasks check


def _check(folder: WorkingFolder) -> None:
    folder.check()
