"""Events of a training, which the training loop reports to its caller."""

from collections.abc import Sequence

from raykd.training.logging.metrics_writer import MetricsWriter, Position
from raykd.training.logging.records import Record, StepRecord


class TrainingEvents:
    """Handler of a training's events; a subclass overrides those that it needs.

    With several workers, only the first one's training reports events.
    """

    def has_notice(self) -> bool:
        """Return whether a preemption notice arrived since the last call.

        A checkpoint is then written immediately.
        """
        return False

    def on_start(self, step: int, position: Position) -> None:
        """Handle the start of the training.

        Args:
            step: step that the training resumes after; 0 for a new training.
            position: position that `on_checkpoint` returned then; empty for a new training.
        """

    def on_rows(self, num_tokens: int) -> None:
        """Handle the rows to train on, which have `num_tokens` tokens; called before `on_start`."""

    def on_step(self, step: int) -> None:
        """Handle the end of a step, numbered from 1."""

    def on_step_records(self, records: Sequence[StepRecord]) -> None:
        """Handle the records of the last few steps."""

    def on_record(self, record: Record, is_last: bool) -> None:
        """Handle a record of means and scores."""

    def on_checkpoint(self) -> Position:
        """Return the position in the metrics files, to be stored in the next checkpoint."""
        return {}

    def on_tracker_lost(self, tracker: str, problem: str) -> None:
        """Handle the failure of an experiment tracker, which gets no further points.

        Called from any thread.
        """


def logged_events(events: TrainingEvents, metrics_writer: MetricsWriter) -> "_LoggedEvents":
    """Write the records to the metrics files before a handler gets them."""
    return _LoggedEvents(events, metrics_writer)


class _LoggedEvents(TrainingEvents):
    """`first_step` is the step that the training resumed after."""

    def __init__(self, events: TrainingEvents, metrics_writer: MetricsWriter) -> None:
        self._events, self._metrics_writer = events, metrics_writer
        self.first_step = 0

    def has_notice(self) -> bool:
        return self._events.has_notice()

    def on_start(self, step: int, position: Position) -> None:
        self.first_step = step
        self._metrics_writer.truncate(step, position)
        self._events.on_start(step, position)

    def on_rows(self, num_tokens: int) -> None:
        self._events.on_rows(num_tokens)

    def on_step(self, step: int) -> None:
        self._events.on_step(step)

    def on_step_records(self, records: Sequence[StepRecord]) -> None:
        self._metrics_writer.write_steps(records)
        self._events.on_step_records(records)

    def on_record(self, record: Record, is_last: bool) -> None:
        self._metrics_writer.write(record)
        self._events.on_record(record, is_last)

    def on_checkpoint(self) -> Position:
        return self._metrics_writer.position()

    def on_tracker_lost(self, tracker: str, problem: str) -> None:
        self._events.on_tracker_lost(tracker, problem)
