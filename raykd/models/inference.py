"""Inference on tokenized rows."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.pooling import Pooling, pooled_layers
from raykd.models.tokenization.tokens import TokenizedRows, collate, to_device

# Padded tokens of a batch. On a CPU, the layers of larger ones do not fit its caches.
_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 2048, 8192


class Answers(NamedTuple):
    """Logits of N rows, and features if requested."""

    logits: NDArray[np.float32]  # (N, C)
    features: NDArray[np.float32] | None  # (N, n, d): pooled hidden states of layers 1 to n


class RelationRequest(NamedTuple):
    """Request to write relation vectors of a layer.

    Attributes:
        layer: layer number, from 1.
        vectors: (T, 3, d) float16 array to write query, key and value of all T tokens to.
    """

    layer: int
    vectors: NDArray[np.float16]


def logits_of(
    encoder: Encoder, rows: TokenizedRows, *, pad_id: int, device: torch.device
) -> NDArray[np.float32]:
    """Logits of `answers_of`."""
    return answers_of(encoder, rows, pad_id=pad_id, device=device).logits


def answers_of(
    encoder: Encoder,
    rows: TokenizedRows,
    *,
    pad_id: int,
    device: torch.device,
    pooling: Pooling | None = None,
    relations: RelationRequest | None = None,
) -> Answers:
    """Logits, and features if `pooling` is set, of rows in order; the encoder is on `device`.

    With `relations`, relation vectors are written as well. Rows of similar length share a batch
    with a bounded number of tokens. The encoder's mode (train or eval) is restored afterwards.
    """
    num_rows, num_layers = len(rows), encoder.num_layers
    logits = np.empty((num_rows, encoder.num_labels), np.float32)
    layers = range(1, num_layers + 1) if pooling else ()
    features = None
    if pooling is not None:
        features = np.empty((num_rows, num_layers, encoder.hidden_size), np.float32)
    batch_tokens = _CPU_BATCH_TOKENS if device.type == "cpu" else _GPU_BATCH_TOKENS
    was_training = encoder.training
    encoder.eval()
    try:
        for indices in token_batches(rows.lengths, batch_tokens):
            batch = to_device(collate(rows, indices, pad_id=pad_id, regression=False), device)
            mask = batch["attention_mask"]
            with torch.inference_mode():
                output = encoder(
                    batch["input_ids"],
                    mask,
                    batch.get("token_type_ids"),
                    layers=layers,
                    relation_layers=() if relations is None else (relations.layer,),
                )
                logits[indices] = output.logits.cpu().numpy()
                if features is not None and pooling is not None:
                    states = pooled_layers(output.hidden_states, layers, mask, pooling)
                    features[indices] = states.cpu().numpy()
                if relations is not None:
                    vectors = torch.stack(output.relation_vectors[relations.layer], dim=2)
                    _write_tokens(relations.vectors, rows, indices, vectors)
    finally:
        encoder.train(was_training)
    return Answers(logits, features)


def _write_tokens(
    out: NDArray[np.float16], rows: TokenizedRows, indices: NDArray[np.int64], vectors: Tensor
) -> None:
    halves = vectors.half().cpu().numpy()
    if not np.isfinite(halves).all():
        raise InputError(
            "cached_teacher: the teacher's vectors are too large for float16, the format of the "
            "cache; set cached_teacher: false"
        )
    for row, (index, length) in enumerate(zip(indices, rows.lengths[indices], strict=True)):
        start = rows.offsets[index]
        out[start : start + length] = halves[row, :length]


def token_batches(lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Rows sorted by length, in batches of at most `max_tokens` padded tokens, or one row."""
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * lengths[order[end]] > max_tokens:
            batches.append(order[begin:end])
            begin = end
    return batches


def check_finite(logits: NDArray[np.float32], model: str, text: str, *, start: int = 0) -> None:
    """Refuse a model whose logits are not finite.

    Args:
        logits: (N, C).
        model: model reference, for the message.
        text: name of the text, for the message.
        start: number of the first row.

    Raises:
        InputError: some logits are NaN or infinite; names the rows.
    """
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        kind = "NaN" if np.isnan(logits[wrong[0]]).any() else "infinite"
        raise InputError(
            f"model {model}: its logits are {kind} in {len(wrong)} of {len(logits)} rows of the "
            f"{text} (the first: row {start + wrong[0]}, counted from 0); its weights are broken, "
            "or overflow: name another model, or get its files again"
        )
