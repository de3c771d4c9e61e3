"""Candidates for a corpus -> those that are kept, and why the others are not."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raykd import progress, schemas
from raykd.dedup.clusters import near_duplicates
from raykd.dedup.exact import first_equal
from raykd.dedup.leaks import LeakIndex
from raykd.dedup.minhash import NearDuplicatesConfig

# What became of a candidate.
KEPT, DUPLICATE, NEAR_DUPLICATE, LEAK, LEAKED_NGRAM = range(5)
_REASONS = pa.array(["kept", "duplicate", "near_duplicate", "leak", "leaked_ngram"])
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Sifted:
    """What became of each of N candidates, the best first.

    `outcomes` (N,) holds the constants above; `partners` (N,) the row of `candidates` that is
    there instead of a duplicate, or the position of the sentence that leaks.
    """

    candidates: pa.Table
    outcomes: npt.NDArray[np.int8]
    partners: npt.NDArray[np.int64]
    leaks: LeakIndex

    @property
    def kept_rows(self) -> npt.NDArray[np.int64]:
        """Rows that are kept, ascending."""
        return np.flatnonzero(self.outcomes == KEPT)

    def count(self, *outcomes: int) -> int:
        """Number of candidates with one of these outcomes."""
        return int(np.isin(self.outcomes, outcomes).sum())

    def kept(self) -> pa.Table:
        """The candidates that are kept, in their order: a copy of their texts."""
        return self.candidates.take(pa.array(self.kept_rows))

    def removed(self) -> pa.Table:
        """The others with their reasons, as REMOVED, sorted by unit_id."""
        rows = np.flatnonzero(self.outcomes != KEPT)
        unit_ids = self.candidates["unit_id"]
        outcomes, partners = self.outcomes[rows], self.partners[rows]
        is_unit = outcomes <= NEAR_DUPLICATE
        names = pc.if_else(
            pa.array(is_unit),
            unit_ids.take(pa.array(partners, mask=~is_unit)),
            pa.array(self.leaks.sentences, pa.string()).take(pa.array(partners, mask=is_unit)),
        )
        table = pa.table(
            [unit_ids.take(pa.array(rows)), _REASONS.take(pa.array(outcomes)), names],
            schema=schemas.REMOVED,
        )
        # A unit that was given twice stands here twice; its reason and partner decide then.
        return table.sort_by([(name, "ascending") for name in schemas.REMOVED.names])

    def cut(self, num_units: int) -> Self:
        """What came out of the candidates up to the `num_units`-th one kept, see `cut_at`."""
        kept_rows = self.kept_rows
        return (
            self if num_units > len(kept_rows) else self.cut_at(int(kept_rows[num_units - 1]) + 1)
        )

    def cut_at(self, num_candidates: int) -> Self:
        """What came out of the first so many candidates.

        Where no near duplicates are looked for, nothing else would come out of them alone.
        """
        return replace(
            self,
            candidates=self.candidates.slice(0, num_candidates),
            outcomes=self.outcomes[:num_candidates],
            partners=self.partners[:num_candidates],
        )


def sift(
    candidates: pa.Table, leaks: LeakIndex, near: NearDuplicatesConfig | None = None
) -> Sifted:
    """Keep the first of equal texts, and none that holds an evaluation sentence.

    What becomes of a candidate depends only on those before it, but for near duplicates, whose
    clusters are those of all candidates. Beside the candidates, about 60 bytes a row are held; for
    near duplicates their texts once more.

    Args:
        candidates: Columns `unit_id` and `text`, the best candidate first.
        leaks: The evaluation sentences.
        near: Of what is left, keep the first of each cluster of near duplicates as well.
    """
    num_rows = candidates.num_rows
    with progress.track("deduplicate", num_rows, "units") as advance:
        firsts = first_equal(candidates["text"], advance=advance)
    sentences = np.empty(num_rows, np.int32)
    is_ngram = np.empty(num_rows, np.bool_)
    with progress.track("check for leaks", num_rows, "units") as advance:
        first = 0
        for batch in candidates.select(["text"]).to_batches(_BATCH_ROWS):
            rows = slice(first, first + batch.num_rows)
            sentences[rows], is_ngram[rows] = leaks.find_all(batch.column("text"))
            first = rows.stop
            advance(batch.num_rows)
    # Equal texts hold equal sentences, so that a duplicate of a leak is a leak by itself.
    is_leak = sentences >= 0
    outcomes = np.where(firsts == np.arange(num_rows), KEPT, DUPLICATE).astype(np.int8)
    outcomes[is_leak] = LEAK
    outcomes[is_leak & is_ngram] = LEAKED_NGRAM
    partners = np.where(is_leak, sentences, firsts)
    if near is not None:
        left = np.flatnonzero(outcomes == KEPT)
        removals = near_duplicates(candidates.take(pa.array(left)), near)
        outcomes[left[removals.rows]] = NEAR_DUPLICATE
        partners[left[removals.rows]] = left[removals.partners]
    return Sifted(candidates, outcomes, partners, leaks)
