"""What BM25 must know of the whole corpus, for the terms of the queries only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.corpus.analyze import END_OF_TEXT, terms, terms_of_all
from raykd.retrieval import scoring

# In a stream of term ids: a term that no query holds, and the end of a unit.
OTHER_TERM = -1
END_OF_UNIT = -2

# Texts analysed at a time: more do not stay in the cache of the processor.
_TEXTS_A_BATCH = 512


@dataclass(frozen=True)
class Vocabulary:
    """The distinct terms of the queries, in the order of their UTF-8 bytes."""

    terms: tuple[str, ...]

    @property
    def lookup(self) -> dict[str, int]:
        """Term -> id, the position in `terms`; also what stands for the end of a text."""
        ids = {term: number for number, term in enumerate(self.terms)}
        return {**ids, END_OF_TEXT: END_OF_UNIT}


@dataclass(frozen=True)
class QueryTerms:
    """Every query's distinct terms: those of query q stand at offsets[q]:offsets[q + 1].

    Attributes:
        offsets: (Q + 1,) positions.
        term_ids: ascending within a query: the order in which scores are summed.
        counts: how often the query holds the term.
    """

    offsets: NDArray[np.int64]
    term_ids: NDArray[np.int32]
    counts: NDArray[np.float64]

    @property
    def num_queries(self) -> int:
        """Number of queries, empty ones included."""
        return len(self.offsets) - 1

    @property
    def num_empty(self) -> int:
        """Queries without any term."""
        return int((np.diff(self.offsets) == 0).sum())


@dataclass(frozen=True)
class Statistics:
    """Statistics of some units; those of disjoint units add up.

    Attributes:
        num_units: units, empty ones included.
        total_length: terms of all units, repeats included.
        df: (V,) units that hold each term of the vocabulary.
    """

    num_units: int
    total_length: int
    df: NDArray[np.int64]

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            self.num_units + other.num_units,
            self.total_length + other.total_length,
            self.df + other.df,
        )

    @classmethod
    def empty(cls, num_terms: int) -> "Statistics":
        """Statistics of no unit."""
        return cls(0, 0, np.zeros(num_terms, np.int64))

    @property
    def average_length(self) -> float:
        """Mean number of terms of a unit; 0 without units."""
        return self.total_length / self.num_units if self.num_units else 0.0

    @property
    def idf(self) -> NDArray[np.float64]:
        """Inverse document frequency of each term of the vocabulary."""
        return scoring.idf(self.df, self.num_units)


def analyse_queries(queries: Sequence[str]) -> tuple[Vocabulary, QueryTerms]:
    """The vocabulary of the queries, and each query's terms as ids of it."""
    terms_of_queries = [terms(query) for query in queries]
    # Code points order as their UTF-8 bytes do.
    vocabulary = Vocabulary(tuple(sorted({term for found in terms_of_queries for term in found})))
    lookup = vocabulary.lookup
    offsets = np.zeros(len(queries) + 1, np.int64)
    term_ids: list[NDArray[np.int32]] = []
    counts: list[NDArray[np.int64]] = []
    for number, found in enumerate(terms_of_queries):
        distinct, repeats = np.unique(
            np.array([lookup[term] for term in found], np.int32), return_counts=True
        )
        offsets[number + 1] = offsets[number] + len(distinct)
        term_ids.append(distinct)
        counts.append(repeats)
    return vocabulary, QueryTerms(
        offsets,
        np.concatenate([np.empty(0, np.int32), *term_ids]),
        np.concatenate([np.empty(0, np.int64), *counts]).astype(np.float64),
    )


def term_stream(texts: Sequence[str], lookup: dict[str, int]) -> NDArray[np.int32]:
    """Each unit's terms as ids of the vocabulary, `END_OF_UNIT` after every unit.

    Args:
        texts: the units.
        lookup: `Vocabulary.lookup`.
    """
    streams = [np.empty(0, np.int32)]
    for start in range(0, len(texts), _TEXTS_A_BATCH):
        found = terms_of_all(texts[start : start + _TEXTS_A_BATCH])
        streams.append(
            np.fromiter(map(lookup.get, found, repeat(OTHER_TERM)), np.int32, len(found))
        )
    return np.concatenate(streams)


def of_units(batches: Iterable[Sequence[str]], vocabulary: Vocabulary) -> Statistics:
    """Statistics of the units of one shard.

    Args:
        batches: the units' texts, as many at a time as fit in memory.
        vocabulary: the terms that are counted.
    """
    lookup = vocabulary.lookup
    total = Statistics.empty(len(vocabulary.terms))
    for texts in batches:
        stream = term_stream(texts, lookup)
        df = np.zeros(len(vocabulary.terms), np.int64)
        _count_units(stream, df)
        total += Statistics(len(texts), len(stream) - len(texts), df)
    return total


@njit(cache=True, nogil=True)
def _count_units(stream: NDArray[np.int32], df: NDArray[np.int64]) -> None:
    last_unit = np.full(len(df), -1, np.int64)
    unit = 0
    for term in stream:
        if term == END_OF_UNIT:
            unit += 1
        elif term >= 0 and last_unit[term] != unit:
            last_unit[term] = unit
            df[term] += 1
