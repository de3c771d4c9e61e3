"""Ray's edge: what workers tell the driver while they train.

It imports nothing slow: the actor's process has to load it.
"""

from typing import Any

import ray


class Board:
    """An actor between the workers and the driver: steps done, and what went wrong."""

    def __init__(self) -> None:
        self._num_steps: dict[str, int] = {}
        self._problem: Exception | None = None
        self._lines: dict[str, str] = {}
        self._num_taken = 0

    def tell_steps(self, name: str, count: int) -> None:
        """The steps of a job so far; those that it does again are not counted again."""
        self._num_steps[name] = max(count, self._num_steps.get(name, 0))

    def num_steps(self) -> int:
        """Steps of all jobs so far."""
        return sum(self._num_steps.values())

    def report_problem(self, error: Exception) -> None:
        """Leave an error for the driver; the first one is kept."""
        self._problem = self._problem or error

    def problem(self) -> Exception | None:
        """The error left, if any."""
        return self._problem

    def tell(self, topic: str, line: str) -> None:
        """Leave a line for the user; the first one of a topic is kept."""
        self._lines.setdefault(topic, line)

    def take_lines(self) -> list[str]:
        """The lines left since the last call."""
        lines = list(self._lines.values())[self._num_taken :]
        self._num_taken += len(lines)
        return lines


def start_board() -> Any:
    """Start a `Board` on the driver's node, where Ray Train's controller is too.

    Ray would place it on any node, and the loss of that node would end the training.
    """
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    return ray.remote(num_cpus=0, label_selector=here)(Board).remote()
