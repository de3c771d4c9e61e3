"""A model that for a while has the word embeddings of some tokens alone.

Training on a text never reads the embeddings of tokens that are not in it, and yet a step fills
their gradient with zeros, clips it, sends it to the other workers and runs the optimiser over it:
most of a small student's step on a CPU. Their gradients and moments being zero, AdamW does nothing
to them but decay them all by the same factors, whose product is applied once, at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raykd.models.encoder import Encoder

# With more of the vocabulary than that in the text, there is little to be spared.
_LARGEST_SHARE = 0.5
_COUNTED_AT_ONCE = 1 << 22


class PartialVocabulary:
    """Takes the word embeddings of all tokens but some out of a model, and puts them back.

    Args:
        encoder: whose embeddings are trained.
        token_ids: different tokens; the model is run on no others meanwhile.
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
        """In it, the model has all embeddings, those that were out having decayed by the factor."""
        self.put_back(decay)
        try:
            yield
        finally:
            self._model.set_input_embeddings(self._part)

    def put_back(self, decay: float) -> None:
        """Give the model all embeddings, those that were out having decayed by the factor."""
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
        # A token that is not among them is an index out of range.
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
    """Leave a model the embeddings of a text's tokens, or all of them where that spares little.

    Args:
        encoder: in training; frozen embeddings stay as they are.
        token_ids: (T,) the text, any token as often as it is there.
        pad_id: of the token that fills batches.
    """
    table = encoder.model.get_input_embeddings()
    # A subclass may do more than look up.
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return None
    counts = np.zeros(table.num_embeddings, np.int64)
    for start in range(0, len(token_ids), _COUNTED_AT_ONCE):
        piece = token_ids[start : start + _COUNTED_AT_ONCE]
        counts += np.bincount(piece, minlength=table.num_embeddings)
    counts[pad_id] = 1
    if table.padding_idx is not None:
        counts[table.padding_idx] = 1
    wanted = np.flatnonzero(counts)
    if len(wanted) > _LARGEST_SHARE * table.num_embeddings:
        return None
    return PartialVocabulary(encoder, wanted)
