"""Retrieval units of documents: sentences, sentences packed into passages, or whole lines."""

import re
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import sentencex
from numpy.typing import NDArray
from pydantic import Field, model_validator

from raykd.config import Config
from raykd.corpus import spans
from raykd.corpus.texts import Texts
from raykd.storage.schemas import UNITS
from raykd.text.unspaced import classes, may_be_unspaced, num_words_between
from raykd.text.white_space import Integers, count_words

# sentencex needs quadratic time for long texts with sentence ends outside ASCII.
WINDOW_CHARS = 8192
_NO_KINDS = np.zeros(0, np.uint8)
# Khmer full stops, which sentencex does not support.
_KHMER_STOPS = re.compile(r"(?<=[\u17d4\u17d5])")
# Digits of an id: of the digest, the document's offset in the file, the unit's in the document.
_DIGEST_DIGITS, _RECORD_DIGITS, _CHARACTER_DIGITS = 16, 12, 8
_ID_LENGTH = _DIGEST_DIGITS + _RECORD_DIGITS + _CHARACTER_DIGITS + 2


class UnitsConfig(Config):
    """Division of documents into units; words are separated by white space.

    In scripts without blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each
    letter counts as a word (see `raykd.text.unspaced`): 100 letters have about as many bytes as 75
    English words. The default matches the passages that the CILDA and contextual-corpus papers
    retrieve: 392 to 495 bytes, about 75 words on average.
    """

    policy: Literal["packed", "sentence", "line"] = Field(
        "packed",
        description="packed: neighboring sentences joined up to max_words; sentence: one unit per "
        "sentence; line: the document as it is.",
    )
    max_words: int = Field(
        100,
        ge=1,
        description="Most words of a unit; longer sentences are cut. 100 words are about one "
        "window of 128 tokens (the passages of Liu et al. 2022, Table 1, have about 70).",
    )
    min_words: int = Field(
        5, ge=1, description="Fewest words of a unit; shorter pieces are dropped."
    )

    @model_validator(mode="after")
    def _some_length_fits(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


def unit_id(source_digest: str, record_offset: int, char_offset: int) -> str:
    """Make the id of a unit from the content of its source file and its position.

    Within a source file, ids are sorted in the order of the text.

    Args:
        source_digest: hexadecimal digest of the source file; its first 16 digits are used.
        record_offset: offset of the document in the file: byte of its line, or row.
        char_offset: first character of the unit in the document.
    """
    return (
        f"{source_digest[:_DIGEST_DIGITS]}-{record_offset:0{_RECORD_DIGITS}d}"
        f"-{char_offset:0{_CHARACTER_DIGITS}d}"
    )


def cut(texts: Texts, source_digest: str, config: UnitsConfig) -> tuple[pa.RecordBatch, int, int]:
    """Cut documents into units.

    Args:
        texts: N documents of one file.
        source_digest: hexadecimal digest of the file.
        config: settings.

    Returns:
        A batch of `schemas.UNITS` in the order of the documents, with ids of `unit_id`; the number
        of pieces dropped as too short; and the number of documents without a unit.
    """
    if config.policy == "line":
        document, first, after = np.arange(len(texts.starts)), texts.starts, texts.stops
        character, num_dropped = np.zeros_like(first), 0
    else:
        *places, num_words = _pieces(texts, config)
        is_unit = num_words >= config.min_words
        document, first, after, character = (place[is_unit] for place in places)
        num_dropped = len(num_words) - len(document)
    data, offsets = spans.copy_spans(texts.data, first, after)
    ids = _ids(source_digest, texts.offsets[document], character)
    num_without = len(texts.starts) - len(np.unique(document))
    return pa.record_batch([ids, _strings(data, offsets)], schema=UNITS), num_dropped, num_without


def sentences(text: str) -> list[int]:
    """Lengths of the sentences of a text, which cover it.

    A sentence that is cut off by a window is read again in the next window.
    """
    if len(text) <= WINDOW_CHARS:
        return _lengths(text)
    all_lengths: list[int] = []
    position = 0
    while position + WINDOW_CHARS < len(text):
        window = text[position : position + WINDOW_CHARS]
        lengths = _lengths(window)[:-1] or [_up_to_last_space(window)]
        all_lengths += lengths
        position += sum(lengths)
    return all_lengths + _lengths(text[position:])


def _lengths(window: str) -> list[int]:
    parts = sentencex.segment("en", window)
    if "\u17d4" in window or "\u17d5" in window:
        parts = [part for sentence in parts for part in _KHMER_STOPS.split(sentence)]
    return list(filter(None, map(len, parts)))


def _up_to_last_space(window: str) -> int:
    head = window.rsplit(None, 1)
    return len(head[0]) if len(head) == 2 else len(window)


def _pieces(texts: Texts, config: UnitsConfig) -> tuple[Integers, ...]:
    is_unspaced = may_be_unspaced(texts.data, texts.starts, texts.stops)
    kinds = classes() if is_unspaced.any() else _NO_KINDS
    num_words = count_words(texts.data, texts.starts, texts.stops)
    for number in np.flatnonzero(is_unspaced).tolist():
        num_words[number] = num_words_between(
            texts.data, int(texts.starts[number]), int(texts.stops[number]), kinds
        )
    packed = config.policy == "packed"
    # In a corpus of paragraphs most documents are a single passage.
    whole = num_words <= config.max_words if packed else num_words == 0
    lengths: list[int] = []
    num_lengths = np.zeros(len(whole), np.int64)
    data = texts.data.data
    split = np.flatnonzero(~whole)
    starts, stops = texts.starts[split].tolist(), texts.stops[split].tolist()
    for number, start, stop in zip(split.tolist(), starts, stops, strict=True):
        of_text = sentences(str(data[start:stop], "utf-8"))
        lengths += of_text
        num_lengths[number] = len(of_text)
    first_lengths = np.concatenate([[0], np.cumsum(num_lengths)])
    capacity = len(whole) + len(lengths) + int(num_words.sum()) // config.max_words
    return spans.unit_spans(
        texts.data,
        texts.starts,
        texts.stops,
        num_words,
        is_unspaced,
        kinds,
        np.array(lengths, np.int64),
        first_lengths,
        config.max_words,
        packed,
        capacity,
    )


def _ids(source_digest: str, records: Integers, characters: Integers) -> pa.Array:
    """Make the ids of many units of one source file (see `unit_id`)."""
    template = unit_id(source_digest, 0, 0).encode()
    assert len(template) == _ID_LENGTH
    assert len(records) == 0 or records.max() < 10**_RECORD_DIGITS
    rows = np.empty((len(records), _ID_LENGTH), np.uint8)
    rows[:] = np.frombuffer(template, np.uint8)
    spans.write_digits(rows, _DIGEST_DIGITS + 1, _DIGEST_DIGITS + 1 + _RECORD_DIGITS, records)
    spans.write_digits(rows, _ID_LENGTH - _CHARACTER_DIGITS, _ID_LENGTH, characters)
    offsets = np.arange(0, rows.size + 1, _ID_LENGTH, dtype=np.int32)
    return _strings(rows.reshape(-1), offsets)


def _strings(data: NDArray[np.uint8], offsets: NDArray[np.int32]) -> pa.Array:
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
