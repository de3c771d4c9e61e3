"""Filter for the candidates of a corpus: duplicates and contaminated units are removed."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raykd import progress
from raykd.contextualize.contamination import ContaminationIndex
from raykd.dedup.clusters import near_duplicates
from raykd.dedup.exact import first_equal
from raykd.dedup.minhash import NearDuplicatesConfig
from raykd.storage import schemas

# Outcome of a candidate.
KEPT, DUPLICATE, NEAR_DUPLICATE, CONTAMINATED, CONTAMINATED_NGRAM = range(5)
_REASONS = pa.array(["kept", "duplicate", "near_duplicate", "leak", "leaked_ngram"])
_BATCH_ROWS = 65_536

ContaminationPolicy = Literal["remove", "keep"]


@dataclass(frozen=True)
class FilteredCandidates:
    """Outcome of each of N candidates, the best first.

    Attributes:
        candidates: columns `unit_id` and `text`.
        outcomes: (N,) one of the constants above.
        partners: (N,) for a duplicate the row of `candidates` that is kept instead.
        similarities: (N,) Jaccard with the partner.
        leaked: (N,) position of the evaluation sentence in the candidate, -1 if it is clean.
        is_ngram: (N,) whether the candidate contains only part of the sentence.
        index: index of the evaluation sentences.
        policy: whether contaminated candidates are removed or only recorded.
    """

    candidates: pa.Table
    outcomes: npt.NDArray[np.int8]
    partners: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float64]
    leaked: npt.NDArray[np.int32]
    is_ngram: npt.NDArray[np.bool_]
    index: ContaminationIndex
    policy: ContaminationPolicy

    @property
    def kept_rows(self) -> npt.NDArray[np.int64]:
        """Rows that are kept, ascending."""
        return np.flatnonzero(self.outcomes == KEPT)

    def count(self, *outcomes: int) -> int:
        """Count the candidates with one of these outcomes."""
        return int(np.isin(self.outcomes, outcomes).sum())

    def num_leaks(self, *, ngram: bool) -> int:
        """Count the candidates that contain an evaluation sentence, or only an n-gram of one."""
        return int(((self.leaked >= 0) & (self.is_ngram == ngram)).sum())

    def kept(self) -> pa.Table:
        """Copy the kept candidates, in their order."""
        return self.candidates.take(pa.array(self.kept_rows))

    def removed(self) -> pa.Table:
        """List the removed candidates as `schemas.REMOVED`, sorted by unit_id."""
        rows = np.flatnonzero(self.outcomes != KEPT)
        outcomes = self.outcomes[rows]
        is_leak = outcomes >= CONTAMINATED
        partners = pa.array(self.partners[rows], mask=is_leak)
        names = pc.if_else(
            pa.array(is_leak),
            self._sentences(rows, ~is_leak),
            self.candidates["unit_id"].take(partners),
        )
        columns = [
            self.candidates["unit_id"].take(pa.array(rows)),
            _REASONS.take(pa.array(outcomes)),
            names,
            pa.array(self.similarities[rows], mask=is_leak),
        ]
        table = pa.table(columns, schema=schemas.REMOVED)
        # Ties of units that occur twice are broken by reason and partner.
        return table.sort_by([(name, "ascending") for name in schemas.REMOVED.names])

    def leaks(self) -> pa.Table:
        """List the contaminated candidates as `schemas.CONTAMINATION`, sorted by unit_id."""
        rows = np.flatnonzero(self.leaked >= 0)
        columns = [
            self.candidates["unit_id"].take(pa.array(rows)),
            _REASONS.take(
                pa.array(np.where(self.is_ngram[rows], CONTAMINATED_NGRAM, CONTAMINATED))
            ),
            self._sentences(rows, np.zeros(len(rows), bool)),
            pa.array(self.outcomes[rows] == KEPT),
        ]
        table = pa.table(columns, schema=schemas.CONTAMINATION)
        return table.sort_by([(name, "ascending") for name in schemas.CONTAMINATION.names])

    def cut(self, num_units: int) -> Self:
        """Truncate the candidates after the `num_units`-th kept one."""
        kept_rows = self.kept_rows
        return (
            self if num_units > len(kept_rows) else self.cut_at(int(kept_rows[num_units - 1]) + 1)
        )

    def cut_at(self, num_candidates: int) -> Self:
        """Truncate to the first `num_candidates`; their outcomes do not depend on later ones."""
        first = slice(0, num_candidates)
        return replace(
            self,
            candidates=self.candidates.slice(0, num_candidates),
            outcomes=self.outcomes[first],
            partners=self.partners[first],
            similarities=self.similarities[first],
            leaked=self.leaked[first],
            is_ngram=self.is_ngram[first],
        )

    def _sentences(
        self, rows: npt.NDArray[np.int64], is_missing: npt.NDArray[np.bool_]
    ) -> pa.Array:
        positions = pa.array(self.leaked[rows], mask=is_missing)
        return pa.array(self.index.sentences, pa.string()).take(positions)


def filter_candidates(
    candidates: pa.Table,
    index: ContaminationIndex,
    near: NearDuplicatesConfig | None = None,
    policy: ContaminationPolicy = "remove",
) -> FilteredCandidates:
    """Keep the first of equal texts, and no text that contains an evaluation sentence.

    The outcome of a candidate depends only on the candidates before it. Memory: about 70 bytes per
    row, and another copy of the texts for near duplicates.

    Args:
        candidates: columns `unit_id` and `text`, the best candidate first.
        index: index of the evaluation sentences.
        near: definition of near duplicates to remove as well; None: keep them.
        policy: whether contaminated candidates are removed or only recorded.
    """
    num_rows = candidates.num_rows
    with progress.track("deduplicate", num_rows, "units") as advance:
        partners = first_equal(candidates["text"], advance=advance)
    leaked = np.empty(num_rows, np.int32)
    is_ngram = np.empty(num_rows, np.bool_)
    with progress.track("check for contamination", num_rows, "units") as advance:
        first = 0
        for batch in candidates.select(["text"]).to_batches(_BATCH_ROWS):
            rows = slice(first, first + batch.num_rows)
            leaked[rows], is_ngram[rows] = index.find_all(batch.column("text"))
            first = rows.stop
            advance(batch.num_rows)
    is_duplicate = partners != np.arange(num_rows)
    outcomes = np.where(is_duplicate, DUPLICATE, KEPT).astype(np.int8)
    if policy == "remove":
        # Equal texts contain the same sentences: duplicates of contaminated texts are contaminated.
        outcomes[leaked >= 0] = CONTAMINATED
        outcomes[(leaked >= 0) & is_ngram] = CONTAMINATED_NGRAM
    similarities = np.ones(num_rows)
    if near is not None:
        left = np.flatnonzero(outcomes == KEPT)
        removals = near_duplicates(candidates.take(pa.array(left)), near)
        removed = left[removals.rows]
        outcomes[removed] = NEAR_DUPLICATE
        partners[removed] = left[removals.partners]
        similarities[removed] = removals.similarities
        # A duplicate of a removed near duplicate gets the partner of that near duplicate.
        follows = (outcomes == DUPLICATE) & (outcomes[partners] == NEAR_DUPLICATE)
        outcomes[follows] = NEAR_DUPLICATE
        similarities[follows] = similarities[partners[follows]]
        partners[follows] = partners[partners[follows]]
    return FilteredCandidates(
        candidates, outcomes, partners, similarities, leaked, is_ngram, index, policy
    )
