"""What a model answers on tokenized rows."""

import numpy as np
import torch
from numpy.typing import NDArray

from raykd.models.encoder import Encoder
from raykd.models.tokens import TokenizedRows, collate, to_device

_BATCH_TOKENS = 8192


def logits_of(
    encoder: Encoder, rows: TokenizedRows, *, pad_id: int, device: torch.device
) -> NDArray[np.float32]:
    """Logits (N, C) of N rows, in their order; the encoder stands on `device`.

    Rows of similar length share a batch of a bounded number of tokens. The encoder is afterwards
    in the mode (train or eval) it was in before.
    """
    logits = np.empty((len(rows), encoder.num_labels), np.float32)
    was_training = encoder.training
    encoder.eval()
    try:
        for indices in token_batches(rows.lengths, _BATCH_TOKENS):
            batch = to_device(collate(rows, indices, pad_id=pad_id, regression=False), device)
            with torch.inference_mode():
                output = encoder(
                    batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")
                )
            logits[indices] = output.logits.cpu().numpy()
    finally:
        encoder.train(was_training)
    return logits


def token_batches(lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Rows sorted by length, cut into batches of at most so many padded tokens, or one row."""
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * lengths[order[end]] > max_tokens:
            batches.append(order[begin:end])
            begin = end
    return batches
