"""Results that a search keeps for the next one of the same or of a grown corpus.

    units/        the rows of the files as units (only of `raykd search`; a run has its own units)
    statistics/   forward index and statistics of each shard, for the queries of the last search
    answered/     queries and hits of the last search by BM25

Everything has a manifest and is verified before it is used. Units and statistics are valid per
shard. Hits are valid only for the whole corpus: a new unit changes idf and the average length, and
with them every score.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.retrieval.fusion import HitsReader
from raykd.retrieval.query_sets import QuerySet, Rows, write_rows
from raykd.storage.manifest import commit, digest_of, finished, read_manifest, stage_key
from raykd.storage.working_files import sweep

_STAGE = "answered queries"
_HITS_FILE, _QUERIES_FILE = "hits.parquet", "queries.parquet"
# Queries whose earlier hits are read at once.
_QUERIES_AT_ONCE = 4096


@dataclass(frozen=True)
class Kept:
    """Directory of kept results."""

    folder: Path

    @property
    def units(self) -> Path:
        """Directory of the shards of units."""
        return self.folder / "units"

    @property
    def statistics(self) -> Path:
        """Directory of the forward indexes and statistics."""
        return self.folder / "statistics"

    @property
    def answered(self) -> Path:
        """Directory of the queries and hits of the last search."""
        return self.folder / "answered"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory, and keep other searches from it.

        Raises:
            InputError: another search uses it, or it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=0).acquire()
        except Timeout:
            raise InputError(
                f"{self.folder}: another search uses these kept results; wait for its end, or "
                "give another folder"
            ) from None
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror}); give another folder"
            ) from None
        with lock:
            sweep(self.folder)
            yield

    def remove_damaged(self) -> None:
        """Remove results whose bytes have changed; the next search that needs them makes them."""
        for folder in (self.answered, *self.statistics.glob("statistics-*")):
            manifest = read_manifest(folder)
            if folder.exists() and (manifest is None or not finished(folder, manifest.key)):
                shutil.rmtree(folder)

    def earlier(self, settings: Mapping[str, Any], corpus: Mapping[str, str]) -> "Answers | None":
        """Read the last search if it had the same settings and corpus, and is undamaged."""
        manifest = read_manifest(self.answered)
        if manifest is None or manifest.config != dict(settings):
            return None
        inputs = {**corpus, "queries": manifest.inputs.get("queries", "")}
        if not finished(self.answered, stage_key(_STAGE, settings, inputs)):
            return None
        table = pq.read_table(self.answered / _QUERIES_FILE)
        return Answers(table, self.answered / _HITS_FILE, manifest.counts)

    def keep(
        self,
        query_set: QuerySet,
        hits: Path,
        settings: Mapping[str, Any],
        corpus: Mapping[str, str],
        counts: Mapping[str, float],
    ) -> None:
        """Keep the queries and hits of a search, in place of those of the last one."""
        table = query_set.table.select(["query_id", "query"])
        inputs = {**corpus, "queries": _digest_of(table)}
        if finished(self.answered, stage_key(_STAGE, settings, inputs)):
            return
        with commit(self.answered, _STAGE, settings, inputs) as draft:
            num_hits = _hits_per_query(hits, table["query_id"])
            rows = table.append_column("num_hits", pa.array(num_hits))
            pq.write_table(rows, draft.directory / _QUERIES_FILE)
            shutil.copyfile(hits, draft.directory / _HITS_FILE)
            draft.counts.update({name: counts[name] for name in ("num_units", "average_length")})


@dataclass(frozen=True)
class Answers:
    """Queries of an earlier search, in its order, and its hits.

    Attributes:
        table: query_id, query, and num_hits.
        hits: file of the hits.
        counts: `num_units` and `average_length` of the corpus.
    """

    table: pa.Table
    hits: Path
    counts: Mapping[str, float]

    def positions_of(self, table: pa.Table) -> NDArray[np.int64]:
        """Find the earlier position of each query, (Q,); -1 for those to search.

        The hits are read in their order, so the positions ascend: moved queries are searched
        again, and so are queries without hits, which may have no terms.
        """
        earlier = self.table["query"].to_pylist()
        has_hits = (self.table["num_hits"].to_numpy() > 0).tolist()
        places: dict[str, list[int]] = {}
        for number in range(len(earlier) - 1, -1, -1):
            if has_hits[number]:
                places.setdefault(earlier[number], []).append(number)
        positions = np.full(table.num_rows, -1, np.int64)
        last = -1
        for number, query in enumerate(table["query"].to_pylist()):
            left = places.get(query, [])
            while left and left[-1] <= last:
                left.pop()
            if left:
                positions[number] = last = left.pop()
        return positions


def write_known_and_new(
    path: Path,
    query_set: QuerySet,
    answers: Answers,
    positions: NDArray[np.int64],
    new_hits: Path | None,
) -> int:
    """Write the hits table of a set, from earlier hits and those of new queries; count its hits.

    The bytes are those of a search for all queries.

    Args:
        path: output file.
        query_set: all queries.
        answers: earlier hits.
        positions: see `Answers.positions_of`.
        new_hits: hits table of the queries whose position is -1; None if there are none.
    """
    query_ids = query_set.table["query_id"].combine_chunks()
    top_k = min(query_set.top_k, int(answers.counts["num_units"]))
    with ExitStack() as stack:
        known = stack.enter_context(HitsReader(answers.hits))
        earlier_ids = answers.table["query_id"].combine_chunks()
        new = stack.enter_context(HitsReader(new_hits)) if new_hits else None
        num_read = 0

        def known_rows(wanted: NDArray[np.int64]) -> Rows:
            """Read the hits of ascending earlier positions."""
            nonlocal num_read
            parts = [(np.empty(0, np.int64), pa.array([], known.unit_id_type), np.empty(0))]
            stop = int(wanted[-1]) + 1 if len(wanted) else num_read
            while num_read < stop:
                end = min(stop, num_read + _QUERIES_AT_ONCE)
                hits = known.next_hits(earlier_ids.slice(num_read, end - num_read))
                is_wanted = np.zeros(end - num_read, np.bool_)
                inside = wanted[(wanted >= num_read) & (wanted < end)] - num_read
                is_wanted[inside] = True
                chosen = np.flatnonzero(np.repeat(is_wanted, hits.num_hits))
                ids = hits.unit_ids.take(pa.array(hits.units[chosen])).cast(known.unit_id_type)
                counts = hits.num_hits[is_wanted].astype(np.int64)
                parts.append((counts, ids, hits.scores[chosen]))
                num_read = end
            return (
                np.concatenate([counts for counts, _, _ in parts]),
                pa.concat_arrays([ids for _, ids, _ in parts]),
                np.concatenate([scores for _, _, scores in parts]),
            )

        def gather(start: int, stop: int) -> Rows:
            own = positions[start:stop]
            counts = np.zeros(stop - start, np.int64)
            counts[own >= 0], ids, scores = known_rows(own[own >= 0])
            if new is None:
                return counts, ids, scores
            new_ids = query_ids.slice(start, stop - start).filter(pa.array(own < 0))
            found = new.next_hits(new_ids)
            counts[own < 0] = found.num_hits
            # Positions in the rows of the known queries, followed by those of the new ones.
            is_new = np.repeat(own < 0, counts)
            order = np.empty(len(is_new), np.int64)
            order[~is_new] = np.arange(len(ids))
            order[is_new] = np.arange(len(ids), len(is_new))
            new_units = found.unit_ids.take(pa.array(found.units)).cast(ids.type)
            all_ids = pa.concat_arrays([ids, new_units]).take(pa.array(order))
            return counts, all_ids, np.concatenate([scores, found.scores])[order]

        return write_rows(path, query_set, gather, known.unit_id_type, top_k)


def _hits_per_query(hits: Path, query_ids: pa.ChunkedArray) -> NDArray[np.int64]:
    counts = np.zeros(len(query_ids), np.int64)
    ids = query_ids.combine_chunks()
    with pq.ParquetFile(hits) as file:
        for batch in file.iter_batches(1 << 18, columns=["query_id"]):
            places = pc.index_in(batch.column(0), value_set=ids).to_numpy()
            counts += np.bincount(places, minlength=len(counts))
    return counts


def _digest_of(table: pa.Table) -> str:
    return digest_of([column.to_pylist() for column in table.columns])
