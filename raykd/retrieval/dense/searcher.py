"""Dense retrieval: the units whose embeddings are nearest to the query's.

FAISS finds candidates in float32; their scores are computed anew in float64, each by itself and in
one order of operations, as the sums of a matrix product depend on its shape. With the index `flat`
the hits are exact: candidates are taken until no other unit can be among the best, whatever the
rounding of float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from raykd.errors import InputError
from raykd.retrieval.dense import embeddings
from raykd.retrieval.dense.config import DenseConfig, FlatConfig, HnswConfig, IvfConfig
from raykd.retrieval.hits import RankedHits, id_ranks, rank
from raykd.storage.locations import explained
from raykd.storage.manifest import digest_of, finished, read_manifest

# Candidates of a chunk of queries: 12 bytes each.
_MAX_CANDIDATES = 1 << 21
_QUERIES_AT_ONCE = 1024
# Candidates beyond top_k that are asked for at first.
_SPARE = 16
_GROWTH = 4
# FAISS asks for as many units a list as this to train an IVF index.
_MIN_UNITS_A_LIST = 39
# Half the distance between 1 and the next float32.
_UNIT_ROUNDOFF = 2.0**-24
_LANES = 8


@dataclass(frozen=True)
class DenseSearcher:
    """Finds the units of a shard whose embeddings are nearest to those of the queries.

    A task needs memory for the queries' embeddings (mapped from the object store) and, with `ivf`
    or `hnsw`, for the embeddings of the shard; with `flat` they are mapped from their file.

    Attributes:
        queries: (D, d) float32.
        is_empty: (D,) the queries without an embedding, which have no hits.
        folder: where the embeddings of all shards are kept.
        embedder_digest: of the encoder that made them.
        config: settings.
    """

    queries: NDArray[np.float32]
    is_empty: NDArray[np.bool_]
    folder: Path
    embedder_digest: str
    config: DenseConfig

    @cached_property
    def digest(self) -> str:
        """Digest of queries, encoder and settings."""
        settings = self.config.model_dump(mode="json", include={"metric", "index"})
        vectors = xxh3_128_hexdigest(np.ascontiguousarray(self.queries).data)
        queries = [vectors, *self.queries.shape]
        return digest_of([queries, self.embedder_digest, self.config.unit_prefix, settings])

    def search_shard(
        self,
        path: Path,
        digest: str,
        unit_id_type: pa.DataType,
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
        blocks: Sequence[tuple[int, int]],
    ) -> Iterator[RankedHits]:
        """The shard's own best hits, see `waves.Searcher`."""
        with explained(path):
            unit_ids = pq.read_table(path, columns=["unit_id"])["unit_id"].combine_chunks()
        unit_ids = unit_ids.cast(unit_id_type)
        prefix = self.config.unit_prefix
        folder = embeddings.shard_folder(self.folder, digest, self.embedder_digest, prefix)
        manifest = read_manifest(folder)
        if manifest is None or finished(folder, manifest.key) is None:
            raise InputError(
                f"{folder}: has been damaged or removed during the search; run it again"
            )
        embedded = embeddings.read_embedded(folder)
        shard = ShardVectors(embedded.vectors, self.config)
        id_rank = id_ranks(unit_ids)
        for first, last in blocks:
            num_hits = np.zeros(last - first, np.int32)
            rows = np.flatnonzero(~self.is_empty[first:last])
            wanted = rows + first
            num_hits[rows], units, scores = shard.search(
                self.queries[wanted], top_k[wanted], thresholds[wanted], id_rank[embedded.texts]
            )
            yield RankedHits.of_shard(num_hits, embedded.texts[units], scores, unit_ids, id_rank)


