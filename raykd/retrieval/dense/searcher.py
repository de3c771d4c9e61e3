"""Dense retrieval: units whose embeddings are nearest to the embedding of the query.

FAISS finds candidates in float32. Their scores are recomputed in float64, one by one in a fixed
order of operations, since the sums of a matrix product depend on its shape. With the index `flat`
the hits are exact: candidates are added until rounding errors of float32 cannot exclude a hit.
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
from raykd.storage.remote.task_files import need

# Most candidates of a chunk of queries, 12 bytes each.
_MAX_CANDIDATES = 1 << 21
_QUERIES_AT_ONCE = 1024
# Extra candidates beyond top_k in the first round.
_SPARE = 16
_GROWTH = 4
# Fewest units per list that FAISS requires to train an IVF index.
_MIN_UNITS_PER_LIST = 39
# Half the distance between 1 and the next float32.
_UNIT_ROUNDOFF = 2.0**-24
_LANES = 8


@dataclass(frozen=True)
class DenseSearcher:
    """Search for the units of a shard whose embeddings are nearest to those of the queries.

    A task needs memory for the queries' embeddings (mapped from the object store) and, with `ivf`
    or `hnsw`, for the embeddings of the shard; with `flat` they are mapped from their file.

    Attributes:
        queries: (D, d) float32 embeddings.
        is_empty: (D,) queries without an embedding, which have no hits.
        folder: directory of the embeddings of all shards.
        embedder_digest: digest of the encoder.
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
        """Find the best hits of one shard; see `waves.Searcher`."""
        with explained(path):
            unit_ids = pq.read_table(path, columns=["unit_id"])["unit_id"].combine_chunks()
        unit_ids = unit_ids.cast(unit_id_type)
        prefix = self.config.unit_prefix
        folder = embeddings.shard_folder(self.folder, digest, self.embedder_digest, prefix)
        need(folder)
        manifest = read_manifest(folder)
        if manifest is None or finished(folder, manifest.key) is None:
            raise InputError(
                f"{folder}: damaged or removed during the search; run the search again"
            )
        embedded = embeddings.read_embedded(folder)
        shard = ShardVectors(embedded.vectors, self.config)
        id_rank = id_ranks(unit_ids)
        for first, last in blocks:
            num_hits = np.zeros(last - first, np.int32)
            rows = np.flatnonzero(~self.is_empty[first:last])
            searched = rows + first
            num_hits[rows], units, scores = shard.search(
                self.queries[searched],
                top_k[searched],
                thresholds[searched],
                id_rank[embedded.texts],
            )
            yield RankedHits.of_shard(num_hits, embedded.texts[units], scores, unit_ids, id_rank)


class ShardVectors:
    """Index of the embeddings of one shard.

    Args:
        vectors: (N, d) float32 embeddings.
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
        """Find the best vectors of each query.

        Args:
            queries: (Q, d) embeddings.
            top_k: (Q,) hits kept per query.
            thresholds: (Q,) vectors that score less may be skipped; 0 for no threshold.
            id_rank: (N,) ranks of the vectors' units in the ascending order of ids.

        Returns:
            Numbers of hits (Q,), positions (H,) and scores (H,), in the order of `hits.rank`. A
            score is the inner product, or minus the squared distance.
        """
        num_hits = np.zeros(len(queries), np.int32)
        unit_parts, score_parts = [np.empty(0, np.int32)], [np.empty(0)]
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
            unit_parts.append(units)
            score_parts.append(scores)
            first = chunk.stop
        return num_hits, np.concatenate(unit_parts), np.concatenate(score_parts)

    def _build(self) -> Any:
        """Build the index; None for exhaustive search."""
        faiss, index_config = self._faiss, self._config.index
        num_vectors, width = self._vectors.shape
        match index_config:
            case FlatConfig():
                return None
            case IvfConfig():
                num_lists = max(1, min(index_config.num_lists, num_vectors // _MIN_UNITS_PER_LIST))
                quantizer = faiss.IndexFlat(width, self._metric)
                index = faiss.IndexIVFFlat(quantizer, width, num_lists, self._metric)
                index.nprobe = min(index_config.num_probes, num_lists)
                index.cp.min_points_per_centroid = 1
            case HnswConfig():
                index = faiss.IndexHNSWFlat(width, index_config.num_neighbors, self._metric)
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
        """Find pairs (query, vector) that include the best hits of all queries."""
        if self._index is None:
            return self._exact_candidates(queries, top_k, thresholds)
        num_neighbors = min(int(top_k.max()), len(self._vectors))
        if isinstance(self._config.index, HnswConfig):
            self._index.hnsw.efSearch = max(self._config.index.ef_search, num_neighbors)
        _, neighbors = self._index.search(np.ascontiguousarray(queries), num_neighbors)
        rows, columns = np.nonzero(neighbors >= 0)
        return rows, neighbors[rows, columns].astype(np.int32)

    def _exact_candidates(
        self,
        queries: NDArray[np.float32],
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Find all pairs (query, vector) that can be in the exact top k.

        The float32 similarity s of a vector is within e of its true score. With s_k the k-th
        largest similarity, the k-th best true score is at least s_k - e, so that every hit has a
        similarity of at least s_k - 2e. Neighbors are added until one has a smaller similarity.
        """
        errors = self._errors(queries)
        pairs: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []
        waiting = np.arange(len(queries))
        width = min(int(top_k.max()) + _SPARE, len(self._vectors))
        last_hit = np.minimum(top_k, len(self._vectors)) - 1
        while len(waiting):
            size = max(1, _MAX_CANDIDATES // width)
            left: list[NDArray[np.int64]] = []
            for start in range(0, len(waiting), size):
                rows = waiting[start : start + size]
                similarities, units = self._neighbors(queries[rows], width)
                lowest = similarities[np.arange(len(rows)), last_hit[rows]] - 2 * errors[rows]
                is_whole = (similarities[:, -1] < lowest) | (width == len(self._vectors))
                left.append(rows[~is_whole])
                bounds = thresholds[rows]
                lowest = np.where(bounds == 0, lowest, np.maximum(lowest, bounds - errors[rows]))
                kept = (similarities >= lowest[:, None]) & is_whole[:, None]
                places, columns = np.nonzero(kept)
                pairs.append((rows[places], units[places, columns].astype(np.int32)))
            waiting = np.concatenate(left)
            width = min(_GROWTH * width, len(self._vectors))
        return np.concatenate([rows for rows, _ in pairs]), np.concatenate([u for _, u in pairs])

    def _neighbors(
        self, queries: NDArray[np.float32], width: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Similarities (descending) and positions of the `width` nearest vectors, (Q, width)."""
        distances, units = self._faiss.knn(
            np.ascontiguousarray(queries), self._vectors, width, metric=self._metric
        )
        sign = 1.0 if self._config.metric == "inner_product" else -1.0
        return sign * distances.astype(np.float64), units

    def _errors(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Bounds (Q,) of the difference between a float32 similarity and the true score.

        Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms",
        doi:10.1137/1.9780898718027, section 3.1: the error of a sum of n products in any order is
        at most n u / (1 - n u) times sum |x_i y_i| <= |x| |y|; for distances, computed as
        |x|^2 + |y|^2 - 2 x y, times (|x| + |y|)^2. The factor 2 and the 8 additional operations
        cover the operations outside of the sum.
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


# Both use eight partial sums, which the compiler vectorizes, and add them in a fixed order: the
# result has the same bits on every machine. Products of float32 numbers are exact in float64.


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
