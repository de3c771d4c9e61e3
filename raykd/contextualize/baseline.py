"""Size and files of the corpora that the contextualized one is compared with."""

import functools
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raykd.contextualize.card import CorpusCard, CorpusKind, DsirFacts, GeneralFacts
from raykd.contextualize.config import LIMITS, BaselineSize, ContextualizeConfig
from raykd.contextualize.contamination import ContaminationIndex
from raykd.contextualize.filter import FilteredCandidates, filter_candidates
from raykd.contextualize.select import ReferenceTexts, figures, num_bytes_of, write_corpus
from raykd.errors import InputError
from raykd.storage.manifest import Draft
from raykd.text.figures import TextFigures

# number of units -> at least as many of the best units, all if there are fewer; the best first.
Take = Callable[[int], pa.Table]


class CorpusSize(NamedTuple):
    """Size of a corpus: units, or bytes of text; one of them is given.

    A corpus by bytes ends with the unit that reaches them.
    """

    num_units: int | None = None
    num_bytes: int | None = None

    @classmethod
    def of(cls, card: CorpusCard, unit: BaselineSize) -> Self:
        """Size of the corpus of a card, in units or bytes."""
        if unit == "units":
            return cls(num_units=card.num_units)
        return cls(num_bytes=card.num_bytes)

    def settings(self, config: ContextualizeConfig) -> dict[str, object]:
        """Settings that determine a corpus of this size; the limits of `config` are ignored."""
        ignored = {*LIMITS, "baseline_size", "dsir"}
        size = {name: value for name, value in self._asdict().items() if value is not None}
        return config.model_dump(mode="json", exclude=ignored) | size

    def expected_units(self, general: GeneralFacts) -> int:
        """Units of this size if they are as long as those of the general corpus."""
        if self.num_units is not None:
            return self.num_units
        assert self.num_bytes is not None
        return 1 + self.num_bytes * general.num_units // max(1, general.num_bytes)

    def cut(self, filtered: FilteredCandidates) -> FilteredCandidates | None:
        """Truncate candidates at this size; None if they are too few."""
        if self.num_units is not None:
            is_enough = len(filtered.kept_rows) >= self.num_units
            return filtered.cut(self.num_units) if is_enough else None
        assert self.num_bytes is not None
        reached = np.flatnonzero(np.cumsum(num_bytes_of(filtered)) >= self.num_bytes)
        return filtered.cut(int(reached[0]) + 1) if len(reached) else None


def write_baseline(
    draft: Draft,
    kind: CorpusKind,
    take: Take,
    size: CorpusSize,
    num_candidates: int,
    reference_texts: ReferenceTexts,
    config: ContextualizeConfig,
    *,
    like: TextFigures | None,
    dsir: Callable[[pa.ChunkedArray], DsirFacts] | None = None,
) -> None:
    """Write the best units as a corpus, without duplicates and contaminated units.

    The units are sorted by id. The files are those of `contextualize`, with rank 0 and no query.

    Args:
        draft: output.
        kind: how the units are chosen, for the card.
        take: function that returns the best units.
        size: size to reach; if there is too little text, all is taken, and the card reports it.
        num_candidates: units of the general corpus.
        reference_texts: sentences to remove, and texts for the card's comparison.
        config: decontamination and deduplication settings.
        like: statistics of the corpus that this one is compared with.
        dsir: function that computes the card's facts on a DSIR corpus from its texts.

    Raises:
        InputError: no unit is left.
    """
    index = ContaminationIndex(
        reference_texts.evaluation_sentences, config.leak_min_words, config.leak_ngram
    )
    filter_taken = functools.partial(
        filter_candidates, index=index, near=config.near_duplicates, policy=config.leaks
    )
    # Allows for 5 % removals.
    num_first = int(1.05 * size.expected_units(reference_texts.general))
    filtered = _take_until(size, num_first, num_candidates, take, filter_taken)
    rows = filtered.kept_rows
    if not len(rows):
        raise InputError(
            f"{kind} corpus: of the {num_candidates} units of the general corpus none is free of "
            "sentences of the task's evaluation splits; give a general corpus with other text"
        )
    corpus_figures = figures(filtered, size.num_units, reference_texts, like=like)
    unit_ids = filtered.candidates["unit_id"].take(pa.array(rows))
    in_order = rows[pc.sort_indices(unit_ids).to_numpy()]
    card = CorpusCard(
        kind=kind,
        **corpus_figures,
        num_candidates=num_candidates,
        target_bytes=size.num_bytes,
        num_missing_bytes=max(0, (size.num_bytes or 0) - corpus_figures["num_bytes"]),
        top_percent=None,
        num_beyond_limit=None,
        search=None,
        k=None,
        num_hits=None,
        kept_fraction=None,
        max_rank=None,
        dsir=dsir(filtered.candidates["text"].take(pa.array(rows))) if dsir else None,
    )
    draft.counts = write_corpus(draft.directory, filtered, in_order, card)


def _take_until(
    size: CorpusSize,
    num_units: int,
    num_candidates: int,
    take: Take,
    filter_taken: Callable[[pa.Table], FilteredCandidates],
) -> FilteredCandidates:
    """Filter the best units until enough are kept, or all have been taken.

    The number that is taken first does not change the result: the outcome of a candidate does not
    depend on later candidates.
    """
    while True:
        units = take(num_units)
        filtered = filter_taken(_as_training_text(units))
        cut = size.cut(filtered)
        if cut is not None or units.num_rows >= num_candidates:
            return cut or filtered
        num_units = max(num_units + 1, int(1.5 * num_units))


def _as_training_text(units: pa.Table) -> pa.Table:
    return units.append_column("rank", pa.array(np.zeros(units.num_rows, np.int32))).append_column(
        "query_id", pa.nulls(units.num_rows, pa.string())
    )