class ShardVectors:
    """The embeddings of one shard, ready to be searched.

    Args:
        vectors: (N, d) float32.
        config: settings.
    """

    def __init__(self, vectors: NDArray[np.float32], config: DenseConfig) -> None:
        import faiss  # loads a second OpenMP library: not into processes that only embed

        faiss.omp_set_num_threads(1)
        self._faiss: Any = faiss
        self._vectors, self._config = vectors, config
        self._metric = (
            faiss.METRIC_INNER_PRODUCT if config.metric == "inner_product" else faiss.METRIC_L2
        )
        self._index = self._build() if len(vectors) else None
        self._longest = 0.0
        for start in range(0, len(vectors), _QUERIES_AT_ONCE):
            part = vectors[start : start + _QUERIES_AT_ONCE].astype(np.float64)
            self._longest = max(self._longest, float(np.sqrt((part**2).sum(1)).max()))

    def search(
        self,
        queries: NDArray[np.float32],
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
        id_rank: NDArray[np.int32],
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """The best vectors of each query: numbers of hits, positions, scores.

        Args:
            queries: (Q, d).
            top_k: (Q,) hits wanted a query.
            thresholds: (Q,) what scores less may be left out; 0 for no threshold.
            id_rank: (N,) positions of the vectors' units in the ascending order of ids.

        Returns:
            (Q,), (H,) and (H,), ordered as `hits.rank` orders them. A score is the inner product,
            or minus the squared distance.
        """
        num_hits = np.zeros(len(queries), np.int32)
        found_units, found_scores = [np.empty(0, np.int32)], [np.empty(0)]
        first = 0 if len(self._vectors) else len(queries)
        while first < len(queries):
            size = _MAX_CANDIDATES // (int(top_k[first:].max()) + _SPARE)
            chunk = slice(first, first + max(1, min(size, _QUERIES_AT_ONCE)))
            rows, units = self._candidates(queries[chunk], top_k[chunk], thresholds[chunk])
            scores = self._scores(queries[chunk], rows, units)
            bounds = thresholds[chunk][rows]
            is_hit = (bounds == 0.0) | (scores >= bounds)
            num_hits[chunk], units, scores = rank(
                rows[is_hit], units[is_hit], scores[is_hit], id_rank, top_k[chunk]
            )
            found_units.append(units)
            found_scores.append(scores)
            first = chunk.stop
        return num_hits, np.concatenate(found_units), np.concatenate(found_scores)

    def _build(self) -> Any:
        """The index; None where all vectors are looked at."""
        faiss, index_config = self._faiss, self._config.index
        num_vectors, width = self._vectors.shape
        match index_config:
            case FlatConfig():
                return None
            case IvfConfig():
                num_lists = max(1, min(index_config.num_lists, num_vectors // _MIN_UNITS_A_LIST))
                quantizer = faiss.IndexFlat(width, self._metric)
                index = faiss.IndexIVFFlat(quantizer, width, num_lists, self._metric)
                index.nprobe = min(index_config.num_probes, num_lists)
                index.cp.min_points_per_centroid = 1
            case HnswConfig():
                index = faiss.IndexHNSWFlat(width, index_config.num_neighbours, self._metric)
                index.hnsw.efConstruction = index_config.ef_construction
                index.hnsw.efSearch = index_config.ef_search
        vectors = np.ascontiguousarray(self._vectors)
        index.train(vectors)
        index.add(vectors)
        return index

    def _candidates(
        self,
        queries: NDArray[np.float32],
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(query, vector) pairs among which the best hits of all queries are."""
        if self._index is None:
            return self._exact_candidates(queries, top_k, thresholds)
        wanted = min(int(top_k.max()), len(self._vectors))
        if isinstance(self._config.index, HnswConfig):
            self._index.hnsw.efSearch = max(self._config.index.ef_search, wanted)
        _, found = self._index.search(np.ascontiguousarray(queries), wanted)
        rows, columns = np.nonzero(found >= 0)
        return rows, found[rows, columns].astype(np.int32)

    def _exact_candidates(
        self,
        queries: NDArray[np.float32],
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """As `_candidates`, with no vector left out that can be among the best.

        A similarity s of float32 is within e of the true score. `top_k` vectors have at least the
        similarity s_k, so that the true score of the last of the best is at least s_k - e, and the
        similarity of every vector that reaches it at least s_k - 2e. More neighbours are asked for
        until one of them has less.
        """
        errors = self._errors(queries)
        found: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []
        waiting = np.arange(len(queries))
        width = min(int(top_k.max()) + _SPARE, len(self._vectors))
        last_wanted = np.minimum(top_k, len(self._vectors)) - 1
        while len(waiting):
            size = max(1, _MAX_CANDIDATES // width)
            left: list[NDArray[np.int64]] = []
            for start in range(0, len(waiting), size):
                rows = waiting[start : start + size]
                similarities, units = self._neighbours(queries[rows], width)
                lowest = similarities[np.arange(len(rows)), last_wanted[rows]] - 2 * errors[rows]
                is_whole = (similarities[:, -1] < lowest) | (width == len(self._vectors))
                left.append(rows[~is_whole])
                bounds = thresholds[rows]
                lowest = np.where(bounds == 0, lowest, np.maximum(lowest, bounds - errors[rows]))
                kept = (similarities >= lowest[:, None]) & is_whole[:, None]
                places, columns = np.nonzero(kept)
                found.append((rows[places], units[places, columns].astype(np.int32)))
            waiting = np.concatenate(left)
            width = min(_GROWTH * width, len(self._vectors))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([u for _, u in found])

    def _neighbours(
        self, queries: NDArray[np.float32], width: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Similarities, falling, and positions of the `width` nearest vectors, both (Q, width)."""
        distances, units = self._faiss.knn(
            np.ascontiguousarray(queries), self._vectors, width, metric=self._metric
        )
        sign = 1.0 if self._config.metric == "inner_product" else -1.0
        return sign * distances.astype(np.float64), units

    def _errors(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """(Q,) bounds of the difference between a similarity of float32 and the true score.

        Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1: a sum
        of n products in any order is within n u / (1 - n u) of sum |x_i y_i|, which is at most
        |x| |y|; for distances, computed as |x|^2 + |y|^2 - 2 x y, of (|x| + |y|)^2. The factor 2
        and the 8 operations more stand for the few that are no part of the sum.
        """
        lengths = np.sqrt((queries.astype(np.float64) ** 2).sum(1))
        factor = 2 * (queries.shape[1] + 8) * _UNIT_ROUNDOFF
        if self._config.metric == "inner_product":
            return np.asarray(factor * lengths * self._longest)
        return np.asarray(factor * (lengths + self._longest) ** 2)

    def _scores(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64], units: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        scores = np.empty(len(rows))
        score = _inner_products if self._config.metric == "inner_product" else _minus_distances
        score(queries, np.asarray(self._vectors), rows, units, scores)
        return scores


# Both sum in eight lanes, which the compiler computes side by side, and add up the lanes in one
# order: the same bits on every machine. A product of float32 numbers is exact in float64.


@njit(cache=True, nogil=True)
def _inner_products(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
) -> None:
    lanes = np.empty(_LANES)
    width = queries.shape[1]
    for hit in range(len(rows)):
        query, vector = queries[rows[hit]], vectors[units[hit]]
        lanes[:] = 0.0
        for start in range(0, width - _LANES + 1, _LANES):
            for lane in range(_LANES):
                lanes[lane] += np.float64(query[start + lane]) * np.float64(vector[start + lane])
        for position in range(width - width % _LANES, width):
            lanes[0] += np.float64(query[position]) * np.float64(vector[position])
        total = 0.0
        for lane in range(_LANES):
            total += lanes[lane]
        scores[hit] = total


@njit(cache=True, nogil=True)
def _minus_distances(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
) -> None:
    lanes = np.empty(_LANES)
    width = queries.shape[1]
    for hit in range(len(rows)):
        query, vector = queries[rows[hit]], vectors[units[hit]]
        lanes[:] = 0.0
        for start in range(0, width - _LANES + 1, _LANES):
            for lane in range(_LANES):
                step = np.float64(query[start + lane]) - np.float64(vector[start + lane])
                lanes[lane] -= step * step
        for position in range(width - width % _LANES, width):
            step = np.float64(query[position]) - np.float64(vector[position])
            lanes[0] -= step * step
        total = 0.0
        for lane in range(_LANES):
            total += lanes[lane]
        scores[hit] = total
