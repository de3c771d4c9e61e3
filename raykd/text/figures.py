"""Statistics of texts: Distinct-1/2 and vocabulary overlaps, on samples of equal size."""

import heapq
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel

from raykd.text.normalize import normalize, words
from raykd.text.stop_words import NLTK_STOP_WORDS

# Statistics are computed on a sample, so that their cost does not depend on the corpus size.
_SAMPLE_UNITS = 50_000
_VOCABULARY_WORDS = 5_000

_T = TypeVar("_T")


class TextFigures(BaseModel):
    """Diversity of a text, and overlap of its vocabulary with the task and the general corpus.

    All statistics depend on the size of a text, so they are computed on samples of equal size: the
    first `num_words` words of each text. `distinct_1` is distinct words / words, and `distinct_2`
    distinct word pairs / word pairs. An overlap is the share of the `num_vocabulary_words` most
    frequent words that two texts have in common: with the task's sentences, and with a sample of
    the general corpus (None without one). The content overlaps ignore stop words (NLTK's list).
    """

    distinct_1: float
    distinct_2: float
    num_words: int
    task_overlap: float
    general_overlap: float | None
    num_vocabulary_words: int
    content_task_overlap: float
    content_general_overlap: float | None
    num_content_vocabulary_words: int

    def sizes(self) -> list[int]:
        """Sizes of the sample and of the vocabularies."""
        return [self.num_words, self.num_vocabulary_words, self.num_content_vocabulary_words]


class Comparison(NamedTuple):
    """Comparable statistics of a corpus, the general corpus and the task's sentences."""

    corpus: TextFigures
    general: TextFigures
    task: TextFigures


def compare(
    corpus: Sequence[str],
    general: Sequence[str],
    task: Sequence[str],
    *,
    like: TextFigures | None = None,
) -> Comparison:
    """Compute Distinct-1/2 and vocabulary overlaps of three texts on samples of equal size.

    The sample size is that of the smallest text. The vocabularies are the 5,000 most frequent words
    of each sample, or fewer if the smallest vocabulary has fewer.

    Args:
        corpus: texts of the corpus, in random order (`sample_rows`).
        general: texts of the general corpus, in random order.
        task: the task's sentences, in any order.
        like: statistics to compare with; they bound the sizes of samples and vocabularies.

    Source: the diagnostics of the contextualized-corpus paper; Distinct-n after Li et al. 2016, "A
    Diversity-Promoting Objective Function for Neural Conversation Models", arXiv 1510.03055.
    """
    return Comparison(*_figures([corpus, general, _shuffled(task)], task=2, general=1, like=like))


def compare_with_task(
    corpus: Sequence[str], task: Sequence[str]
) -> tuple[TextFigures, TextFigures]:
    """Compute the statistics of `compare` without a general corpus.

    Args:
        corpus: texts of the corpus, in random order.
        task: the task's sentences, in any order.
    """
    of_corpus, of_task = _figures([corpus, _shuffled(task)], task=1)
    return of_corpus, of_task


def sample_rows(unit_ids: pa.ChunkedArray) -> list[int]:
    """Choose the rows of the 50,000 units whose ids have the smallest hashes, in hash order.

    The sample does not depend on the order of rows; its own order is random.
    """
    ids = unit_ids.to_pylist()
    return [row for _, _, row in _smallest(zip(ids, range(len(ids)), strict=True))]


def sample_texts(units: Iterable[tuple[str, str]]) -> list[str]:
    """Select the texts of the units that `sample_rows` chooses.

    Args:
        units: pairs (unit_id, text), read once.
    """
    return [text for _, _, text in _smallest(units)]


def _smallest(units: Iterable[tuple[str, _T]]) -> list[tuple[int, str, _T]]:
    keyed = (
        (xxhash.xxh3_64_intdigest(unit_id.encode()), unit_id, value) for unit_id, value in units
    )
    return heapq.nsmallest(_SAMPLE_UNITS, keyed, key=lambda unit: unit[:2])


class _Words(NamedTuple):
    """Word numbers of texts (N,); `is_first` (N,) marks the first word of each text."""

    numbers: NDArray[np.int32]
    is_first: NDArray[np.bool_]


