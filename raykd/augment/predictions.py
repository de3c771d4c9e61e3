"""What a masked language model predicts in the place of words, many words in one call.

Sums of matrix products depend on the shapes of the matrices. Each query is therefore computed in a
batch of a number of rows and a width that its own length decides; what a batch lacks are copies.
So a word's candidates do not depend on the words beside it, nor on how the work is cut.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raykd.augment.pieces import EncodedPair
from raykd.models.masked_lm import MaskedLm
from raykd.models.threads import one_thread

# Widths that batches are padded to. One column at least is padding: without any, transformers
# leaves out the mask, and other kernels run.
WIDTH_STEP = 8
# On a core, more tokens than some hundreds gain little, and a batch that lacks rows costs as a full
# one. Three layers of base size, 40 tokens a row: 555 us a token for 1 row, 341 for 8, 325 for 32.
BATCH_TOKENS = 512
GPU_BATCH_TOKENS = 8192

# A pair and the position in it that is masked.
Query = tuple[int, int]


def longest_pair(num_positions: int) -> int:
    """Tokens of the longest pair that can be read by a model of so many positions."""
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
    """The M most likely tokens in the place of each of Q masked ones, (Q, min(M, V)).

    The more likely first; equal ones in the order of their ids. A batch has about `batch_tokens`
    tokens, or one row if that is more.
    """
    width = min(num_best, model.vocabulary_size)
    best = np.empty((len(queries), width), np.int64)
    device = next(model.parameters()).device
    with one_thread():
        for members, columns in _batches(pairs, queries, batch_tokens):
            batch = _collate(pairs, [queries[at] for at in members], columns, model.mask_id, pad_id)
            ids, mask, types, is_masked = (part.to(device) for part in batch)
            with torch.inference_mode():
                found = _best(model(ids, mask, types, is_masked), width)
            # Where copies fill the batch, each gives what its original gives.
            best[members] = found
    return best


def _batches(
    pairs: Sequence[EncodedPair], queries: Sequence[Query], batch_tokens: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Members of each batch, the last one repeated where it lacks some, and its width."""
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
    """Ids, attention mask, token types and the masked place, each (B, L)."""
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
    """(n, num_best) tokens of logits (n, V), by falling logit and rising id.

    `topk` picks any of equal logits: all that reach its last one are ordered here.
    """
    last = logits.topk(num_best).values[:, -1:]
    reaching = logits >= last
    rows, ids = (part.cpu().numpy() for part in reaching.nonzero(as_tuple=True))
    order = np.lexsort((ids, -logits[reaching].cpu().numpy(), rows))
    firsts = np.searchsorted(rows, np.arange(len(logits)))
    return np.asarray(ids[order][firsts[:, None] + np.arange(num_best)], np.int64)
