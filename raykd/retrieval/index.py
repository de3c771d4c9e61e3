"""The postings of one shard, restricted to the terms of the queries: built, used, thrown away."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval import scoring
from raykd.retrieval.scoring import Bm25Config
from raykd.retrieval.statistics import END_OF_UNIT, Statistics, Vocabulary, term_stream
from raykd.retrieval.topk import id_ranks


@dataclass(frozen=True)
class ShardIndex:
    """Which units of a shard hold which term, and what that counts in a score.

    Attributes:
        unit_ids: (U,) ids in the order of the shard.
        id_rank: (U,) each unit's position in the ascending order of the shard's ids.
        offsets: (V + 1,) the postings of term t stand at offsets[t]:offsets[t + 1].
        units: (P,) positions of units, ascending within a term.
        impacts: (P,) idf * saturation, float64.
    """

    unit_ids: pa.Array
    id_rank: NDArray[np.int32]
    offsets: NDArray[np.int64]
    units: NDArray[np.int32]
    impacts: NDArray[np.float64]


def build(
    batches: Iterable[pa.RecordBatch],
    unit_id_type: pa.DataType,
    vocabulary: Vocabulary,
    statistics: Statistics,
    idf: NDArray[np.float64],
    config: Bm25Config,
) -> ShardIndex:
    """Index one shard.

    Args:
        batches: the shard's units, with the columns `unit_id` and `text`.
        unit_id_type: string or int64.
        vocabulary: the terms of the queries.
        statistics: of the whole corpus.
        idf: of the whole corpus, computed once and not on every machine: logarithms of different
            C libraries may differ in the last bit.
        config: parameters of BM25.
    """
    lookup = vocabulary.lookup
    unit_ids: list[pa.Array] = []
    lengths = [np.empty(0, np.int64)]
    terms = [np.empty(0, np.int32)]
    units = [np.empty(0, np.int32)]
    num_units = 0
    for batch in batches:
        stream = term_stream(batch.column("text").to_pylist(), lookup)
        ends = stream == END_OF_UNIT
        known = stream >= 0
        lengths.append(np.diff(np.flatnonzero(ends), prepend=-1) - 1)
        terms.append(stream[known])
        units.append((num_units + np.cumsum(ends)[known]).astype(np.int32))
        unit_ids.append(batch.column("unit_id"))
        num_units += len(batch)
    offsets, posting_units, tf = _postings(
        np.concatenate(terms), np.concatenate(units), len(vocabulary.terms)
    )
    norm = scoring.length_norm(np.concatenate(lengths), statistics.average_length, config)
    impacts = np.repeat(idf, np.diff(offsets)) * scoring.saturation(tf, norm[posting_units])
    ids = pa.chunked_array(unit_ids, unit_id_type).combine_chunks()
    return ShardIndex(ids, id_ranks(ids), offsets, posting_units, impacts)


@njit(cache=True, nogil=True)
def _postings(
    terms: NDArray[np.int32], units: NDArray[np.int32], num_terms: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Sort (term, unit) pairs, which come with ascending units, by term; count equal pairs."""
    last_unit = np.full(num_terms, -1, np.int32)
    offsets = np.zeros(num_terms + 1, np.int64)
    for i in range(len(terms)):
        if last_unit[terms[i]] != units[i]:
            last_unit[terms[i]] = units[i]
            offsets[terms[i] + 1] += 1
    offsets = np.cumsum(offsets)
    posting_units = np.empty(offsets[-1], np.int32)
    tf = np.empty(offsets[-1], np.int32)
    end = offsets[:-1].copy()
    last_unit[:] = -1
    for i in range(len(terms)):
        term = terms[i]
        if last_unit[term] != units[i]:
            last_unit[term] = units[i]
            posting_units[end[term]] = units[i]
            tf[end[term]] = 0
            end[term] += 1
        tf[end[term] - 1] += 1
    return offsets, posting_units, tf
