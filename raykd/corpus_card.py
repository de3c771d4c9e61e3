"""What a corpus is like, in figures that can be compared with those of another one."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import xxhash
from pydantic import BaseModel, ConfigDict

from raykd.dedup.normal_form import normalise, words
from raykd.dedup.sift import LeakPolicy

FILE_NAME = "card.json"
# Figures of texts are taken on a sample, so that their cost does not grow with the corpus.
_SAMPLE_UNITS = 50_000
_DISTINCT_WORDS = 500_000
_VOCABULARY_WORDS = 5_000

_Texts = Sequence[Sequence[str]]


class TextFigures(BaseModel):
    """How varied the texts are, and how near their vocabulary is to two others'.

    `distinct_1` and `distinct_2` (different words / words, different pairs of neighbours / pairs)
    fall as a text grows, so that they are taken on `num_distinct_words` words of each side that is
    compared. An overlap is the share that two sides have in common of their `num_vocabulary_words`
    most frequent words: with the task's sentences, and with a sample of the general corpus.
    """

    distinct_1: float
    distinct_2: float
    num_distinct_words: int
    task_overlap: float
    general_overlap: float
    num_vocabulary_words: int


class Compared(BaseModel):
    """What a corpus is compared with: the general corpus, or the task's sentences."""

    num_units: int
    num_bytes: int
    text: TextFigures


class SearchFacts(BaseModel):
    """What the card repeats of the stages before: the search's settings and its counts."""

    model_config = ConfigDict(frozen=True)

    method: str = "bm25"
    model: str | None = None
    top_k: int
    num_anchors: int
    num_empty_queries: int
    num_fallback_queries: int


class GeneralFacts(BaseModel):
    """What the card repeats of the general corpus: its size, and what ingest left out.

    Rows that cannot be read, empty documents, documents of which every piece is too short,
    and pieces that are too short.
    """

    model_config = ConfigDict(frozen=True)

    num_units: int
    num_bytes: int
    num_quarantined: int
    num_empty: int = 0
    num_dropped_documents: int = 0
    num_dropped_short: int = 0


class CorpusCard(BaseModel):
    """A contextualized corpus, or the random one it is compared with, in figures.

    `num_candidates` are the different units retrieved, or all units of the general corpus.
    `num_wanted` is the limit in units, `target_bytes` the one in bytes, `top_percent` the share of
    the ranks, each None where it was not set; `num_missing` and `num_missing_bytes` say by how much
    the corpus stays below, `num_beyond_limit` how many units were left out because of it. `k` are
    the hits an anchor that were looked at. `num_duplicates`, `num_near_duplicates`, `num_leaks` and
    `num_leaked_ngrams` are those that stood before the last unit kept, so that they can be compared
    with those of a corpus drawn until it is as large; `leaks` states whether units that hold an
    evaluation sentence were removed or kept. A random corpus has None where only a search has a
    figure; `kept_fraction` is units kept a hit, and `max_rank` the rank of the last one kept.
    """

    kind: Literal["contextualized", "random"]
    num_units: int
    num_bytes: int
    bytes_per_unit: float
    num_candidates: int
    num_wanted: int | None
    num_missing: int
    target_bytes: int | None
    num_missing_bytes: int
    top_percent: float | None
    num_beyond_limit: int | None
    num_duplicates: int
    num_near_duplicates: int
    leaks: LeakPolicy
    num_leaks: int
    num_leaked_ngrams: int
    num_evaluation_sentences: int
    leak_min_words: int
    leak_ngram: int | None
    num_quarantined: int
    num_empty: int = 0
    num_dropped_documents: int = 0
    num_dropped_short: int = 0
    search: SearchFacts | None
    k: int | None
    num_hits: int | None
    kept_fraction: float | None
    max_rank: int | None
    text: TextFigures
    general: Compared
    task: Compared


class Comparison(NamedTuple):
    """A corpus, the general corpus and the task's sentences, measured alike."""

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
    """Distinct-1/2 on equally many words, and the share of the most frequent words in common.

    The words are those of the smallest of the three sides, 500,000 at most; the vocabularies the
    5,000 most frequent words of each side, or as many as the smallest side has.

    Args:
        corpus: Texts of the corpus, in an order that says nothing of them (`sample_rows`).
        general: Texts of the general corpus, likewise.
        task: The task's sentences, in any order.
        like: Figures to be compared with: no more words than they were taken on are looked at.

    Source: the diagnostics of the contextualized-corpus paper; Distinct-n after Li et al. 2016, "A
    Diversity-Promoting Objective Function".
    """
    shuffled = sorted(task, key=lambda text: (xxhash.xxh3_64_intdigest(text.encode()), text))
    sides = [[words(normalise(text)) for text in texts] for texts in (corpus, general, shuffled)]
    num_words = min(_DISTINCT_WORDS, *(sum(map(len, texts)) for texts in sides))
    vocabularies = [_by_frequency(texts) for texts in sides]
    size = min(_VOCABULARY_WORDS, *map(len, vocabularies))
    if like is not None:
        num_words = min(num_words, like.num_distinct_words)
        size = min(size, like.num_vocabulary_words)
    most_frequent = [set(vocabulary[:size]) for vocabulary in vocabularies]
    figures = []
    for texts, vocabulary in zip(sides, most_frequent, strict=True):
        distinct_1, distinct_2 = _distinct(texts, num_words)
        general_overlap, task_overlap = (
            _ratio(len(vocabulary & other), size) for other in most_frequent[1:]
        )
        figures.append(
            TextFigures(
                distinct_1=distinct_1,
                distinct_2=distinct_2,
                num_distinct_words=num_words,
                task_overlap=task_overlap,
                general_overlap=general_overlap,
                num_vocabulary_words=size,
            )
        )
    return Comparison(*figures)


def read_card(directory: Path) -> CorpusCard:
    """The card that was written with a corpus."""
    return CorpusCard.model_validate_json((directory / FILE_NAME).read_bytes())


def sample_rows(unit_ids: pa.ChunkedArray) -> list[int]:
    """Rows of the 50,000 units whose ids have the smallest hash, in the order of the hashes.

    The units are the same for any order of rows, and their order says nothing of them.
    """
    ids = unit_ids.to_pylist()
    hashes = (xxhash.xxh3_64_intdigest(unit_id.encode()) for unit_id in ids)
    sample = heapq.nsmallest(_SAMPLE_UNITS, zip(hashes, ids, range(len(ids)), strict=True))
    return [row for _, _, row in sample]


def _distinct(texts: _Texts, num_words: int) -> tuple[float, float]:
    """Distinct-1 and Distinct-2 (pairs within a text) of the first so many words."""
    num_left = num_words
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
    return _ratio(len(singles), num_words), _ratio(len(pairs), num_pairs)


def _by_frequency(texts: Iterable[Sequence[str]]) -> list[str]:
    """All words, the most frequent first, ties in alphabetical order."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sorted(counts, key=lambda word: (-counts[word], word))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
