"""Replacement candidates of every word in many sentences, computed in batches."""

from collections.abc import Sequence
from pathlib import Path

import torch

from raykd.augment.neighbors import (
    FileEmbeddings,
    ModelEmbeddings,
    NeighborFinder,
    WordEmbeddings,
)
from raykd.augment.pieces import EncodedPair, Pieces, encode_pairs
from raykd.augment.predictions import (
    BATCH_TOKENS,
    GPU_BATCH_TOKENS,
    longest_pair,
    predicted_ids,
)
from raykd.augment.task_da import Candidates, Span, TaskDaConfig, replaceable_words
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.masked_lm import MaskedLm, load_masked_lm
from raykd.models.masked_lm_probe import PREDICTING, check_masked_lm
from raykd.models.tokenization.positions import num_positions

# Limit for models without one: that of BERT.
_MAX_LENGTH = 512
_REMEDY = (
    "name a masked language model as --model, such as the pretrained one that yours was made from "
    "(bert-base-uncased), or write one with a trained head: raykd train-head MODEL --text FILE "
    "--out DIR"
)


class CandidateFinder:
    """Masked language model and word embeddings that provide candidates.

    Args:
        config: settings with the models.

    Raises:
        InputError: a model cannot be read, or was not trained to predict words.
    """

    def __init__(self, config: TaskDaConfig) -> None:
        self._config = config
        model = load_masked_lm(config.model, remedy=_REMEDY)
        self._tokenizer = load_tokenizer(config.model)
        limit = num_positions(config.model)
        self._max_length = longest_pair(min(limit or _MAX_LENGTH, _MAX_LENGTH))
        self._pieces = Pieces(self._tokenizer, config.model)
        self._neighbors = NeighborFinder(self._embeddings(model))
        self._model = model.to("cuda" if config.use_gpu else "cpu")

    def check(self) -> None:
        """Test the model on a few short texts.

        Raises:
            InputError: it cannot predict words from their context.
        """
        check_masked_lm(
            "raykd augment",
            self._config.model,
            self._model,
            self._tokenizer,
            self._max_length,
            PREDICTING,
            remedy=_REMEDY,
        )

    def candidates(
        self, texts: Sequence[str], *, batch_tokens: int | None = None
    ) -> list[list[Candidates]]:
        """Candidates of the words of each text, in order of position.

        Words of one piece get predictions, others get neighbors; a word without candidates, or
        after the model's maximum length, gets only itself. A candidate that differs from the word
        only in letter case becomes the word itself. `batch_tokens` is the number of tokens per
        model call, by default that of the device; it does not affect the result.
        """
        default = GPU_BATCH_TOKENS if self._config.use_gpu else BATCH_TOKENS
        words = [replaceable_words(text) for text in texts]
        pairs = encode_pairs(self._tokenizer, texts, words, max_length=self._max_length)
        predicted = self._predicted(pairs, batch_tokens or default)
        others = {
            text[start:stop]
            for pair, text in zip(pairs, texts, strict=True)
            for (start, stop), places in pair.places.items()
            if places and not pair.is_one_piece[start, stop]
        }
        near = self._neighbors.nearest(sorted(others), self._config.num_candidates)
        found = []
        for at, (pair, text) in enumerate(zip(pairs, texts, strict=True)):
            of_text: list[Candidates] = []
            for span, places in pair.places.items():
                word = text[slice(*span)]
                words_found = predicted.get((at, span), near.get(word, []) if places else [])
                kept = (word if w.lower() == word.lower() else w for w in words_found)
                of_text.append((span, list(dict.fromkeys(kept)) or [word]))
            found.append(of_text)
        return found

    def _predicted(
        self, pairs: Sequence[EncodedPair], batch_tokens: int
    ) -> dict[tuple[int, Span], list[str]]:
        """Predictions for words of one piece, by text and position."""
        asked = [
            (at, span, pair.places[span][0])
            for at, pair in enumerate(pairs)
            for span, is_one in pair.is_one_piece.items()
            if is_one
        ]
        pad_id = self._tokenizer.pad_token_id
        ids = predicted_ids(
            self._model,
            pairs,
            [(at, place) for at, _, place in asked],
            self._config.num_candidates,
            pad_id=pad_id if pad_id is not None else 0,
            batch_tokens=batch_tokens,
        ).tolist()
        return {
            (at, span): self._pieces.words_like(int(pairs[at].input_ids[place]), best)
            for (at, span, place), best in zip(asked, ids, strict=True)
        }

    def _embeddings(self, model: MaskedLm) -> WordEmbeddings:
        config = self._config
        if config.embeddings is not None:
            return FileEmbeddings(Path(config.embeddings))
        if config.embeddings_model is None:
            weight = model.model.get_input_embeddings().weight
            assert isinstance(weight, torch.Tensor)
            return ModelEmbeddings(weight.detach().numpy(), self._tokenizer, config.model)
        table = load_encoder(config.embeddings_model, num_labels=1).embedding_weight
        tokenizer = load_tokenizer(config.embeddings_model)
        return ModelEmbeddings(table.detach().numpy(), tokenizer, config.embeddings_model)
