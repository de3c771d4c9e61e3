"""Vocabulary pieces as words: word starts, spelling and positions in a text."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerBase

from raykd.augment.task_da import Span
from raykd.errors import InputError

# Markers of byte-level BPE and SentencePiece for a piece with a preceding blank.
_BLANKS = ("Ġ", "▁")
_LETTERS = re.compile("[A-Za-z]+")


class Pieces:
    """Spelling and kind of a tokenizer's pieces.

    A piece may replace another only if both start a word or neither does: a WordPiece starts a word
    without "##", a BPE or SentencePiece piece with a blank. So the first word of a sentence, or one
    after a bracket, is replaced by pieces without a blank.

    Args:
        tokenizer: tokenizer of a model.
        reference: model reference, for messages.

    Raises:
        InputError: the tokenizer does not report the positions of its pieces in a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, reference: str) -> None:
        if not tokenizer.is_fast:
            raise InputError(
                f"model {reference}: its tokenizer is written in Python and does not report the "
                "positions of its pieces; save the model with a tokenizer.json"
            )
        backend: Any = tokenizer.backend_tokenizer
        marks = _BLANKS
        inside: str | None = None
        if isinstance(backend.model, WordPiece):
            inside = backend.model.continuing_subword_prefix
        names = [str(n) for n in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        begins = [not n.startswith(inside) if inside else n.startswith(marks) for n in names]
        self._begins = np.array(begins)
        self._spelled = [tokenizer.convert_tokens_to_string([name]).strip() for name in names]
        special = set(tokenizer.all_special_ids)
        self._is_word = [
            at not in special and _is_one_word(word) for at, word in enumerate(self._spelled)
        ]

    def whole_words(self) -> list[tuple[int, str]]:
        """Ids and spellings of the pieces that are words of the letters a to z."""
        return [
            (at, word)
            for at, word in enumerate(self._spelled)
            if self._begins[at] and self._is_word[at] and _LETTERS.fullmatch(word)
        ]

    def words_like(self, piece: int, others: Sequence[int]) -> list[str]:
        """Spellings of those pieces that may replace a piece, in order."""
        # A model may have more outputs than its tokenizer has pieces.
        return [
            self._spelled[other]
            for other in others
            if other < len(self._spelled)
            and self._is_word[other]
            and self._begins[other] == self._begins[piece]
        ]


@dataclass(frozen=True)
class EncodedPair:
    """Text paired with itself, as two sentences of a model's input.

    `places[word]` are the positions of the word's pieces in the first sentence; empty if the text
    was truncated before it.
    """

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.int8] | None
    places: dict[Span, list[int]]
    is_one_piece: dict[Span, bool]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    words: Sequence[Sequence[Span]],
    *,
    max_length: int,
) -> list[EncodedPair]:
    """Pair each text with itself, both truncated to the same length if they are too long.

    Args:
        tokenizer: tokenizer that reports positions of pieces.
        texts: sentences.
        words: word positions per text.
        max_length: maximum tokens of a pair.
    """
    if not texts:
        return []
    has_types = "token_type_ids" in tokenizer.model_input_names
    encoded: Any = tokenizer(
        list(texts),
        list(texts),
        truncation="longest_first",
        max_length=max_length,
        return_offsets_mapping=True,
        return_token_type_ids=has_types,
        return_attention_mask=False,
    )
    pairs = []
    for at, (text, spans) in enumerate(zip(texts, words, strict=True)):
        pieces = [
            (place, _without_blanks(text, span))
            for place, (of, span) in enumerate(
                zip(encoded.sequence_ids(at), encoded["offset_mapping"][at], strict=True)
            )
            if of == 0
        ]
        places = _places(spans, pieces)
        by_place = dict(pieces)
        pairs.append(
            EncodedPair(
                input_ids=np.asarray(encoded["input_ids"][at], np.int32),
                token_type_ids=(
                    np.asarray(encoded["token_type_ids"][at], np.int8) if has_types else None
                ),
                places=places,
                is_one_piece={
                    span: len(found) == 1 and by_place[found[0]] == span
                    for span, found in places.items()
                },
            )
        )
    return pairs


def _places(words: Sequence[Span], pieces: Sequence[tuple[int, Span]]) -> dict[Span, list[int]]:
    """Pieces that overlap with each word."""
    places: dict[Span, list[int]] = {word: [] for word in words}
    stops = [stop for _, stop in words]
    for place, (start, stop) in pieces:
        for word in words[bisect_right(stops, start) :]:
            if word[0] >= stop:
                break
            places[word].append(place)
    return places


def _without_blanks(text: str, span: Span) -> Span:
    """Position of a piece without the white space that BPE and SentencePiece include."""
    start, stop = span
    piece = text[start:stop]
    return start + len(piece) - len(piece.lstrip()), stop - len(piece) + len(piece.rstrip())


def _is_one_word(spelled: str) -> bool:
    return bool(spelled) and "\ufffd" not in spelled and not any(map(str.isspace, spelled))
