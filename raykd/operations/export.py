"""Export of a model to one ONNX file, with float32 or with int8 weights that passed a gate."""

import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from raykd.errors import InputError
from raykd.evaluation.int8_gate import FileMeasures, measure_files
from raykd.models.calibration import Calibration, check_classes, read_calibration
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.onnx.description import FileDescription, write_description
from raykd.models.onnx.export import export_onnx
from raykd.models.onnx.int8 import Int8, write_int8
from raykd.models.resolve import checked_model, digest_of_model, student_of_run
from raykd.models.tokenization.positions import trained_length
from raykd.storage.delimited import AS_NAMED
from raykd.storage.locations import Location, shown
from raykd.storage.outputs import output_path
from raykd.storage.working_files import replacing
from raykd.tasks.config import LABEL_SEPARATOR
from raykd.tasks.examples import find_sentence_columns, read_rows, to_examples
from raykd.tasks.label_rules import LabelRules
from raykd.tasks.metrics import check_metrics
from raykd.tasks.store import read_task


@dataclass(frozen=True)
class Int8Settings:
    """Settings of int8 weights and of their gate.

    Attributes:
        kind: how activations are quantized; static ranges are measured on the training rows of the
            run, or on `dev`.
        max_loss: points of the metric (times 100) that may be lost.
        dev: labeled rows on which the loss is measured; None: the dev rows of the run.
        text_columns: columns of the text of `dev`.
        label_column: column of its labels.
        metric: metric of the loss; None: the main one of the run's task, else accuracy, or pearson.
    """

    kind: Int8
    max_loss: float = 0.5
    dev: Location | None = None
    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    metric: str | None = None


class Exported(NamedTuple):
    """A written file: inputs, measures of both precisions if it has int8 weights, calibration."""

    inputs: tuple[str, ...]
    difference: float
    metric: str = ""
    float32: FileMeasures | None = None
    int8: FileMeasures | None = None
    calibration: Calibration | None = None


def export_model(reference: str, out: Path, int8: Int8Settings | None = None) -> Exported:
    """Write a model's ONNX file, which describes itself (`models.onnx.description`).

    Args:
        reference: run directory or model, see `models.resolve.student_of_run`.
        out: file to write.
        int8: settings of int8 weights; None: float32.

    Raises:
        InputError: see `export_onnx`; the model's calibration is damaged or of other classes; there
            are no labeled rows for the gate; or int8 weights lose more than `max_loss`. Nothing is
            written then.
    """
    out = output_path(out)
    student = student_of_run(reference)
    if out.is_dir():
        raise InputError(f"--out {out}: is a directory; name a file, such as {out}/student.onnx")
    calibration = read_calibration(checked_model(student))
    rows = None if int8 is None else _labeled_rows(reference, student, int8)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        float32 = Path(folder) / "float32.onnx"
        difference, inputs = export_onnx(student, float32)
        tokenizer = load_tokenizer(student)
        encoder = load_encoder(student)
        labels = encoder.label_names
        if calibration is not None:
            check_classes(calibration, labels, student)
        description = FileDescription(
            model=student,
            digest=digest_of_model(student),
            labels=labels,
            max_length=trained_length(student, tokenizer),
            pad_id=tokenizer.pad_token_id or 0,
            multi_label=encoder.is_multi_label,
            calibration=calibration,
            raykd_version=version("raykd"),
        )
        write_description(float32, description, tokenizer)
        exported = Exported(inputs, difference)
        written = float32
        if int8 is not None:
            assert rows is not None
            written = Path(folder) / "int8.onnx"
            write_int8(
                float32,
                written,
                int8.kind,
                rows=rows.calibration,
                tokenizer=tokenizer,
                max_length=description.max_length,
            )
            write_description(written, description, tokenizer)
            measures = measure_files(
                [float32, written], rows.dev, [rows.metric], max_length=description.max_length
            )
            exported = Exported(inputs, difference, rows.metric, measures[0], measures[1])
            _check_loss(exported, int8)
            scores = {
                name: found.scores
                for name, found in zip(("float32", "int8"), measures, strict=True)
            }
            update = {"precision": "int8", "scores": scores}
            write_description(written, description.model_copy(update=update), tokenizer)
        with replacing(out) as partial:
            shutil.copyfile(written, partial)
    return exported._replace(calibration=calibration)


class _LabeledRows(NamedTuple):
    """Rows of the gate and of the calibration, and the metric."""

    dev: pa.Table
    calibration: list[tuple[str, ...]]
    metric: str


def _labeled_rows(reference: str, student: str, int8: Int8Settings) -> _LabeledRows:
    encoder = load_encoder(student)
    labels, multi_label = encoder.label_names, encoder.is_multi_label
    if int8.dev is not None:
        separator = LABEL_SEPARATOR if multi_label else None
        rules = LabelRules(int8.label_column, labels or None, options=True, separator=separator)
        source = shown(int8.dev)
        table = read_rows(int8.dev, [int8.text_columns], rules, AS_NAMED)
        columns = find_sentence_columns(source, table.column_names, [int8.text_columns], rules)
        dev = to_examples(source, table, columns, rules, labels=labels).table
        calibrating = dev
        metrics: tuple[str, ...] = ("accuracy",) if labels else ("pearson",)
        metrics = ("f1_micro",) if multi_label else metrics
    else:
        folder = Path(reference).expanduser() / "task"
        if not (folder / "task.json").is_file():
            raise InputError(
                f"raykd export {reference}: int8 weights need labeled rows, on which their loss is "
                "measured; give the run directory of the model, or --dev FILE"
            )
        task = read_task(folder)
        if task.labels != labels:
            raise InputError(
                f"raykd export {reference}: the student's classes ({', '.join(labels)}) are not "
                f"those of the run's task ({', '.join(task.labels)}); run the recipe again"
            )
        dev, calibrating, metrics = task.dev, task.train, task.metrics
    if not dev.num_rows:
        raise InputError(f"raykd export {reference}: there are no labeled rows; give others")
    if int8.metric is not None:
        try:
            check_metrics([int8.metric], regression=not labels, multi_label=multi_label)
        except ValueError as error:
            raise InputError(f"raykd export: --metric: {error}") from None
    texts = [calibrating["sentence1"].to_pylist()]
    if calibrating["sentence2"].null_count < calibrating.num_rows:
        texts.append(calibrating["sentence2"].to_pylist())
    return _LabeledRows(dev, list(zip(*texts, strict=True)), int8.metric or metrics[0])


def _check_loss(exported: Exported, int8: Int8Settings) -> None:
    """Refuse int8 weights that lose too much.

    Raises:
        InputError: names the loss and the remedy.
    """
    lost = points_lost(exported)
    # Not `>`, which is false for NaN.
    if not lost <= int8.max_loss:
        other = "static" if int8.kind == "dynamic" else "dynamic"
        raise InputError(
            f"raykd export: int8 weights lose {lost:.2f} points of {exported.metric} on the dev "
            f"rows, more than {int8.max_loss:g}; nothing was written. Try --int8 {other}, allow "
            "more with --max-loss, or export float32"
        )


def points_lost(exported: Exported) -> float:
    """Points (times 100) of the metric that int8 weights lose; negative if they gain."""
    assert exported.float32 is not None
    assert exported.int8 is not None
    metric = exported.metric
    # Rounded beyond the digits that rows can change, so that equal scores differ by 0.
    return round(100 * (exported.float32.scores[metric] - exported.int8.scores[metric]), 9)
