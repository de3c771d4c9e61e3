"""The gate of `raykd export`: how a file is made smaller, and the rows it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from raykd.errors import InputError
from raykd.models.encoder import load_encoder
from raykd.models.onnx.int8 import Int8
from raykd.storage.delimited import AS_NAMED
from raykd.storage.locations import Location, shown
from raykd.tasks.config import LABEL_SEPARATOR
from raykd.tasks.examples import find_sentence_columns, read_rows, to_examples
from raykd.tasks.labels.rules import LabelRules
from raykd.tasks.metrics import check_metrics
from raykd.tasks.store import read_task, task_folder_of


@dataclass(frozen=True)
class Reduction:
    """Ways to make a file smaller, and the gate that it has to pass.

    Attributes:
        int8: how activations are quantized; static ranges are measured on the training rows of the
            run, or, of a model that is in no run, on `dev`. None: float32 weights.
        vocabulary_of: texts whose tokens are kept, together with those of the run's training rows;
            none: the whole vocabulary.
        max_loss: points of the metric (times 100) that may be lost.
        dev: labeled rows on which the loss is measured; None: the dev rows of the run.
        text_columns: columns of the text of `dev` and of `vocabulary_of`.
        label_column: column of the labels of `dev`.
        metric: metric of the loss; None: the main one of the run's task, else accuracy, or pearson.
    """

    int8: Int8 | None = None
    vocabulary_of: tuple[Location, ...] = ()
    max_loss: float = 0.5
    dev: Location | None = None
    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    metric: str | None = None

    @property
    def title(self) -> str:
        """Kind of the smaller file: `int8`, `pruned`, or `pruned int8`."""
        return " ".join(["pruned"] * bool(self.vocabulary_of) + ["int8"] * bool(self.int8))


class LabeledRows(NamedTuple):
    """Rows of the gate and of the calibration, the run's training rows if any, and the metric."""

    dev: pa.Table
    calibration: list[tuple[str, ...]]
    training: list[tuple[str, ...]]
    metric: str


def labeled_rows(reference: str, student: str, reduction: Reduction) -> LabeledRows:
    """Rows to measure a smaller file on.

    Args:
        reference: run directory or model.
        student: the model.
        reduction: settings.

    Raises:
        InputError: there are none, or their classes or the metric do not fit the model.
    """
    encoder = load_encoder(student)
    labels, multi_label = encoder.label_names, encoder.is_multi_label
    folder = task_folder_of(Path(reference).expanduser())
    task = None if folder is None else read_task(folder)
    if task is not None and task.labels != labels:
        raise InputError(
            f"raykd export {reference}: the student's classes ({', '.join(labels)}) are not "
            f"those of the run's task ({', '.join(task.labels)}); run the recipe again"
        )
    if reduction.dev is not None:
        separator = LABEL_SEPARATOR if multi_label else None
        rules = LabelRules(
            reduction.label_column, labels or None, options=True, separator=separator
        )
        source = shown(reduction.dev)
        table = read_rows(reduction.dev, [reduction.text_columns], rules, AS_NAMED)
        columns = find_sentence_columns(source, table.column_names, [reduction.text_columns], rules)
        dev = to_examples(source, table, columns, rules, labels=labels).table
    elif task is not None:
        dev = task.dev
    else:
        raise InputError(
            f"raykd export {reference}: a smaller file needs labeled rows, on which its loss "
            "is measured; give the run directory of the model, or --dev FILE"
        )
    if not dev.num_rows:
        raise InputError(
            f"raykd export {reference}: there are no dev rows, on which the loss of a smaller file "
            "is measured; give others with --dev FILE"
        )
    metric = _default_metric(labels, multi_label=multi_label) if task is None else task.main_metric
    if reduction.metric is not None:
        try:
            check_metrics([reduction.metric], regression=not labels, multi_label=multi_label)
        except ValueError as error:
            raise InputError(f"raykd export: --metric: {error}") from None
        if reduction.metric == "f1" and len(labels) != 2:
            raise InputError(
                "raykd export: --metric: 'f1' is that of the second of two classes, and the model "
                f"has {len(labels)}: {', '.join(labels)}; use 'accuracy'"
            )
    training = [] if task is None else _texts_of(task.train)
    return LabeledRows(dev, training or _texts_of(dev), training, reduction.metric or metric)


def _default_metric(labels: Sequence[str], *, multi_label: bool) -> str:
    if multi_label:
        return "f1_micro"
    return "accuracy" if labels else "pearson"


def _texts_of(examples: pa.Table) -> list[tuple[str, ...]]:
    """Texts or pairs of examples."""
    texts = [examples["sentence1"].to_pylist()]
    if examples["sentence2"].null_count < examples.num_rows:
        texts.append(examples["sentence2"].to_pylist())
    return list(zip(*texts, strict=True))
