"""Table of the running trials of a sweep, below the progress bar of a terminal."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from raykd.progress import duration
from raykd.report.tune.trials import Trial, rank, values_text
from raykd.workflow.tune.running import RunningTrial, RunningTrials

# The table is drawn four times per second.
_SHORTEST_TICK_S = 0.2
_MOST_ROWS = 8
# Lines of the terminal that are left to the bar, the lines above it, and the table's own text.
_OTHER_LINES = 6
# Narrower terminals have fewer columns.
_NARROW, _NARROWEST = 64, 44
_SHORTEST_VALUES = 16


@dataclass(frozen=True)
class Row:
    """State of a running trial.

    Attributes:
        number: its number.
        epoch: epochs that were scored.
        num_epochs: epochs of the whole trial.
        score: latest score of the main metric.
        best: best score of the trial.
        started_s: time of its start.
        ends_s: time at which it will end at its present speed; None until an epoch was scored.
        values: searched values.
    """

    number: int
    epoch: float
    num_epochs: int
    score: float | None
    best: float | None
    started_s: float
    ends_s: float | None
    values: str


class TrialTable:
    """Watcher that shows the running trials, and the details of the progress bar.

    The table is drawn in a thread of its own, from rows that are replaced as a whole.

    Args:
        ended: trials that ended before.
        num_trials: trials of the whole sweep.
        num_epochs: returns the epochs of a trial with some values.
        clock: time in seconds, as the running trials have it.
    """

    def __init__(
        self,
        ended: Sequence[Trial],
        num_trials: int,
        num_epochs: Callable[[Mapping[str, Any]], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_trials, self._num_epochs, self._clock = num_trials, num_epochs, clock
        self._best = next(iter(rank(ended)), None)
        self._num_ended = len(ended)
        self._seconds = [
            trial.seconds for trial in ended if trial.seconds is not None and not trial.failed
        ]
        self._epochs: dict[int, int] = {}
        self._reports: dict[int, tuple[float, float]] = {}
        self._rows: tuple[Row, ...] = ()
        self._most_at_once = 0
        self._ticked_s = -_SHORTEST_TICK_S

    def on_end(self, trial: Trial, trial_id: str) -> None:
        """Note the time and the score of an ended trial."""
        known = [] if self._best is None else [self._best]
        self._best = next(iter(rank([*known, trial])), None)
        self._num_ended += 1
        if trial.seconds is not None and not trial.failed:
            self._seconds.append(trial.seconds)
        self._rows = tuple(row for row in self._rows if row.number != trial.number)

    def on_tick(self, running: RunningTrials) -> None:
        """Note the state of the running trials."""
        now_s = self._clock()
        if now_s - self._ticked_s < _SHORTEST_TICK_S:
            return
        self._ticked_s = now_s
        self._rows = tuple(self._row(trial, now_s) for trial in running.trials())
        self._most_at_once = max(self._most_at_once, len(self._rows))

    def left_s(self) -> float | None:
        """Estimate the time to the end of the sweep.

        Trials to come take as long as ended ones did on average, as many at a time as ran so far;
        None until a trial runs, and one has ended with a score.
        """
        if not self._seconds or not self._most_at_once:
            return None
        now_s, mean_s = self._clock(), sum(self._seconds) / len(self._seconds)
        rows = self._rows
        running = [
            max(0.0, (row.started_s + mean_s if row.ends_s is None else row.ends_s) - now_s)
            for row in rows
        ]
        num_waiting = max(0, self._num_trials - self._num_ended - len(rows))
        total_s = sum(running) + num_waiting * mean_s
        return max(total_s / self._most_at_once, *running, 0.0)

    def _row(self, trial: RunningTrial, now_s: float) -> Row:
        if trial.number not in self._epochs:
            self._epochs[trial.number] = self._num_epochs(trial.values)
        num_epochs = self._epochs[trial.number]
        epoch = float(trial.latest.get("epoch", 0))
        scores = [score for _, score in trial.curve]
        ends_s = None
        if epoch > 0:
            if self._reports.get(trial.number, (0.0, 0.0))[0] != epoch:
                self._reports[trial.number] = epoch, now_s
            reported_s = self._reports[trial.number][1]
            rate_s = (reported_s - trial.started_s) / epoch
            ends_s = reported_s + rate_s * max(0.0, num_epochs - epoch)
        return Row(
            number=trial.number,
            epoch=epoch,
            num_epochs=num_epochs,
            score=scores[-1] if scores else None,
            best=max(scores, default=None),
            started_s=trial.started_s,
            ends_s=ends_s,
            values=values_text(with_short_names(trial.values)),
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the best score so far, and a row per running trial, as many as fit."""
        rows, now_s = self._rows, self._clock()
        num_shown = max(1, min(_MOST_ROWS, console.height - _OTHER_LINES))
        best = "none"
        if self._best is not None:
            best = f"{self._best.score:.4f} (trial {self._best.number})"
        yield Text(f"running {len(rows)}, best so far {best}", no_wrap=True, overflow="ellipsis")
        if rows:
            yield _table(rows[:num_shown], now_s, options.max_width)
        if len(rows) > num_shown:
            yield Text(f"and {len(rows) - num_shown} more", no_wrap=True, overflow="ellipsis")


def with_short_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the shortest ends of their keys that differ: `learning_rate`."""
    return {_short(key, values): value for key, value in values.items()}


def _short(key: str, keys: Iterable[str]) -> str:
    parts = key.split(".")
    for num_parts in range(1, len(parts)):
        name = ".".join(parts[-num_parts:])
        if sum(f".{other}".endswith(f".{name}") for other in keys) == 1:
            return name
    return key


def _table(rows: Sequence[Row], now_s: float, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    columns: dict[str, Callable[[Row], str]] = {
        "trial": lambda row: str(row.number),
        "epoch": lambda row: f"{row.epoch:.3g} of {row.num_epochs}",
        "score": lambda row: _score(row.score),
        "best": lambda row: _score(row.best),
        "elapsed": lambda row: duration(now_s - row.started_s),
        "left": lambda row: "" if row.ends_s is None else duration(row.ends_s - now_s),
    }
    if width < _NARROW:
        del columns["best"], columns["elapsed"]
    if width < _NARROWEST:
        del columns["left"]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    cells = [[text(row) for text in columns.values()] for row in rows]
    widths = [max(map(len, column)) + 2 for column in zip(columns, *cells, strict=True)]
    room = width - sum(widths)
    if room >= _SHORTEST_VALUES:
        table.add_column("values", no_wrap=True, overflow="ellipsis", max_width=room)
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(*texts, *([Text(row.values)] if room >= _SHORTEST_VALUES else []))
    return table


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"
