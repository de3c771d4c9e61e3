"""Metrics writer that also reports to experiment trackers, without waiting for them."""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice, takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from raykd.errors import InputError
from raykd.objectives.base import STUDENT
from raykd.storage.checked_json import read_informative, to_checked_json
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.working_files import write_atomically
from raykd.training.logging.metrics_writer import CURVE_FILE, STEPS_FILE, MetricsWriter, Position
from raykd.training.logging.records import Record, StepRecord
from raykd.training.logging.trackers import TRACKERS, Point, TrackedModel, Tracker, TrackerName

_RUN_FILE = "tracked.json"
# Maximum time that the end of a training waits for a tracker.
_LAST_WAIT_S = 60.0
_POLL_S = 0.1
_POINTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Tracking:
    """Trackers of a training, the group it belongs to, and the folder of their files.

    `waits`: whether the training waits for the trackers after each record, since it may be ended
    there.
    """

    report_to: tuple[TrackerName, ...] = ()
    group: str = ""
    folder: Path = field(default_factory=Path)
    waits: bool = False

    def files(self, name: str) -> TaskFiles:
        """Files that the trackers of a model's training write."""
        if "tensorboard" not in self.report_to:
            return TaskFiles()
        return TaskFiles(writes=(self.folder / "tensorboard" / name,))

    def check_shared(self) -> None:
        """Refuse trackers that write one set of files from several machines.

        Raises:
            InputError: such a tracker is to be used.
        """
        if "mlflow" in self.report_to and "MLFLOW_TRACKING_URI" not in os.environ:
            raise InputError(
                "report_to: mlflow: its database in the output cannot be written from several "
                "machines with --out URL; set MLFLOW_TRACKING_URI, or remove the tracker"
            )
        if "wandb" in self.report_to and os.environ.get("WANDB_MODE") == "offline":
            raise InputError(
                "report_to: wandb: WANDB_MODE=offline does not work on several machines with --out "
                "URL; set WANDB_MODE=online, or remove the tracker"
            )


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Refuse trackers that cannot be used, before anything is trained.

    Raises:
        InputError: a package is not installed, or W&B has no API key.
    """
    # A folder of that name, as W&B and MLflow create, is found as well, but without an origin.
    missing = [name for name in names if (spec := find_spec(name)) is None or spec.origin is None]
    if missing:
        raise InputError(
            f'report_to: {", ".join(missing)} not installed; pip install ".[tracking]", or remove '
            "the tracker"
        )
    if "wandb" in names and os.environ.get("WANDB_MODE", "online") in ("online", "shared"):
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise InputError(
                "report_to: wandb has no API key; set WANDB_API_KEY, or run `wandb login`, or set "
                "WANDB_MODE=offline and send the runs later with `wandb sync`"
            )


@contextmanager
def tracked_metrics_writer(
    folder: Path,
    tracking: Tracking,
    *,
    name: str,
    stage: str,
    key: str,
    settings: Mapping[str, Any],
    on_lost: Callable[[str, str], None],
) -> Iterator[MetricsWriter]:
    """Metrics writer of a folder that also reports to the trackers.

    Args:
        folder: working folder of the unfinished training.
        tracking: trackers.
        name: name of the run.
        stage: stage of the job.
        key: key of the job; another key in the same folder is another run.
        settings: parameters of the run.
        on_lost: called from any thread with the name of a tracker that failed, and the reason; it
            gets no further points.
    """
    if not tracking.report_to:
        yield MetricsWriter(folder)
        return
    model = TrackedModel(
        name=name,
        stage=stage,
        group=tracking.group,
        folder=tracking.folder,
        run_id=_run_id(folder, key),
        settings=settings,
    )
    senders = [
        _Sender(tracker, TRACKERS[tracker](), partial(on_lost, tracker))
        for tracker in tracking.report_to
    ]
    failed = False
    try:
        yield _TrackedMetricsWriter(folder, model, senders, waits=tracking.waits)
    except Exception:
        failed = True
        raise
    finally:
        for sender in senders:
            sender.end(failed=failed)
        for sender in senders:
            sender.wait()


class _TrackedMetricsWriter(MetricsWriter):
    def __init__(
        self, folder: Path, model: TrackedModel, senders: Sequence["_Sender"], *, waits: bool
    ) -> None:
        super().__init__(folder)
        self._model, self._senders, self._waits = model, senders, waits

    def truncate(self, step: int, position: Position) -> None:
        super().truncate(step, position)
        for sender in self._senders:
            sender.start_run(self._model, step, self._folder)

    def write_steps(self, records: Sequence[StepRecord]) -> None:
        super().write_steps(records)
        for sender in self._senders:
            sender.send([_of_step(record) for record in records])

    def write(self, record: Record) -> None:
        super().write(record)
        for sender in self._senders:
            sender.send([_of_record(record)])
        if self._waits:
            for sender in self._senders:
                sender.catch_up()


class _Sender:
    """Thread that calls a tracker, so that a hanging network does not block the training."""

    def __init__(self, name: str, tracker: Tracker, on_lost: Callable[[str], None]) -> None:
        self._tracker, self._on_lost = tracker, on_lost
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._is_lost = False
        self._thread = threading.Thread(target=self._run, name=f"report_to {name}", daemon=True)

    def start_run(self, model: TrackedModel, step: int, folder: Path) -> None:
        self._calls.put(partial(self._tracker.open, model, step))
        # A tracker may have been behind when the training was interrupted.
        self._calls.put(partial(self._send_past, step, folder))
        self._thread.start()

    def send(self, points: Sequence[Point]) -> None:
        if not self._is_lost:
            self._calls.put(partial(self._tracker.log, points))

    def catch_up(self) -> None:
        caught_up = threading.Event()
        self._calls.put(caught_up.set)
        latest_s = time.monotonic() + _LAST_WAIT_S
        while not caught_up.wait(_POLL_S) and self._thread.is_alive():
            if time.monotonic() > latest_s:
                return self._lose(f"did not process the latest points in {_LAST_WAIT_S:.0f} s")

    def end(self, *, failed: bool) -> None:
        self._calls.put(partial(self._tracker.close, failed=failed))
        self._calls.put(None)

    def wait(self) -> None:
        if self._thread.ident is None:  # the training failed before its first step
            return
        self._thread.join(_LAST_WAIT_S)
        if self._thread.is_alive():
            self._lose(f"did not process all points in {_LAST_WAIT_S:.0f} s")

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._is_lost:
                return
            try:
                call()
            except Exception as error:  # no tracker error may end the training
                first_line = (str(error).strip() or repr(error)).splitlines()[0]
                self._lose(f"{type(error).__name__}: {first_line}")
                return

    def _send_past(self, step: int, folder: Path) -> None:
        for points in _past(folder, step):
            self._tracker.log(points)

    def _lose(self, problem: str) -> None:
        self._is_lost = True
        self._on_lost(problem)


def _run_id(folder: Path, key: str) -> str:
    """Run id of the unfinished training in the folder, otherwise a new one.

    It is random, since a run in another directory, or restarted, has the same key.
    """
    path = folder / _RUN_FILE
    saved = read_informative(path)
    if saved and saved["key"] == key:
        return str(saved["run_id"])
    run_id = uuid.uuid4().hex
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, to_checked_json({"key": key, "run_id": run_id}))
    return run_id


def _past(folder: Path, step: int) -> Iterator[list[Point]]:
    """Points in the metrics files up to a step, in chunks; the files may grow meanwhile."""
    for name, point in ((STEPS_FILE, _step_of_line), (CURVE_FILE, _record_of_line)):
        if step == 0 or not (folder / name).exists():
            continue
        with (folder / name).open(encoding="utf-8") as lines:
            points = takewhile(lambda point: point.step <= step, map(point, lines))
            while chunk := list(islice(points, _POINTS_AT_ONCE)):
                yield chunk


def _step_of_line(line: str) -> Point:
    return _of_step(StepRecord(**json.loads(line)))


def _record_of_line(line: str) -> Point:
    return _of_record(Record(**json.loads(line)))


def _of_step(record: StepRecord) -> Point:
    prefix = "" if record.player == STUDENT else f"{record.player}_"
    own = {
        "train/epoch": record.epoch,
        f"train/{prefix}learning_rate": record.learning_rate,
        f"train/{prefix}gradient_norm": record.gradient_norm,
    }
    named = _named("losses", record.losses) | _named("measures", record.measures)
    return Point("train", record.step, own | named)


def _of_record(record: Record) -> Point:
    return Point(
        "records",
        record.step,
        {
            "records/epoch": record.epoch,
            **_named("mean_losses", record.losses),
            **_named("mean_measures", record.measures),
            **_named("scores", record.scores),
        },
    )


def _named(section: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{section}/{name}": value for name, value in values.items()}
