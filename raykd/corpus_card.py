"""What a corpus is like, in figures that can be compared with those of another one."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import pyarrow as pa
import xxhash
from pydantic import BaseModel, ConfigDict

from raykd.dedup.exact import normalise, words

FILE_NAME = "card.json"
# Figures of texts are taken on a sample, so that their cost does not grow with the corpus.
_SAMPLE_UNITS = 50_000
_DISTINCT_WORDS = 20_000
_VOCABULARY_WORDS = 5_000


class TextFigures(BaseModel):
    """How varied the texts are, and how near their vocabulary is to the task's.

    `distinct_1` and `distinct_2` (different words / words, different pairs of neighbours / pairs)
    fall as a text grows; compare two corpora only where their `num_distinct_words` are equal.
    """

    distinct_1: float
    distinct_2: float
    num_distinct_words: int
    vocabulary_overlap: float
    num_vocabulary_words: int


class SearchFacts(BaseModel):
    """What the card repeats of the stages before: the search's settings and its counts."""

    model_config = ConfigDict(frozen=True)

    top_k: int
    num_anchors: int
    num_empty_queries: int
    num_fallback_queries: int


class CorpusCard(BaseModel):
    """A contextualized corpus, or the random one it is compared with, in figures.

    `num_candidates` are the different units retrieved, or all units of the general corpus.
    `num_wanted` is the limit, None where there was none; `num_missing` says by how many units the
    corpus stays below it, `num_beyond_limit` how many were left out because of it. `num_duplicates`
    and `num_leaks` are those that stood before the last unit kept, so that they can be compared
    with those of a corpus drawn until it is as large. A random corpus has None where only a search
    has a figure; `kept_fraction` is units kept a hit, and `max_rank` the rank of the last unit
    kept.
    """

    kind: Literal["contextualized", "random"]
    num_units: int
    num_bytes: int
    bytes_per_unit: float
    num_candidates: int
    num_wanted: int | None
    num_missing: int
    num_beyond_limit: int | None
    num_duplicates: int
    num_leaks: int
    num_evaluation_sentences: int
    leak_min_words: int
    num_quarantined: int
    search: SearchFacts | None
    num_hits: int | None
    kept_fraction: float | None
    max_rank: int | None
    text: TextFigures


def text_figures(units: pa.Table, task_sentences: Sequence[str]) -> TextFigures:
    """Distinct-1/2 on equally many words, and the share of the most frequent words in common.

    The sample is the units whose ids have the smallest hash: the same for any order of rows. The
    vocabularies compared are equally large: the 5,000 most frequent words of each side, or as many
    as the smaller side has. Source: the diagnostics of the contextualized-corpus paper; Distinct-n
    after Li et al. 2016, "A Diversity-Promoting Objective Function".
    """
    ids = units["unit_id"].to_pylist()
    hashes = (xxhash.xxh3_64_intdigest(unit_id.encode()) for unit_id in ids)
    sample = heapq.nsmallest(_SAMPLE_UNITS, zip(hashes, ids, range(len(ids)), strict=True))
    texts = [words(normalise(units["text"][row].as_py())) for _, _, row in sample]
    distinct_1, distinct_2, num_words = _distinct(texts)
    corpus = _by_frequency(texts)
    task = _by_frequency(words(normalise(sentence)) for sentence in task_sentences)
    size = min(len(corpus), len(task), _VOCABULARY_WORDS)
    shared = set(corpus[:size]) & set(task[:size])
    return TextFigures(
        distinct_1=distinct_1,
        distinct_2=distinct_2,
        num_distinct_words=num_words,
        vocabulary_overlap=_ratio(len(shared), size),
        num_vocabulary_words=size,
    )


def _distinct(texts: Iterable[Sequence[str]]) -> tuple[float, float, int]:
    """Distinct-1, Distinct-2 (pairs within a text), and the number of words they were taken on."""
    num_left = _DISTINCT_WORDS
    singles: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    num_pairs = 0
    for text in texts:
        part = text[:num_left]
        singles.update(part)
        pairs.update(pairwise(part))
        num_pairs += max(0, len(part) - 1)
        num_left -= len(part)
        if not num_left:
            break
    num_words = _DISTINCT_WORDS - num_left
    return _ratio(len(singles), num_words), _ratio(len(pairs), num_pairs), num_words


def _by_frequency(texts: Iterable[Sequence[str]]) -> list[str]:
    """All words, the most frequent first, ties in alphabetical order."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sorted(counts, key=lambda word: (-counts[word], word))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
