"""Masking of words for training and evaluation of masked-LM heads, and their prediction scores.

Shapes: B rows, L tokens, n masked tokens, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from raykd.models.masked_lm import MaskedLm
from raykd.models.tokenization.tokens import TokenizedRows, collate, to_device
from raykd.training.masked_lm_head.report import MaskedExample

_MEASURED_ROWS = 32
_NUM_EXAMPLES = 8
_NUM_PREDICTIONS = 5
# Minimum letters of an example's masked word, to prefer nouns to "of".
_EXAMPLE_LETTERS = 4


class Measured(NamedTuple):
    """Perplexity and accuracy on masked words; see `HeadReport`."""

    num_masked: int
    perplexity: float
    accuracy: float


def masked_at_random(are_words: Tensor, probability: float) -> Tensor:
    """Draw words to mask, at least one per row with words, (B, L).

    Args:
        are_words: (B, L) whether a token is a word.
        probability: probability of each word, independent of the others.
    """
    draws = torch.rand(are_words.shape, device=are_words.device)
    draws = draws.masked_fill(~are_words, 2.0)
    return are_words & ((draws < probability) | (draws == draws.amin(1, keepdim=True)))


def with_words(rows: TokenizedRows, special_ids: NDArray[np.int64]) -> TokenizedRows:
    """Rows with at least one token that may be masked."""
    are_words = ~np.isin(rows.input_ids, special_ids)
    before = np.concatenate([[0], np.cumsum(are_words)])
    row_numbers = np.flatnonzero(before[rows.offsets[1:]] > before[rows.offsets[:-1]])
    if len(row_numbers) == len(rows):
        return rows
    tokens = [np.arange(rows.offsets[row], rows.offsets[row + 1]) for row in row_numbers]
    places = np.concatenate(tokens or [np.empty(0, int)])
    types = rows.token_type_ids
    return replace(
        rows,
        input_ids=rows.input_ids[places],
        token_type_ids=None if types is None else types[places],
        offsets=np.concatenate([[0], np.cumsum(rows.lengths[row_numbers])]),
    )


def measure(
    model: MaskedLm, rows: TokenizedRows, *, pad_id: int, probability: float, seed: int
) -> Measured:
    """Scores of a model on words masked by the seed."""
    num_masked, surprise, num_right = 0, 0.0, 0
    for ids, logits in _predictions(model, rows, pad_id=pad_id, probability=probability, seed=seed):
        surprise += float(F.cross_entropy(logits.double(), ids, reduction="sum"))
        num_right += int((logits.argmax(-1) == ids).sum())
        num_masked += len(ids)
    return Measured(num_masked, _perplexity(surprise, num_masked), num_right / num_masked)


def word_frequencies(model: MaskedLm, rows: TokenizedRows) -> NDArray[np.float64]:
    """Relative frequency of each token (V,) among the rows' words, with add-one smoothing."""
    words = rows.input_ids[~np.isin(rows.input_ids, model.special_ids.cpu().numpy())]
    counts = np.bincount(words, minlength=model.vocabulary_size) + 1.0
    return np.asarray(counts / counts.sum(), np.float64)


def measure_unigram(
    model: MaskedLm,
    frequencies: NDArray[np.float64],
    rows: TokenizedRows,
    *,
    pad_id: int,
    probability: float,
    seed: int,
) -> Measured:
    """Scores of the tokens' frequencies (V,) as predictions of the words that `measure` masks."""
    best = int(frequencies.argmax())
    num_masked, surprise, num_right = 0, 0.0, 0
    for batch, is_masked in _masked(model, rows, pad_id, probability, seed):
        ids = batch["input_ids"][is_masked].cpu().numpy()
        surprise -= float(np.log(frequencies[ids]).sum())
        num_right += int((ids == best).sum())
        num_masked += len(ids)
    return Measured(num_masked, _perplexity(surprise, num_masked), num_right / num_masked)


def examples(
    model: MaskedLm, rows: TokenizedRows, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> list[MaskedExample]:
    """Predictions of a model for one masked word in each of the first rows."""
    masked_examples = []
    generator = np.random.default_rng(seed)
    device = next(model.parameters()).device
    for row in range(min(_NUM_EXAMPLES, len(rows))):
        batch = collate(rows, np.array([row]), pad_id=0, regression=False)
        batch = to_device(batch, device)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        places = model.are_words(ids, mask)[0].nonzero().flatten().tolist()
        words = {place: token_text(tokenizer, int(ids[0, place])) for place in places}
        whole = [
            place
            for place in places
            if len(words[place]) >= _EXAMPLE_LETTERS and words[place].isalpha()
        ]
        place = int(generator.choice(whole or places))
        is_masked = torch.zeros_like(ids, dtype=torch.bool)
        is_masked[0, place] = True
        masked = ids.masked_fill(is_masked, model.mask_id)
        with torch.inference_mode():
            logits = model(masked, mask, batch.get("token_type_ids"), is_masked)
        shown = [int(i) for p, i in enumerate(masked[0].tolist()) if p in words]
        best = logits[0].topk(min(_NUM_PREDICTIONS, logits.size(-1))).indices.tolist()
        masked_examples.append(
            MaskedExample(
                text=str(tokenizer.decode(shown)),
                word=words[place],
                predictions=[token_text(tokenizer, i) for i in best],
            )
        )
    return masked_examples


def token_text(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """Text of a token, without the blank that marks the start of a word."""
    return str(tokenizer.decode([token_id])).strip()


def _predictions(
    model: MaskedLm, rows: TokenizedRows, *, pad_id: int, probability: float, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Masked ids (n,) and their logits (n, V) per batch."""
    for batch, is_masked in _masked(model, rows, pad_id, probability, seed):
        ids = batch["input_ids"]
        masked = ids.masked_fill(is_masked, model.mask_id)
        with torch.inference_mode():
            logits = model(masked, batch["attention_mask"], batch.get("token_type_ids"), is_masked)
        yield ids[is_masked], logits


def _masked(
    model: MaskedLm, rows: TokenizedRows, pad_id: int, probability: float, seed: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Batches and their masked words; keeps the process's random state."""
    device = next(model.parameters()).device
    for start in range(0, len(rows), _MEASURED_ROWS):
        indices = np.arange(start, min(start + _MEASURED_ROWS, len(rows)))
        batch = to_device(collate(rows, indices, pad_id=pad_id, regression=False), device)
        are_words = model.are_words(batch["input_ids"], batch["attention_mask"]).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed * 1_000_003 + start)
            is_masked = masked_at_random(are_words, probability)
        yield batch, is_masked.to(device)


def _perplexity(surprise: float, num_masked: int) -> float:
    # A larger exponent overflows a float.
    return float(np.exp(min(surprise / num_masked, 700.0)))
