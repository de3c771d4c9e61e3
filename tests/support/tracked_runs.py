"""Readers of the files that trackers write, independent of the code that writes them."""

import json
import struct
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

Series = dict[str, list[tuple[int, float]]]

# LevelDB's log format, used by W&B's offline files after a header of seven bytes.
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")


class TrackedRun(NamedTuple):
    name: str
    group: str
    settings: dict
    status: str
    series: Series


def tensorboard_series(folder: Path) -> Series:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def tensorboard_settings(folder: Path) -> dict:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    (event,) = accumulator.Tensors("settings/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    return json.loads(text.removeprefix("```json\n").removesuffix("\n```"))


def mlflow_runs(folder: Path) -> list[TrackedRun]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    runs = []
    for experiment in client.search_experiments(filter_string="name != 'Default'"):
        for run in client.search_runs([experiment.experiment_id]):
            series = {
                name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
            settings = dict(run.data.params)
            name = run.info.run_name
            runs.append(TrackedRun(name, experiment.name, settings, run.info.status, series))
    return sorted(runs, key=lambda run: run.name)


def wandb_runs(folder: Path) -> list[TrackedRun]:
    """Return the runs in all files, grouped by run id."""
    records = defaultdict(list)
    for path in (folder / "wandb").glob("offline-run-*/*.wandb"):
        records[path.stem] += _wandb_records(path)
    return sorted(map(_wandb_run, records.values()), key=lambda run: run.name)


def _wandb_run(records: list[WandbRecord]) -> TrackedRun:
    about = next(record.run for record in records if record.HasField("run"))
    exits = [record.exit.exit_code for record in records if record.HasField("exit")]
    series: Series = {}
    for record in records:
        if record.HasField("history"):
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            step = row["train/global_step"]
            for name, value in row.items():
                if not name.startswith("_") and not name.endswith("_step"):
                    series.setdefault(name, []).append((step, value))
    settings = {item.key: json.loads(item.value_json) for item in about.config.update}
    settings.pop("_wandb", None)  # written by W&B itself
    return TrackedRun(about.display_name, about.run_group, settings, str(exits), series)


def _wandb_records(path: Path) -> list[WandbRecord]:
    data, position, parts, records = path.read_bytes(), 7, b"", []
    while position + _HEADER.size <= len(data):
        if _BLOCK - position % _BLOCK < _HEADER.size:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):  # a full record, or its last part
            records.append(WandbRecord.FromString(parts))
            parts = b""
    return records
