"""Batched predictions of a masked language model for single words.

Rounding of matrix products depends on the shapes of the matrices. Each query is therefore computed
in a batch whose number of rows and width depend only on its own length; incomplete batches are
filled with copies. So a word's candidates do not depend on other words or on the size of parts.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raykd.augment.pieces import EncodedPair
from raykd.models.masked_lm import MaskedLm
from raykd.models.threads import one_thread

# Batches are padded to multiples of this width, with at least one column of padding: without
# padding, transformers omits the mask, and other kernels run.
WIDTH_STEP = 8
# On a CPU core, more than some hundreds of tokens gain little, and an incomplete batch costs as
# much as a full one. Three base-size layers, 40-token rows: 555 us per token for 1 row, 341 for 8,
# 325 for 32.
BATCH_TOKENS = 512
GPU_BATCH_TOKENS = 8192

# Index of a pair, and the masked position in it.
Query = tuple[int, int]


def longest_pair(num_positions: int) -> int:
    """Maximum number of tokens of a pair for a model with `num_positions` positions."""
    return num_positions // WIDTH_STEP * WIDTH_STEP - 1


def predicted_ids(
    model: MaskedLm,
    pairs: Sequence[EncodedPair],
    queries: Sequence[Query],
    num_best: int,
    *,
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
) -> NDArray[np.int64]:
    """The M most probable tokens for each of Q masked positions, (Q, min(M, V)).

    They are in order of probability, ties in order of ids. A batch has about `batch_tokens` tokens,
    and at least one row.
    """
    width = min(num_best, model.vocabulary_size)
    best = np.empty((len(queries), width), np.int64)
    device = next(model.parameters()).device
    with one_thread():
        for members, columns in _batches(pairs, queries, batch_tokens):
            batch = _collate(
                pairs, [queries[member] for member in members], columns, model.mask_id, pad_id
            )
            ids, mask, types, is_masked = (part.to(device) for part in batch)
            with torch.inference_mode():
                tokens = _best(model(ids, mask, types, is_masked), width)
            # Copies that fill a batch have the result of their original.
            best[members] = tokens
    return best


def _batches(
    pairs: Sequence[EncodedPair], queries: Sequence[Query], batch_tokens: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Members of each batch, filled with copies of the last one, and its width."""
    lengths = np.array([len(pairs[pair].input_ids) for pair, _ in queries], np.int64)
    widths = (lengths // WIDTH_STEP + 1) * WIDTH_STEP
    for width in np.unique(widths).tolist():
        members = np.flatnonzero(widths == width)
        size = max(1, batch_tokens // width)
        for start in range(0, len(members), size):
            batch = members[start : start + size]
            yield np.concatenate([batch, np.repeat(batch[-1:], size - len(batch))]), width


def _collate(
    pairs: Sequence[EncodedPair],
    queries: Sequence[Query],
    width: int,
    mask_id: int,
    pad_id: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, attention mask, token types and masked position, each (B, L)."""
    ids = np.full((len(queries), width), pad_id, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, (at, place) in enumerate(queries):
        pair = pairs[at]
        length = len(pair.input_ids)
        ids[row, :length] = pair.input_ids
        ids[row, place] = mask_id
        mask[row, :length] = 1
        if pair.token_type_ids is not None:
            types[row, :length] = pair.token_type_ids
    is_masked = np.zeros(ids.shape, bool)
    is_masked[np.arange(len(queries)), [place for _, place in queries]] = True
    return (
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        torch.from_numpy(types),
        torch.from_numpy(is_masked),
    )


def _best(logits: Tensor, num_best: int) -> NDArray[np.int64]:
    """Tokens (n, num_best) with the largest logits of (n, V), ties in order of ids.

    `topk` picks any of equal logits, so all tokens that reach its last logit are sorted.
    """
    last = logits.topk(num_best).values[:, -1:]
    reaching = logits >= last
    rows, ids = (part.cpu().numpy() for part in reaching.nonzero(as_tuple=True))
    order = np.lexsort((ids, -logits[reaching].cpu().numpy(), rows))
    firsts = np.searchsorted(rows, np.arange(len(logits)))
    return np.asarray(ids[order][firsts[:, None] + np.arange(num_best)], np.int64)
