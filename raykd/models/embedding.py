"""Text embeddings by an encoder, independent of the other texts in a batch."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.pooling import Pooling, pooled
from raykd.models.resolve import digest_of_model
from raykd.models.threads import one_thread
from raykd.models.tokenization.positions import check_max_length
from raykd.models.tokenization.tokens import TokenizedRows, tokenize
from raykd.storage.manifest import digest_of

# Batches are padded to multiples of this width.
_WIDTH_STEP = 8


@dataclass(frozen=True)
class TextEmbedder:
    """Text embedder with any encoder; can be sent to other processes, which load the model once.

    Rounding of matrix products depends on the shapes of the matrices. Each text is therefore
    computed in a batch with a constant number of rows, with a width determined by its own length,
    in one thread. Incomplete batches are filled with copies, unless `fills_batches` is false: then
    a text costs only itself, and its embedding can differ in the last digits.

    Attributes:
        model: model reference, see `resolve_model`.
        model_digest: digest of the model, see `digest_of_model`.
        pooling: mean of the last hidden states, or the first of them.
        normalize: whether to divide vectors by their Euclidean norm.
        max_length: maximum number of tokens per text.
        batch_size: rows per batch.
        use_gpu: whether to run on a GPU.
        fills_batches: whether to fill incomplete batches.
    """

    model: str
    model_digest: str
    pooling: Pooling
    normalize: bool
    max_length: int
    batch_size: int
    use_gpu: bool
    fills_batches: bool = True

    @classmethod
    def load(
        cls,
        key: str,
        model: str,
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        max_length: int = 128,
        batch_size: int = 32,
        use_gpu: bool = False,
        fills_batches: bool = True,
    ) -> "TextEmbedder":
        """Create an embedder after checking that the model exists and reads `max_length` tokens.

        Args:
            key: key of the recipe section, for messages.
            model: see `resolve_model`.
            pooling: as the attribute.
            normalize: as the attribute.
            max_length: as the attribute.
            batch_size: as the attribute.
            use_gpu: as the attribute.
            fills_batches: as the attribute.

        Raises:
            InputError: the model cannot be found, has no weights or tokenizer, or reads fewer
                tokens.
        """
        digest = digest_of_model(model)
        check_max_length(f"{key}.max_length", max_length, model)
        load_tokenizer(model)
        return cls(
            model, digest, pooling, normalize, max_length, batch_size, use_gpu, fills_batches
        )

    @property
    def digest(self) -> str:
        """Digest of the model and all settings that determine an embedding."""
        settings = (self.pooling, self.normalize, self.max_length, self.batch_size, self.use_gpu)
        unfilled = () if self.fills_batches else ("unfilled",)
        return digest_of([self.model_digest, *settings, *unfilled])

    @property
    def num_gpus(self) -> int:
        """GPUs per task."""
        return int(self.use_gpu)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N > 0 texts, (N, d).

        Raises:
            InputError: the model cannot be read.
        """
        body, tokenizer = _load(self.model, self.model_digest, self.use_gpu)
        rows = tokenize(tokenizer, texts, max_length=self.max_length)
        pad_id = tokenizer.pad_token_id
        vectors: NDArray[np.float32] | None = None
        with one_thread():
            for width, batch in _batches(rows, self.batch_size, self.max_length):
                embedded = self._embed(
                    body, rows, batch, width, pad_id if pad_id is not None else 0
                )
                if vectors is None:
                    vectors = np.empty((len(texts), embedded.shape[1]), np.float32)
                vectors[batch] = embedded[: len(batch)]
        assert vectors is not None
        return vectors

    def _embed(
        self,
        body: nn.Module,
        rows: TokenizedRows,
        batch: NDArray[np.int64],
        width: int,
        pad_id: int,
    ) -> NDArray[np.float32]:
        num_copies = self.batch_size - len(batch) if self.fills_batches else 0
        filled = np.concatenate([batch, np.repeat(batch[-1:], num_copies)])
        mask = np.arange(width) < rows.lengths[filled][:, None]
        positions = np.where(mask, rows.offsets[filled][:, None] + np.arange(width), 0)
        ids = np.where(mask, rows.input_ids[positions], pad_id).astype(np.int64)
        device = next(body.parameters()).device
        attention_mask = torch.from_numpy(mask.astype(np.int64)).to(device)
        with torch.inference_mode():
            states = body(
                input_ids=torch.from_numpy(ids).to(device), attention_mask=attention_mask
            ).last_hidden_state
            embedded = pooled(states, attention_mask, self.pooling)
            if self.normalize:
                embedded = nn.functional.normalize(embedded, dim=-1)
        vectors: NDArray[np.float32] = embedded.cpu().numpy()
        return vectors


def _batches(
    rows: TokenizedRows, batch_size: int, max_length: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """Width of each batch, and its rows, at most `batch_size`.

    Rows that fill the width are in batches of their own: without padding, transformers omits the
    mask, and other kernels run.
    """
    lengths = rows.lengths
    widths = np.minimum(-(-lengths // _WIDTH_STEP) * _WIDTH_STEP, max_length)
    kinds = 2 * widths + (lengths == widths)
    batches = []
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        for start in range(0, len(members), batch_size):
            batches.append((int(kind) // 2, members[start : start + batch_size]))
    return batches


# A cache of one: a process embeds with one model.
@functools.lru_cache(maxsize=1)
def _load(
    model: str, model_digest: str, use_gpu: bool
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load the model's encoder in evaluation mode, its device and its tokenizer.

    A model whose files change has another digest and is loaded again.
    """
    # The classifier is random and not used.
    body: Any = load_encoder(model, num_labels=1).model.base_model
    return body.to("cuda" if use_gpu else "cpu"), load_tokenizer(model)