def _figures(
    sides: Sequence[Sequence[str]],
    *,
    task: int,
    general: int | None = None,
    like: TextFigures | None = None,
) -> list[TextFigures]:
    """Compute the statistics of each side; `task` and `general` are positions of sides."""
    number_of: dict[str, int] = {}
    read = [_read(texts, number_of) for texts in sides]
    num_words = min(len(side.numbers) for side in read)
    if like is not None:
        num_words = min(num_words, like.num_words)
    samples = [_Words(side.numbers[:num_words], side.is_first[:num_words]) for side in read]
    ranked = [_by_frequency(sample.numbers, list(number_of)) for sample in samples]
    vocabularies = _most_frequent(ranked, like.num_vocabulary_words if like else None)
    content = _most_frequent(
        [[word for word in vocabulary if word not in _stop_words()] for vocabulary in ranked],
        like.num_content_vocabulary_words if like else None,
    )
    return [
        TextFigures(
            distinct_1=_ratio(len(np.unique(sample.numbers)), num_words),
            distinct_2=_distinct_2(sample, len(number_of)),
            num_words=num_words,
            task_overlap=_overlap(vocabulary, vocabularies[task]),
            general_overlap=None
            if general is None
            else _overlap(vocabulary, vocabularies[general]),
            num_vocabulary_words=len(vocabulary),
            content_task_overlap=_overlap(content_words, content[task]),
            content_general_overlap=None
            if general is None
            else _overlap(content_words, content[general]),
            num_content_vocabulary_words=len(content_words),
        )
        for sample, vocabulary, content_words in zip(samples, vocabularies, content, strict=True)
    ]


def _shuffled(sentences: Sequence[str]) -> list[str]:
    return sorted(sentences, key=lambda text: (xxhash.xxh3_64_intdigest(text.encode()), text))


def _read(texts: Sequence[str], number_of: dict[str, int]) -> _Words:
    """Encode the words of texts as numbers; new words are added to `number_of`."""
    parts = []
    lengths = []
    for text in texts:
        numbers_of_text = [
            number_of.setdefault(word, len(number_of)) for word in words(normalize(text))
        ]
        if numbers_of_text:
            parts.append(np.array(numbers_of_text, np.int32))
            lengths.append(len(numbers_of_text))
    numbers = np.concatenate([np.empty(0, np.int32), *parts])
    is_first = np.zeros(len(numbers), np.bool_)
    if lengths:
        is_first[np.cumsum([0, *lengths[:-1]])] = True
    return _Words(numbers, is_first)


def _distinct_2(sample: _Words, num_numbers: int) -> float:
    """Distinct word pairs / word pairs, within texts."""
    is_pair = ~sample.is_first[1:]
    left, right = sample.numbers[:-1][is_pair], sample.numbers[1:][is_pair]
    return _ratio(len(np.unique(left.astype(np.int64) * num_numbers + right)), len(left))


def _by_frequency(numbers: NDArray[np.int32], word_of: Sequence[str]) -> list[str]:
    """Sort the words by frequency, ties in alphabetical order."""
    distinct, counts = np.unique(numbers, return_counts=True)
    pairs = zip((-counts).tolist(), (word_of[number] for number in distinct.tolist()), strict=True)
    return [word for _, word in sorted(pairs)]


def _most_frequent(ranked: Sequence[Sequence[str]], limit: int | None) -> list[set[str]]:
    """Truncate the ranked words of all sides to the same number."""
    size = min(_VOCABULARY_WORDS, *map(len, ranked))
    if limit is not None:
        size = min(size, limit)
    return [set(vocabulary[:size]) for vocabulary in ranked]


@cache
def _stop_words() -> frozenset[str]:
    """Stop words as split by `words`, for example "don't" at the apostrophe."""
    return frozenset(part for word in NLTK_STOP_WORDS for part in words(normalize(word)))


def _overlap(vocabulary: set[str], other: set[str]) -> float:
    return _ratio(len(vocabulary & other), len(vocabulary))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
