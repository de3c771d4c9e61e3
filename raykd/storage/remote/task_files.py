"""Files of a task in the working folder of an output at a URL.

Machines that do not see the disk of the command copy what a task reads, and send back what it
writes (`cluster.node_files`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class TaskFiles:
    """Files and folders that a task uses; they need not exist, and may be outside of the output.

    Attributes:
        reads: those that it reads.
        writes: those that it writes, and may read; no other task writes them at the same time.
        adds: folders to which it, and other tasks, add files that appear as a whole.
    """

    reads: tuple[Path | str, ...] = ()
    writes: tuple[Path, ...] = ()
    adds: tuple[Path, ...] = ()

    def __add__(self, other: "TaskFiles") -> "TaskFiles":
        return TaskFiles(
            self.reads + other.reads, self.writes + other.writes, self.adds + other.adds
        )


@runtime_checkable
class HasFiles(Protocol):
    """Value that reads files when a task uses it."""

    def files(self) -> TaskFiles:
        """List the files."""


_fetches: list[Callable[[Sequence[Path]], None]] = []


def need(*paths: Path) -> None:
    """Make files or folders present that the task of this process does not declare.

    For files of which only a few of many are read, known when the task runs.
    """
    if _fetches:
        _fetches[-1](paths)


@contextmanager
def fetching(fetch: Callable[[Sequence[Path]], None]) -> Iterator[None]:
    """Make `need` call this function in the block."""
    _fetches.append(fetch)
    try:
        yield
    finally:
        _fetches.remove(fetch)
