"""Ray actor that collects progress, errors and messages of training workers for the driver.

Keep imports light: the actor's process loads this module.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from raykd import progress

_POLL_S = 0.5


class ProgressActor:
    """Progress, first error and messages of the workers of a training."""

    def __init__(self) -> None:
        self._num_steps: dict[str, int] = {}
        self._error: Exception | None = None
        self._lines: dict[str, str] = {}
        self._num_lines_taken = 0

    def report_steps(self, name: str, count: int) -> None:
        """Record the steps of a job so far; steps repeated after a restart count once."""
        self._num_steps[name] = max(count, self._num_steps.get(name, 0))

    def num_steps(self) -> int:
        """Total number of steps of all jobs so far."""
        return sum(self._num_steps.values())

    def report_error(self, error: Exception) -> None:
        """Record an error; the first one is kept."""
        self._error = self._error or error

    def error(self) -> Exception | None:
        """Return the first recorded error, or None."""
        return self._error

    def report_line(self, topic: str, line: str) -> None:
        """Record a line for the user; the first one per topic is kept."""
        self._lines.setdefault(topic, line)

    def take_lines(self) -> list[str]:
        """Return the lines recorded since the last call."""
        lines = list(self._lines.values())[self._num_lines_taken :]
        self._num_lines_taken += len(lines)
        return lines


def start_progress_actor() -> Any:
    """Start a `ProgressActor` on the driver's node, which also runs Ray Train's controller.

    Ray could place it on any node otherwise, and losing that node would end the training.
    """
    driver_node = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    return ray.remote(num_cpus=0, label_selector=driver_node)(ProgressActor).remote()


class ProgressThread:
    """Context manager that updates a progress bar while the driver's thread is blocked.

    Args:
        progress_actor: from `start_progress_actor`.
        advance: function that advances the progress bar by a number of steps.
    """

    def __init__(self, progress_actor: Any, advance: Callable[[int], None]) -> None:
        self._progress_actor = progress_actor
        self._advance = advance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        shown = 0
        is_over = False
        while not is_over:
            is_over = self._stop.wait(_POLL_S)
            with suppress(ray.exceptions.RayError):
                done = ray.get(self._progress_actor.num_steps.remote())
                self._advance(done - shown)
                shown = done
                for line in ray.get(self._progress_actor.take_lines.remote()):
                    progress.say(line)
