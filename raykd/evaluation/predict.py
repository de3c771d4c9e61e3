"""Predictions of a model on examples, and their metrics.

Shapes: N examples, C classes (1: regression).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from raykd.models.encoder import Encoder
from raykd.models.inference import logits_of
from raykd.models.tokenization.tokens import TokenizedRows, read_rows
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import is_multi_label, predictions_schema
from raykd.tasks.metrics import compute, predicted_sets


class Scorer:
    """Evaluation of models on one split; can be sent to another process.

    Args:
        split: file of examples (`schemas.EXAMPLES`).
        metrics: names of the metrics.
        max_length: maximum tokens per row.
    """

    def __init__(self, split: Path, metrics: Sequence[str], *, max_length: int) -> None:
        self._split = split
        self._metrics = tuple(metrics)
        self._max_length = max_length
        self._rows: TokenizedRows | None = None

    def files(self) -> TaskFiles:
        """Files that are read."""
        return TaskFiles((self._split,))

    def __call__(self, encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        """Compute the metrics; the tokenizer must be the same in all calls."""
        return compute(self._metrics, *self.answers(encoder, tokenizer))

    def answers(
        self, encoder: Encoder, tokenizer: PreTrainedTokenizerBase
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Labels of all rows, and the answers of the function `answers`."""
        if self._rows is None:
            self._rows = read_rows(self._split, tokenizer, max_length=self._max_length)
        device = next(encoder.parameters()).device
        logits = logits_of(encoder, self._rows, pad_id=tokenizer.pad_token_id, device=device)
        assert self._rows.labels is not None
        labels = self._rows.labels
        return labels, answers(logits, multi_label=labels.ndim == 2)


def answers(logits: NDArray[np.float32], *, multi_label: bool = False) -> NDArray[np.float64]:
    """Most probable class per row, the first one of ties; with one logit, the score itself.

    Of a multi-label model it is the logits, from which `tasks.metrics` has sets of classes.
    """
    if multi_label:
        return logits.astype(np.float64)
    chosen = logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)
    return chosen.astype(np.float64)


def to_predictions(examples: pa.Table, logits: NDArray[np.float32]) -> pa.Table:
    """Table of `schemas.predictions_schema` from examples and their logits (N, C)."""
    num_classes = logits.shape[1] if is_multi_label(examples) else None
    schema = predictions_schema(num_classes)
    found = answers(logits, multi_label=num_classes is not None)
    if num_classes is not None:
        found = predicted_sets(found).astype(np.uint8)
    assert logits.shape[0] == examples.num_rows, (logits.shape, examples.num_rows)
    arrays = [
        examples["row_id"],
        examples["label"],
        pa.array(list(found), type=schema.field("prediction").type),
        pa.array(list(logits), type=schema.field("logits").type),
    ]
    return pa.table(arrays, schema=schema)


def answers_in(predictions: Path) -> NDArray[np.float64]:
    """Answers of a model, as `answers` gives them, from its predictions."""
    kind = pq.read_schema(predictions)
    name = "logits" if is_multi_label(kind.empty_table()) else "prediction"
    column = pq.read_table(predictions, columns=[name])[name].combine_chunks()
    found: NDArray[np.float64]
    if name == "prediction":
        found = column.to_numpy()
    else:
        found = column.flatten().to_numpy().astype(np.float64).reshape(len(column), -1)
    return found
