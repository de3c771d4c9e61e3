"""Preemption notices: Ray's announcements that it will take nodes away."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import ray

# Clouds announce a preemption half a minute to two minutes before they take a machine away.
_POLL_S = 3.0


class PreemptionWatcher:
    """Context manager that polls Ray for preemption (draining) of the given nodes.

    It yields a function that returns whether a preemption was announced since its last call.
    The function does not block.

    Args:
        node_ids: nodes to watch; None for the node of this process.
    """

    def __init__(self, node_ids: Sequence[str] | None = None) -> None:
        self._node_ids = frozenset(node_ids or [ray.get_runtime_context().get_node_id()])
        self._draining: frozenset[str] = frozenset()
        self._is_announced = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Callable[[], bool]:
        self._thread.start()
        return self._take

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _take(self) -> bool:
        is_announced = self._is_announced.is_set()
        self._is_announced.clear()
        return is_announced

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            # Ray Train's own watcher calls this too; Ray 2.60 has no public function for it. A
            # failed call only costs the training its early checkpoint.
            with suppress(Exception):
                draining = self._node_ids.intersection(
                    ray._private.state.state.get_draining_nodes()
                )
                if draining - self._draining:
                    self._is_announced.set()
                self._draining = draining
