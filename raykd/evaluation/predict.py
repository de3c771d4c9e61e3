"""What a model answers on examples.

Shapes: N examples, B batch, L tokens, C classes (1: regression).
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from raykd.models.encoder import Encoder
from raykd.schemas import PREDICTIONS


def predict(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    examples: pa.Table,
    *,
    max_length: int,
    batch_size: int,
    device: torch.device | str,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Logits (N, C) of examples (see `schemas.EXAMPLES`), in their order.

    Rows of similar length share a batch; texts are cut to `max_length` tokens. The encoder stands
    on `device`, and is afterwards in the mode (train or eval) it was in before.

    Args:
        encoder: the classifier.
        tokenizer: its tokenizer.
        examples: the rows.
        max_length: tokens kept of a row.
        batch_size: rows in a batch.
        device: where the encoder stands.
        advance: told the number of rows done, batch by batch.
    """
    pairs = examples["sentence2"].null_count < examples.num_rows
    encodings = tokenizer(
        examples["sentence1"].to_pylist(),
        examples["sentence2"].to_pylist() if pairs else None,
        truncation=True,
        max_length=max_length,
    )
    lengths = np.array([len(ids) for ids in encodings["input_ids"]])
    # The longest first: memory that does not suffice is found out at once.
    order = np.argsort(-lengths, kind="stable")
    logits = np.empty((examples.num_rows, encoder.num_labels), dtype=np.float32)
    was_training = encoder.training
    encoder.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad(
                {name: [values[row] for row in rows] for name, values in encodings.items()},
                return_tensors="pt",
                padding_side="right",
            ).to(device)
            with torch.inference_mode():
                logits[rows] = encoder(**batch).logits.float().cpu().numpy()
            if advance is not None:
                advance(len(rows))
    finally:
        encoder.train(was_training)
    return logits


def to_predictions(
    examples: pa.Table, logits: NDArray[np.float32], *, regression: bool
) -> pa.Table:
    """A table of `schemas.PREDICTIONS`: the most likely class, the first of equals, or the score.

    Args:
        examples: the rows that were predicted.
        logits: (N, C).
        regression: whether the one logit is the score itself.
    """
    assert logits.ndim == 2, logits.shape
    assert len(logits) == examples.num_rows
    answers = logits[:, 0] if regression else logits.argmax(axis=1)
    return pa.table(
        [
            examples["row_id"],
            examples["label"],
            pa.array(answers.astype(np.float64)),
            pa.array(list(logits), type=PREDICTIONS.field("logits").type),
        ],
        schema=PREDICTIONS,
    )
