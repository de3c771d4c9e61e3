r"""Analyzer: maps the text of units and queries to terms.

Terms are the words of Unicode's default word boundaries (UAX #29, rules WB4-WB13b and WB15-16),
lower-cased per character, as in the `standard` analyzer of Lucene and Elasticsearch. As in Lucene,
a run of a South-East Asian script (Thai, Lao, Khmer, Myanmar) is one term, each Han or Hiragana
character is a term, emoji sequences are terms, and longer words are split every 255 characters.
Unlike Lucene, characters of Tangut and Nushu are terms. Stop words and stemming are options.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import Stemmer
from numpy.typing import NDArray
from pydantic import Field, field_validator

from raykd.config import Config
from raykd.text.characters import characters
from raykd.text.term_table import (
    TermTable,
    find_terms,
    grown,
    new_table,
    spell_terms,
    table_of,
)
from raykd.text.words import PADDING

# Text analyzed at a time; memory for its term ids is allocated in advance.
_PIECE_BYTES = 1 << 22

# Size of the cache of stemmed words: a few hundred MB.
_MAX_WORDS = 1 << 21
_STOPPED = -2
_NO_LIMIT = 1 << 62

# Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET.
ENGLISH_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)


class AnalyzerConfig(Config):
    """Processing of the words of a text: lower-casing, stop words removed, then stemming."""

    stop_words: tuple[str, ...] | Literal["english"] | None = Field(
        None,
        description="Words that are not searched: english (Lucene's 33) or a list. Default: none, "
        "as in TLM's code.",
    )
    stemmer: str | None = Field(
        None, description="Snowball stemmer, such as english or porter. Default: none."
    )

    @field_validator("stop_words")
    @classmethod
    def _check_stop_words(
        cls, words: tuple[str, ...] | Literal["english"] | None
    ) -> tuple[str, ...] | Literal["english"] | None:
        if words is None or words == "english":
            return words
        split_words = [(word, terms(word)) for word in words]
        for word, parts in split_words:
            if len(parts) != 1:
                raise ValueError(f"{word!r} is {len(parts)} terms; give every stop word as one")
        return tuple(parts[0] for _, parts in split_words)

    @field_validator("stemmer")
    @classmethod
    def _check_stemmer(cls, name: str | None) -> str | None:
        if name is not None and name not in Stemmer.algorithms():
            raise ValueError(f"unknown stemmer {name!r}; known: {', '.join(Stemmer.algorithms())}")
        return name


PLAIN = AnalyzerConfig()


def _stop_words(config: AnalyzerConfig) -> tuple[str, ...]:
    if config.stop_words == "english":
        return tuple(ENGLISH_STOP_WORDS.split())
    return tuple(dict.fromkeys(config.stop_words or ()))


@lru_cache(maxsize=16)
def _finish(config: AnalyzerConfig) -> Callable[[list[str]], list[str]]:
    """Make the function that removes stop words and stems the other words."""
    stop_words = (
        ENGLISH_STOP_WORDS.split() if config.stop_words == "english" else config.stop_words or ()
    )
    stopped = frozenset(stop_words)
    stem = Stemmer.Stemmer(config.stemmer).stemWords if config.stemmer else list[str]

    def finish(words: list[str]) -> list[str]:
        return stem([term for term in words if term not in stopped])

    return finish


def terms(text: str, config: AnalyzerConfig = PLAIN) -> list[str]:
    """List the terms of a text in order, repeats included; lone surrogates separate words."""
    encoded = text.encode("utf-8", "surrogatepass")
    data = np.frombuffer(encoded + bytes(PADDING), np.uint8)
    # Lower-casing can turn two bytes into three; a zero byte follows each term.
    out = np.empty(3 * len(encoded) + PADDING, np.uint8)
    size = spell_terms(data, len(encoded), characters(), out)
    spelled = out[:size].tobytes().decode().split("\0")[:-1]
    return spelled if config is PLAIN else _finish(config)(spelled)


@dataclass(frozen=True)
class TermStream:
    """Ids of the known terms of U texts.

    Attributes:
        term_ids: known terms of all texts, in order of occurrence.
        offsets: (U + 1,) text u has term_ids[offsets[u]:offsets[u + 1]].
        lengths: (U,) number of terms of each text, known or not, repeats included.
    """

    term_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]


def number_terms(
    texts: pa.StringArray | pa.LargeStringArray, config: AnalyzerConfig = PLAIN
) -> tuple[list[str], TermStream]:
    """List the distinct terms of texts, sorted, and encode the texts as positions in that list."""
    words, table = _stream(texts, new_table(1 << 12, 1 << 15), 0)
    spelled, finish = _spelled(*table, 0), _finish(config)
    # Stop words become empty strings.
    term_of = spelled if config == PLAIN else ["".join(finish([word])) for word in spelled]
    distinct = sorted(set(term_of) - {""})
    number_of = {term: number for number, term in enumerate(distinct)}
    numbers = np.array([number_of.get(term, -1) for term in term_of], np.int32)
    term_ids = numbers[words.term_ids]
    num_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(term_ids >= 0)])
    offsets = num_before[words.offsets]
    lengths = np.diff(offsets).astype(np.int32)
    return distinct, TermStream(term_ids[term_ids >= 0], offsets, lengths)


class TermLookup:
    """Lookup of vocabulary terms in texts; the id of a term is its position in `terms`.

    Args:
        terms: distinct terms, as returned by the function `terms` with the same `config`.
        config: settings of the analyzer.
    """

    def __init__(self, terms: Sequence[str], config: AnalyzerConfig = PLAIN) -> None:
        self._terms = tuple(terms)
        self._config = config
        self._prepare()

    def __getstate__(self) -> tuple[tuple[str, ...], AnalyzerConfig]:
        return self._terms, self._config

    def __setstate__(self, state: tuple[tuple[str, ...], AnalyzerConfig]) -> None:
        self._terms, self._config = state
        self._prepare()

    def _prepare(self) -> None:
        if self._config.stemmer:
            self._stemmed = _StemmedTerms(self._terms, self._config)
            return
        in_table = pa.array([*self._terms, *_stop_words(self._config)], pa.large_string())
        data, offsets = _joined(in_table)
        self._table, num_terms = table_of(data, offsets)
        assert num_terms == len(in_table), "a term is repeated or a stop word"

    def stream(self, texts: pa.StringArray | pa.LargeStringArray) -> TermStream:
        """Encode the known terms of each text; a null counts as an empty text."""
        if self._config.stemmer:
            return self._stemmed.stream(texts)
        stream, _ = _stream(texts, self._table, 0, len(self._terms))
        return stream


class _StemmedTerms:
    """Lookup of stems; each distinct word of the texts is stemmed once."""

    def __init__(self, terms: Sequence[str], config: AnalyzerConfig) -> None:
        self._ids = {term: number for number, term in enumerate(terms)}
        self._stopped = frozenset(_stop_words(config))
        self._stem = Stemmer.Stemmer(config.stemmer).stemWords
        self._forget()

    def _forget(self) -> None:
        self._words = new_table(1 << 12, 1 << 15), 0
        self._id_of_word = np.empty(0, np.int32)

    def stream(self, texts: pa.StringArray | pa.LargeStringArray) -> TermStream:
        words, self._words = _stream(texts, *self._words)
        self._id_of_word = np.concatenate([self._id_of_word, self._ids_of_new_words()])
        ids = self._id_of_word[words.term_ids]
        num_known = np.concatenate([np.zeros(1, np.int64), np.cumsum(ids >= 0)])
        num_stopped = np.concatenate([np.zeros(1, np.int64), np.cumsum(ids == _STOPPED)])
        if len(self._id_of_word) > _MAX_WORDS:
            self._forget()
        return TermStream(
            ids[ids >= 0],
            num_known[words.offsets],
            words.lengths - np.diff(num_stopped[words.offsets]).astype(np.int32),
        )

    def _ids_of_new_words(self) -> NDArray[np.int32]:
        new = _spelled(*self._words, len(self._id_of_word))
        stems = zip(new, self._stem(new), strict=True)
        return np.array(
            [
                _STOPPED if word in self._stopped else self._ids.get(stem, -1)
                for word, stem in stems
            ],
            np.int32,
        )


def _stream(
    texts: pa.StringArray | pa.LargeStringArray,
    table: TermTable,
    num_terms: int,
    num_known: int | None = None,
) -> tuple[TermStream, tuple[TermTable, int]]:
    """Encode the terms of texts as ids.

    Args:
        texts: U texts.
        table: table of terms.
        num_terms: number of terms in the table.
        num_known: terms with this id or a larger one are ignored; None: all terms of the texts
            are added to the table.
    """
    parts = [np.empty(0, np.int32)]
    offsets, lengths = np.zeros(len(texts) + 1, np.int64), np.zeros(len(texts), np.int32)
    adds, limit = num_known is None, _NO_LIMIT if num_known is None else num_known
    first = 0
    for data, bounds in _pieces(texts):
        last = first + len(bounds) - 1
        ends, piece_lengths = offsets[first + 1 : last + 1], lengths[first:last]
        # A term has at least one byte; find_terms writes one id more than it keeps.
        ids = np.empty(int(bounds[-1] - bounds[0]) + 1, np.int32)
        text = num_ids = 0
        while True:
            text, num_terms, num_ids = find_terms(
                data, bounds, text, characters(), table, num_terms, limit, adds,
                ids, num_ids, ends, piece_lengths,
            )  # fmt: skip
            if text == last - first:
                break
            table = grown(table, num_terms)
        ends += offsets[first]
        parts.append(ids[:num_ids].copy())
        first = last
    return TermStream(np.concatenate(parts), offsets, lengths), (table, num_terms)


def _pieces(
    texts: pa.StringArray | pa.LargeStringArray,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield bytes and offsets of consecutive texts, followed by `PADDING` readable bytes."""
    first = 0
    data, offsets = _bytes(texts)
    while first < len(texts):
        last = int(np.searchsorted(offsets, offsets[first] + _PIECE_BYTES, "right")) - 1
        last = min(max(last, first + 1), len(texts))
        bounds = offsets[first : last + 1]
        if bounds[-1] + PADDING > len(data):
            padded = np.zeros(int(bounds[-1] - bounds[0]) + PADDING, np.uint8)
            padded[:-PADDING] = data[bounds[0] : bounds[-1]]
            padded.flags.writeable = False
            yield padded, bounds - bounds[0]
        else:
            yield data, bounds
        first = last


def _bytes(
    texts: pa.StringArray | pa.LargeStringArray,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """View Arrow's buffers; text u has the bytes offsets[u]:offsets[u + 1]."""
    if len(texts) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    if texts.null_count:
        texts = pc.fill_null(texts, "")
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, width)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    data.flags.writeable = False
    return data, offsets.astype(np.int64)


def _joined(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Copy the result of `_bytes` with padding."""
    data, offsets = _bytes(texts)
    return np.concatenate([data, np.zeros(PADDING, np.uint8)]), offsets


def _spelled(table: TermTable, num_terms: int, first: int) -> list[str]:
    """List the terms of a table with id `first` or larger."""
    starts = table.starts[first + 1 : num_terms + 2]
    data = table.spellings[starts[0] : starts[-1]]
    array = pa.LargeStringArray.from_buffers(
        len(starts) - 1, pa.py_buffer(starts - starts[0]), pa.py_buffer(data)
    )
    spellings: list[str] = array.to_pylist()
    return spellings
