"""Experiment trackers: what TensorBoard, W&B and MLflow each are told of one training.

Each class knows one of them, and how a training that is interrupted and goes on stays one run
there, with each step once. The packages are imported where they are used: none is required.
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

# What one call to an MLflow server may hold.
_MLFLOW_METRICS, _MLFLOW_PARAMETERS = 1000, 100
_RUN_TAG = "raykd.run"
SERIES = ("train", "records")


class Point(NamedTuple):
    """Numbers at a step; `series` is "train" for a step's own, "records" for means and scores.

    Each has the number `SERIES/epoch`.
    """

    series: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedModel:
    """One training as a run of a tracker.

    `run_id` is that of the training, not of its settings: another training is another run.
    """

    name: str
    stage: str
    group: str
    folder: Path
    run_id: str
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """One tracker's view of one training; any call may raise what that tracker raises."""

    def open(self, model: TrackedModel, start: int) -> None:
        """Begin a run, or go on with it after a step."""

    def log(self, points: Sequence[Point]) -> None:
        """Take points; after `open` all of the training's so far, of which each is kept once."""

    def close(self, *, failed: bool) -> None:
        """End the run."""


class TensorBoard:
    """Event files in `FOLDER/tensorboard/NAME`."""

    def open(self, model: TrackedModel, start: int) -> None:
        """Begin anew, or have readers forget what comes after the step."""
        from torch.utils.tensorboard import SummaryWriter

        folder = model.folder / "tensorboard" / model.name
        if start == 0:
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
        self._told = dict.fromkeys(SERIES, start)
        if start == 0:
            text = json.dumps(model.settings, indent=2)
            self._writer.add_text("settings", f"```json\n{text}\n```", 0)

    def log(self, points: Sequence[Point]) -> None:
        """Append events."""
        for point in _unlogged(points, self._told):
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project WANDB_PROJECT, else of one named as the group; files in `FOLDER/wandb`.

    Its own process sends what it is told when it can; what that process had not yet sent or
    written when it was killed is told again.
    """

    def open(self, model: TrackedModel, start: int) -> None:
        """Begin a run, or go on with it."""
        import wandb

        # Offline nobody can say what a file of a killed process holds: it is written anew.
        for path in (model.folder / "wandb").glob(f"offline-run-*-{model.run_id}"):
            shutil.rmtree(path, ignore_errors=True)
        # The W&B process of one that started ours would hold the run of a killed worker for ever.
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
            # The process trains other models before and after, and its output is of them all.
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        # W&B's own step can only grow, so that it would drop scores told after a step's losses.
        self._run.define_metric("train/global_step")
        self._run.define_metric("*", step_metric="train/global_step")
        # The summary of a run that goes on is the server's: the last value of each name.
        summary: Any = self._run.summary
        self._told = {series: int(summary.get(f"{series}/last_step", 0)) for series in SERIES}

    def log(self, points: Sequence[Point]) -> None:
        """Hand points to W&B's own process."""
        for point in _unlogged(points, self._told):
            steps = {"train/global_step": point.step, f"{point.series}/last_step": point.step}
            self._run.log({**steps, **point.values})

    def close(self, *, failed: bool) -> None:
        """Wait until all is sent."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """A run at MLFLOW_TRACKING_URI, else in the SQLite store `FOLDER/mlflow/mlflow.db`.

    Its experiment is MLFLOW_EXPERIMENT_NAME, else one named as the group. A store of plain files
    is no choice: MLflow 3 refuses it.
    """

    def open(self, model: TrackedModel, start: int) -> None:
        """Begin a run, or go on with the one that has the training's tag."""
        from mlflow import MlflowClient

        uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            folder = model.folder.absolute() / "mlflow"
            make_store(folder / "mlflow.db")
            # Several trainings write side by side, and SQLite lets one at a time.
            uri = f"sqlite:///{folder / 'mlflow.db'}?timeout=60"
            artifacts = (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or model.group
        experiment = self._experiment(name, artifacts)
        runs = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{model.run_id}'")
        self._told: dict[str, int] = {}
        if runs:
            self._id = runs[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            for series in SERIES:
                history = self._client.get_metric_history(self._id, f"{series}/epoch")
                self._told[series] = max((metric.step for metric in history), default=0)
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
            for point in _unlogged(points, self._told)
            for name, value in point.values.items()
        ]
        for at in range(0, len(metrics), _MLFLOW_METRICS):
            self._client.log_batch(self._id, metrics=metrics[at : at + _MLFLOW_METRICS])

    def close(self, *, failed: bool) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    def _experiment(self, name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            with suppress(MlflowException):  # another training made it in the meantime
                return str(self._client.create_experiment(name, artifact_location=artifacts))
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise RuntimeError(f"experiment {name!r} can be neither found nor made")
        return str(found.experiment_id)

    def _log_settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        parameters = [Param(name, str(value)) for name, value in _flat(settings)]
        for at in range(0, len(parameters), _MLFLOW_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[at : at + _MLFLOW_PARAMETERS])


TRACKERS: dict[TrackerName, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def make_store(path: Path) -> None:
    """An empty MLflow store, whole or not at all.

    MLflow makes its tables one after the other, and two processes that begin at once spoil them
    for good.
    """
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments()
        with suppress(FileExistsError):  # another training was first
            path.hardlink_to(made)


def _unlogged(points: Sequence[Point], told: Mapping[str, int]) -> list[Point]:
    return [point for point in points if point.step > told.get(point.series, 0)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Nested keys joined by dots."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
