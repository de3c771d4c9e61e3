"""Predictions on Ray: one task per part of the rows, resumable by part."""

import functools
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd import progress
from raykd.cluster import datasets
from raykd.cluster.capacity import can_start_gpus, total_gpus
from raykd.cluster.sources import Dataset
from raykd.corpus.pipeline import check_layout, sources_with_digests
from raykd.corpus.shards import QUARANTINE_FILE, local_files
from raykd.errors import InputError
from raykd.prediction.classifier import Classifier
from raykd.prediction.confidence import with_threshold
from raykd.prediction.config import PredictConfig
from raykd.prediction.glue_file import check_glue, check_glue_rows, write_glue_file
from raykd.prediction.inputs import InputRows, rows_of_sources, sums_of_counts
from raykd.prediction.parts import RowRange, check_text, plan_parts, read_ranges
from raykd.prediction.types import conformed
from raykd.storage.locations import Location, shown
from raykd.storage.manifest import Draft, Manifest, check_output, digest_of, write_once
from raykd.storage.outputs import output_path
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.working_files import discard_parts, sweep_parts, working_directory

Device = Literal["auto", "cpu", "gpu"]

# Name of an output file.
PART = "part-{:05d}.parquet"
_PART_FILE = "part.parquet"
# Memory of a task in addition to three times its weights: torch, tokens and activations.
_TASK_BYTES = 900 << 20
_COUNTS = ("num_rows", "num_without_text", "num_uncertain")
_LABEL = "label."


@dataclass(frozen=True)
class _PredictedPart:
    directory: Path
    ranges: tuple[RowRange, ...]


def predict_files(
    reference: str,
    data: Sequence[Location],
    out: Path,
    config: PredictConfig,
    *,
    device: Device = "auto",
) -> Manifest:
    """Predict every row; write the rows with all their columns, and the predictions, to `out`.

    `out/part-00000.parquet` and so on have the rows in the order of the files, by name, and of the
    rows in them. On the CPUs of one kind of machine the bytes do not depend on the number of
    workers. Complete parts are kept when an interrupted prediction is repeated.

    Args:
        reference: a saved classifier, see `models.resolve.resolve_model`.
        data: files and folders of Parquet, JSONL, CSV, TSV and text, on a disk or in a store.
        out: output directory.
        config: settings.
        device: "auto" uses GPUs if the cluster has or can start any.

    Returns:
        The manifest; its counts have the rows in all and by predicted class.

    Raises:
        InputError: the model cannot be used or has no threshold for the precision, a file cannot be
            read or has no column of text, more than `MAX_BAD_FRACTION` of the rows cannot be read,
            the files have no rows or columns of incompatible types, or `out` cannot be written.
    """
    out = output_path(out)
    check_output(out)
    classifier, config = _loaded(reference, config)
    if config.glue is not None:
        check_glue(config.glue, classifier.labels)
    sources = sources_with_digests(data, out, exclude=config.exclude)
    check_layout(config.layout, dict(sources))
    sources.sort(key=lambda source: shown(source[1]))
    kind = _device_of(device, classifier)
    settings = {**config.settings(), **classifier.settings(), "device": kind}
    inputs = {"model": classifier.digest, "data": digest_of([digest for digest, _ in sources])}

    def write(draft: Draft) -> None:
        rows = rows_of_sources(sources, working_directory(out, "rows"), config)
        if config.glue is not None:
            num_rows = sum(file.num_rows for file in rows.files)
            check_glue_rows(config.glue, num_rows, rows.quarantine.num_rows)
        predicted = _predict(rows, out, classifier, config, kind)
        for number, part in enumerate(predicted):
            _link(part / _PART_FILE, draft.directory / PART.format(number))
        if config.glue is not None:
            files = [part / _PART_FILE for part in predicted]
            write_glue_file(config.glue, files, draft.directory, config)
        if rows.quarantine.num_rows:
            pq.write_table(rows.quarantine, draft.directory / QUARANTINE_FILE)
        draft.counts.update(rows.counts)
        names = [*_COUNTS, *(f"{_LABEL}{label}" for label in classifier.labels), "task_s"]
        draft.counts.update(sums_of_counts(predicted, names))

    sweep_parts(out)
    manifest = write_once(out, "predict", settings, inputs, write)
    discard_parts(out)
    return manifest


def predict_dataset(
    reference: str, dataset: Dataset, config: PredictConfig, *, device: Device = "auto"
) -> Dataset:
    """Add the predictions to the rows of a dataset of Ray Data, when it is read.

    Raises:
        InputError: the model cannot be used or has no threshold for the precision, or the dataset
            has no column of text, or one of other values.
    """
    classifier, config = _loaded(reference, config)
    kind = _device_of(device, classifier)
    schema = dataset.schema()
    if schema is not None:
        names = list(schema.names)
        if missing := [name for name in config.text_columns if name not in names]:
            raise InputError(
                f"the dataset has no column {missing[0]!r}; its columns are {', '.join(names)}; "
                "name the column of text with text_columns"
            )
        types = dict(zip(names, schema.types, strict=True))
        for name in config.text_columns:
            # Columns of Python objects are known only when they are read.
            if isinstance(types[name], pa.DataType):
                check_text("the dataset", name, types[name], binary=True)
        config.check_names(names, "the dataset")

    def predicted_block(block: Any) -> Any:
        return classifier.predicted(block, config, device=kind)

    return dataset.map_batches(
        predicted_block,
        batch_format="pyarrow",
        batch_size=8192,
        num_cpus=1,
        num_gpus=1 if kind == "cuda" else None,
    )


