"""Experiment trackers: TensorBoard, Weights & Biases and MLflow.

Each class logs a training to one tracker such that an interrupted and resumed training remains one
run with every step once. The optional packages are imported where they are used.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Protocol

TrackerName = Literal["tensorboard", "wandb", "mlflow"]

# Limits per call of an MLflow server.
_MLFLOW_METRICS, _MLFLOW_PARAMETERS = 1000, 100
_RUN_TAG = "raykd.run"
SERIES = ("train", "records")


class Point(NamedTuple):
    """Values at a step; `series` is "train" for losses of the step, "records" for means and scores.

    Each point has the value `SERIES/epoch`.
    """

    series: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedModel:
    """Training that is logged as a run of a tracker.

    `run_id` identifies the training, not its settings: another training is another run.
    """

    name: str
    stage: str
    group: str
    folder: Path
    run_id: str
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """Connection of one training to one tracker; any call may raise the tracker's exceptions."""

    def open(self, model: TrackedModel, start: int) -> None:
        """Start a run, or resume it after a step."""

    def log(self, points: Sequence[Point]) -> None:
        """Log points; after `open` all points so far are logged again and kept once."""

    def close(self, *, failed: bool) -> None:
        """End the run."""


class TensorBoard:
    """Event files in `FOLDER/tensorboard/NAME`."""

    def open(self, model: TrackedModel, start: int) -> None:
        """Start new event files, or purge events after the step."""
        from torch.utils.tensorboard import SummaryWriter

        folder = model.folder / "tensorboard" / model.name
        if start == 0:
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
        self._last_steps = dict.fromkeys(SERIES, start)
        if start == 0:
            text = json.dumps(model.settings, indent=2)
            self._writer.add_text("settings", f"```json\n{text}\n```", 0)

    def log(self, points: Sequence[Point]) -> None:
        """Append events."""
        for point in _unlogged(points, self._last_steps):
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """Run of the project WANDB_PROJECT, by default the group's name; files in `FOLDER/wandb`.

    W&B sends points in a process of its own; points that were not sent when that process was killed
    are logged again.
    """

    def open(self, model: TrackedModel, start: int) -> None:
        """Start a run, or resume it."""
        import wandb

        # The content of a killed process's offline file is unknown: it is rewritten.
        for path in (model.folder / "wandb").glob(f"offline-run-*-{model.run_id}"):
            shutil.rmtree(path, ignore_errors=True)
        # An inherited W&B service process would keep the run of a killed worker open.
        os.environ.pop("WANDB_SERVICE", None)
        self._run = wandb.init(
            id=model.run_id,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT") or model.group,
            group=model.group,
            job_type=model.stage,
            name=model.name,
            config=dict(model.settings),
            dir=str(model.folder),
            # The process also trains other models, so its console output is not the run's.
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        # W&B's own step only grows, so that it would drop scores logged after a step's losses.
        self._run.define_metric("train/global_step")
        self._run.define_metric("*", step_metric="train/global_step")
        # The summary of a resumed run is the server's: the last value of each name.
        summary: Any = self._run.summary
        self._last_steps = {series: int(summary.get(f"{series}/last_step", 0)) for series in SERIES}

    def log(self, points: Sequence[Point]) -> None:
        """Pass points to the W&B process."""
        for point in _unlogged(points, self._last_steps):
            steps = {"train/global_step": point.step, f"{point.series}/last_step": point.step}
            self._run.log({**steps, **point.values})

    def close(self, *, failed: bool) -> None:
        """Wait until all points are sent."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """Run at MLFLOW_TRACKING_URI, by default in the SQLite store `FOLDER/mlflow/mlflow.db`.

    Its experiment is MLFLOW_EXPERIMENT_NAME, by default the group's name. (MLflow 3 refuses file
    stores.)
    """

    def open(self, model: TrackedModel, start: int) -> None:
        """Start a run, or resume the one with the training's tag."""
        from mlflow import MlflowClient

        uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            folder = model.folder.absolute() / "mlflow"
            make_store(folder / "mlflow.db")
            # Several trainings write concurrently, and SQLite allows one writer at a time.
            uri = f"sqlite:///{folder / 'mlflow.db'}?timeout=60"
            artifacts = (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or model.group
        experiment = self._experiment(name, artifacts)
        runs = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{model.run_id}'")
        self._last_steps: dict[str, int] = {}
        if runs:
            self._id = runs[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            for series in SERIES:
                history = self._client.get_metric_history(self._id, f"{series}/epoch")
                self._last_steps[series] = max((metric.step for metric in history), default=0)
        else:
            tags = {_RUN_TAG: model.run_id, "raykd.stage": model.stage}
            run = self._client.create_run(experiment, run_name=model.name, tags=tags)
            self._id = run.info.run_id
            self._log_settings(model.settings)

    def log(self, points: Sequence[Point]) -> None:
        """Send points."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        metrics = [
            Metric(name, value, now_ms, point.step)
            for point in _unlogged(points, self._last_steps)
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), _MLFLOW_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MLFLOW_METRICS])

    def close(self, *, failed: bool) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    def _experiment(self, name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            with suppress(MlflowException):  # another training created it in the meantime
                return str(self._client.create_experiment(name, artifact_location=artifacts))
            experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            raise RuntimeError(f"experiment {name!r} can be neither found nor created")
        return str(experiment.experiment_id)

    def _log_settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        parameters = [Param(name, str(value)) for name, value in _flat(settings)]
        for start in range(0, len(parameters), _MLFLOW_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[start : start + _MLFLOW_PARAMETERS])


TRACKERS: dict[TrackerName, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def make_store(path: Path) -> None:
    """Create an empty MLflow store atomically.

    MLflow creates its tables one after the other, and two processes that do so concurrently corrupt
    the store.
    """
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        store = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{store}").search_experiments()
        with suppress(FileExistsError):  # another training created it first
            path.hardlink_to(store)


def _unlogged(points: Sequence[Point], last_steps: Mapping[str, int]) -> list[Point]:
    return [point for point in points if point.step > last_steps.get(point.series, 0)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Settings with nested keys joined by dots."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
