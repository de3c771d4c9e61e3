"""Restriction of a model's word embeddings to the tokens of its training text.

Training never reads the embeddings of tokens that are not in the text, but each step would compute,
clip, send and apply their zero gradients: most of a small student's step on a CPU. Since gradients
and moments are zero, AdamW only decays these embeddings, all by the same factors, whose product is
applied once at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raykd.models.encoder import Encoder

# Above this share of the vocabulary in the text, a restriction saves little.
_LARGEST_SHARE = 0.5
_COUNTED_AT_ONCE = 1 << 22


class PartialVocabulary:
    """Model whose word embeddings are restricted to some tokens, until `put_back`.

    Args:
        encoder: model with trainable embeddings.
        token_ids: distinct tokens, the only ones that the model may be run on meanwhile.
    """

    def __init__(self, encoder: Encoder, token_ids: NDArray[np.int64]) -> None:
        self._model = encoder.model
        table = self._model.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        self._table = table
        self._first = table.weight.detach().clone()
        self._ids = torch.from_numpy(token_ids)
        self._part = _PartialEmbedding(table, self._ids)
        self._model.set_input_embeddings(self._part)

    @contextmanager
    def whole(self, decay: float) -> Iterator[None]:
        """Context manager in which the model has all embeddings, the unused ones decayed."""
        self.put_back(decay)
        try:
            yield
        finally:
            self._model.set_input_embeddings(self._part)

    def put_back(self, decay: float) -> None:
        """Restore all embeddings, with the unused ones multiplied by the decay factor."""
        trained = self._part.weight.detach()
        with torch.no_grad():
            self._table.weight.copy_(self._first * decay)
            self._table.to(trained.device)
            self._table.weight[self._ids.to(trained.device)] = trained
        self._model.set_input_embeddings(self._table)


class _PartialEmbedding(nn.Module):
    def __init__(self, table: nn.Embedding, token_ids: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[token_ids])
        # Other tokens map to -1, an index out of range.
        places = torch.full((table.num_embeddings,), -1)
        places[token_ids] = torch.arange(len(token_ids))
        self.places: Tensor
        self.register_buffer("places", places, persistent=False)
        padding = table.padding_idx
        self._padding = None if padding is None else int(places[padding])

    def forward(self, token_ids: Tensor) -> Tensor:
        return F.embedding(self.places[token_ids], self.weight, self._padding)


def restrict_to_used_vocabulary(
    encoder: Encoder, token_ids: NDArray[np.integer], pad_id: int
) -> PartialVocabulary | None:
    """Restrict a model's word embeddings to the tokens of a text, if that saves much.

    Args:
        encoder: model to train; frozen embeddings are not restricted.
        token_ids: (T,) tokens of the text.
        pad_id: padding token.

    Returns:
        The restricted vocabulary; None if all embeddings are kept.
    """
    table = encoder.model.get_input_embeddings()
    # A subclass may do more than a lookup.
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return None
    counts = np.zeros(table.num_embeddings, np.int64)
    for start in range(0, len(token_ids), _COUNTED_AT_ONCE):
        piece = token_ids[start : start + _COUNTED_AT_ONCE]
        counts += np.bincount(piece, minlength=table.num_embeddings)
    counts[pad_id] = 1
    if table.padding_idx is not None:
        counts[table.padding_idx] = 1
    used = np.flatnonzero(counts)
    if len(used) > _LARGEST_SHARE * table.num_embeddings:
        return None
    return PartialVocabulary(encoder, used)