def _loaded(reference: str, config: PredictConfig) -> tuple[Classifier, PredictConfig]:
    """Load the classifier; replace a wanted precision by its threshold; log the calibration.

    Raises:
        InputError: see `Classifier.load` and `with_threshold`.
    """
    classifier = Classifier.load(reference, config)
    if classifier.labels:
        config, lines = with_threshold(
            config, classifier.calibration, classifier.reference, classifier.precision
        )
        for line in lines:
            progress.say(line)
    return classifier, config


def counts_by_label(manifest: Manifest) -> dict[str, int]:
    """Rows by predicted class, in the order of the model's classes; empty for regression."""
    counts = manifest.counts.items()
    return {name.removeprefix(_LABEL): int(n) for name, n in counts if name.startswith(_LABEL)}


def _device_of(device: Device, classifier: Classifier) -> str:
    """The kind of device of all tasks.

    Raises:
        InputError: a GPU is wanted, and the cluster neither has nor can start one, or the model is
            an ONNX file.
    """
    if classifier.needs_cpu:
        if device == "gpu":
            raise InputError(
                f"predict: {classifier.folder} is computed on CPUs; give the model's folder, or "
                "the device cpu or auto"
            )
        return "cpu"
    if device == "cpu":
        return "cpu"
    if total_gpus() >= 1 or can_start_gpus():
        return "cuda"
    if device == "gpu":
        raise InputError("predict: Ray has no GPU; use the device cpu or auto")
    return "cpu"


def _predict(
    rows: InputRows,
    out: Path,
    classifier: Classifier,
    config: PredictConfig,
    device: str,
) -> list[Path]:
    """Predict all rows; returns the directories of the parts, in order."""
    folder = working_directory(out, "parts")
    parts = [
        _PredictedPart(folder / f"part-{number:05d}", ranges)
        for number, ranges in enumerate(plan_parts(rows.files))
    ]
    datasets.for_each(
        _predict_part,
        parts,
        label="predict",
        unit="parts",
        num_gpus=1.0 if device == "cuda" else 0.0,
        memory_bytes=_TASK_BYTES + 3 * classifier.num_bytes,
        shared={
            "classifier": classifier,
            "config": config,
            "schema": rows.schema,
            "device": device,
        },
        files=lambda part: TaskFiles(
            (classifier.folder, *local_files(piece.file.path for piece in part.ranges)),
            (part.directory,),
        ),
    )
    return [part.directory for part in parts]


def _predict_part(
    part: _PredictedPart,
    *,
    classifier: Classifier,
    config: PredictConfig,
    schema: pa.Schema,
    device: str,
) -> None:
    """Predict the rows of one part, unless it is complete."""
    settings = {
        **config.settings(),
        **classifier.settings(),
        "device": device,
        "schema": str(schema),
    }
    inputs = {
        "model": classifier.digest,
        "rows": digest_of([rows.key() for rows in part.ranges]),
    }
    write = functools.partial(_write_part, part, classifier, config, schema, device)
    write_once(part.directory, "predict part", settings, inputs, write)


def _write_part(
    part: _PredictedPart,
    classifier: Classifier,
    config: PredictConfig,
    schema: pa.Schema,
    device: str,
    draft: Draft,
) -> None:
    started_s = time.monotonic()
    counts: dict[str, float] = dict.fromkeys(_COUNTS, 0)
    counts.update({f"{_LABEL}{label}": 0 for label in classifier.labels})
    full = pa.schema([*schema, *classifier.added_fields(config)])
    path = draft.directory / _PART_FILE
    with pq.ParquetWriter(path, full, compression="zstd") as writer:
        for rows in read_ranges(part.ranges):
            table = classifier.predicted(conformed(rows, schema), config, device=device)
            writer.write_table(table.cast(full))
            predictions = table[config.prediction]
            counts["num_rows"] += table.num_rows
            counts["num_without_text"] += predictions.null_count
            if config.threshold is not None and not classifier.multi_label:
                counts["num_uncertain"] += pc.sum(table[config.is_uncertain]).as_py() or 0
            if classifier.labels:
                for value, number in _frequencies(predictions):
                    counts[f"{_LABEL}{value}"] += number
    draft.counts.update(counts)
    draft.counts["task_s"] = round(time.monotonic() - started_s, 3)


def _frequencies(predictions: pa.ChunkedArray) -> Iterable[tuple[str, int]]:
    if pa.types.is_list(predictions.type):
        predictions = pc.list_flatten(predictions)
    for entry in predictions.drop_null().value_counts().to_pylist():
        yield entry["values"], entry["counts"]


def _link(source: Path, target: Path) -> None:
    """Link a file of this output, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
