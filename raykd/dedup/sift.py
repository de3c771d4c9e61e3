"""Candidates for a corpus -> those that are kept, and why the others are not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raykd import progress, schemas
from raykd.dedup.exact import first_equal
from raykd.dedup.leaks import LeakIndex

_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Sifted:
    """What became of each candidate; rows are positions in `candidates`, ascending.

    `duplicates` names the unit that was kept instead, `leaks` the sentence that was found.
    """

    candidates: pa.Table
    kept_rows: npt.NDArray[np.int64]
    duplicates: dict[int, str]
    leaks: dict[int, str]

    def kept(self) -> pa.Table:
        """The candidates that are kept, in their order."""
        return self.candidates.take(pa.array(self.kept_rows))

    def removed(self) -> pa.Table:
        """The others with their reasons, as REMOVED, sorted by unit_id."""
        unit_ids = self.candidates["unit_id"]
        rows = [
            {"unit_id": unit_ids[row].as_py(), "reason": reason, "partner": partner}
            for reason, partners in (("duplicate", self.duplicates), ("leak", self.leaks))
            for row, partner in partners.items()
        ]
        rows.sort(key=lambda row: row["unit_id"])
        return pa.Table.from_pylist(rows, schemas.REMOVED)

    def cut(self, num_units: int) -> Self:
        """What would have come out if the candidates ended with the `num_units`-th one kept."""
        if num_units > len(self.kept_rows):
            return self
        end = int(self.kept_rows[num_units - 1]) + 1
        return type(self)(
            candidates=self.candidates.slice(0, end),
            kept_rows=self.kept_rows[:num_units],
            duplicates={row: unit for row, unit in self.duplicates.items() if row < end},
            leaks={row: sentence for row, sentence in self.leaks.items() if row < end},
        )


def sift(candidates: pa.Table, leaks: LeakIndex) -> Sifted:
    """Keep the first of equal texts, and none that holds an evaluation sentence.

    Args:
        candidates: Columns `unit_id` and `text`, the best candidate first.
        leaks: The evaluation sentences.
    """
    with progress.track("deduplicate", candidates.num_rows, "units") as advance:
        firsts = first_equal(candidates["text"], advance=advance)
    with progress.track("check for leaks", candidates.num_rows, "units") as advance:
        return _sift(candidates, leaks, firsts, advance)


def _sift(
    candidates: pa.Table,
    leaks: LeakIndex,
    firsts: npt.NDArray[np.int64],
    advance: Callable[[int], None],
) -> Sifted:
    leaked: dict[int, str] = {}
    duplicates: dict[int, str] = {}
    kept_rows = []
    unit_ids = candidates["unit_id"]
    row = 0
    for batch in candidates.select(["text"]).to_batches(_BATCH_ROWS):
        for text in batch.column("text").to_pylist():
            first = int(firsts[row])
            if first in leaked:
                leaked[row] = leaked[first]
            elif first != row:
                duplicates[row] = unit_ids[first].as_py()
            elif (sentence := leaks.find(text)) is not None:
                leaked[row] = sentence
            else:
                kept_rows.append(row)
            row += 1
        advance(batch.num_rows)
    return Sifted(candidates, np.array(kept_rows, np.int64), duplicates, leaked)
