"""Progress output: a bar on a terminal, plain lines elsewhere, or JSON lines for log collectors.

With RAYKD_LOG=json (`--log-format json`), every line of standard error is a JSON object with
`time`, `level`, `run`, `stage`, `shard` and `message`, as Loki and CloudWatch read them from the
output of containers.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

_LINE_INTERVAL_S = 10.0
_REFRESHES_PER_SECOND = 4

LOG_VARIABLE = "RAYKD_LOG"
LOG_FORMATS = ("text", "json")
Level = Literal["info", "warning", "error"]

console = Console(stderr=True, highlight=False, soft_wrap=True)

_labels: ContextVar[dict[str, str] | None] = ContextVar("labels", default=None)


def labels() -> dict[str, str]:
    """Names of the run and the stage that this process works on, as far as they are known."""
    return _labels.get() or {}


@contextmanager
def labeled(**names: str) -> Iterator[None]:
    """Add labels, `run` or `stage`, to all lines and metrics of the block."""
    token = _labels.set({**labels(), **names})
    try:
        yield
    finally:
        _labels.reset(token)


def logs_json() -> bool:
    """Check whether lines are JSON objects."""
    return os.environ.get(LOG_VARIABLE) == "json"


def say(message: str, *, level: Level = "info", shard: int | None = None) -> None:
    """Print one line on standard error.

    Args:
        message: text of the line.
        level: level in a JSON line.
        shard: number of the shard in a JSON line.
    """
    if not logs_json():
        console.print(message, markup=False)
        return
    names = labels()
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "run": names.get("run"),
        "stage": names.get("stage"),
        "shard": shard,
        "message": message.strip(),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)  # noqa: T201  # the log line itself


def log_shard(label: str, shard: int, total: int, unit: str) -> None:
    """Log the completion of a shard, in JSON lines only: people read the progress instead."""
    if logs_json():
        say(f"{label}: completed one of {total} {unit}", shard=shard)


class Details(Protocol):
    """Facts of the work in progress that a terminal shows in addition to the bar."""

    def left_s(self) -> float | None:
        """Estimate the seconds left; None while they are unknown."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the part below the bar; another thread calls this several times per second."""


@contextmanager
def track(
    label: str, total: int, unit: str, details: Details | None = None
) -> Iterator[Callable[[int], None]]:
    """Show progress towards `total` units; yield a function that adds to the count.

    Args:
        label: name of the work.
        total: number of units.
        unit: what is counted.
        details: further facts, shown in a terminal only.
    """
    if console.is_terminal and not logs_json():
        with _Bar(unit, details) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        yield _line_writer(label, total, unit)


class _Bar(Progress):
    """Progress bar, and the details below it."""

    def __init__(self, unit: str, details: Details | None) -> None:
        self._details = details
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn() if details is None else _TimeLeft(details),
            console=console,
            transient=True,
            refresh_per_second=_REFRESHES_PER_SECOND,
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar, then the details."""
        yield from super().get_renderables()
        if self._details is not None:
            yield self._details


class _TimeLeft(ProgressColumn):
    """Column with an estimate that knows more than the speed of the count."""

    def __init__(self, details: Details) -> None:
        super().__init__(Column(no_wrap=True))
        self._details = details

    def render(self, task: Task) -> Text:
        """Render the time left; empty while it is unknown."""
        left_s = self._details.left_s()
        return Text("" if left_s is None else duration(left_s), style="progress.remaining")


def duration(seconds: float) -> str:
    """Format a duration as the bar does: 0:01:30."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


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
            line = f"{label}: {done} of {total} {unit}"
            if logs_json():
                say(line)
            else:
                print(line, file=sys.stderr, flush=True)  # noqa: T201  # the log line itself

    return advance
