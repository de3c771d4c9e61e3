"""Progress output: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_INTERVAL_S = 10.0

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line on standard error."""
    console.print(message, markup=False)


@contextmanager
def track(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show progress towards `total` units; yield a function that adds to the count."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        yield _line_writer(label, total, unit)


def _line_writer(label: str, total: int, unit: str) -> Callable[[int], None]:
    """Print a line at most every ten seconds, so that short work prints nothing."""
    done = 0
    last_line_s = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last_line_s
        done += count
        now_s = time.monotonic()
        if now_s - last_line_s >= _LINE_INTERVAL_S:
            last_line_s = now_s
            print(f"{label}: {done} of {total} {unit}", file=sys.stderr, flush=True)  # noqa: T201  # the log line itself

    return advance
