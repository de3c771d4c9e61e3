"""Random corpus: the baseline that shows the effect of retrieval."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd.contextualize.card import CorpusCard
from raykd.contextualize.config import LIMITS, ContextualizeConfig
from raykd.contextualize.contamination import ContaminationIndex
from raykd.contextualize.filter import FilteredCandidates, filter_candidates
from raykd.contextualize.sample import Draw, by_key, draw_from_shard, fraction_for
from raykd.contextualize.select import (
    ReferenceTexts,
    figures,
    write_corpus,
)
from raykd.errors import InputError
from raykd.storage.manifest import Draft, Manifest, digest_of, write_once
from raykd.text.figures import TextFigures


def random_corpus(
    unit_shards: Sequence[Path],
    num_units: int,
    reference_texts: ReferenceTexts,
    config: ContextualizeConfig,
    out: Path,
    inputs: Mapping[str, str],
    *,
    draw: Draw | None = None,
    like: TextFigures | None = None,
) -> Manifest:
    """Draw `num_units` units of the general corpus uniformly at random and write them as a corpus.

    The units with the smallest keyed hash of their id are taken, so the result does not depend on
    the shards and their order. Duplicates and contaminated units are replaced by the next ones. The
    files are those of `contextualize`, with rank 0 and no query.

    Args:
        unit_shards: files of the general corpus.
        num_units: units to draw; if there are fewer, all are taken and the card reports it.
        reference_texts: sentences to remove, and texts for the card's comparison.
        config: decontamination and deduplication settings, and `random_seed`; its limits are
            ignored.
        out: output directory.
        inputs: digest of the units; digests of the other arguments are added.
        draw: function that runs `draw_from_shard(path, fraction, config.random_seed)` for all
            shards; None: run it here, shard by shard.
        like: statistics of the corpus that this one is compared with.

    Raises:
        InputError: no unit is left.
    """
    assert num_units >= 1
    settings = config.model_dump(mode="json", exclude=set(LIMITS)) | {"num_units": num_units}
    all_inputs = {
        **inputs,
        **reference_texts.digests(),
        "like": digest_of(like and like.sizes()),
    }

    def draw_here(fraction: float) -> list[pa.Table]:
        return [draw_from_shard(path, fraction, config.random_seed) for path in unit_shards]

    def write(draft: Draft) -> None:
        num_candidates = sum(pq.read_metadata(path).num_rows for path in unit_shards)
        index = ContaminationIndex(
            reference_texts.evaluation_sentences, config.leak_min_words, config.leak_ngram
        )
        filter_drawn = functools.partial(
            filter_candidates, index=index, near=config.near_duplicates, policy=config.leaks
        )
        filtered = _draw_until(num_units, num_candidates, draw or draw_here, filter_drawn)
        rows = filtered.kept_rows
        if not len(rows):
            raise InputError(
                f"random corpus: of the {num_candidates} units of the general corpus none is free "
                "of sentences of the task's evaluation splits; give a general corpus with other "
                "text"
            )
        card = CorpusCard(
            kind="random",
            **figures(filtered, num_units, reference_texts, like=like),
            num_candidates=num_candidates,
            target_bytes=None,
            num_missing_bytes=0,
            top_percent=None,
            num_beyond_limit=None,
            search=None,
            k=None,
            num_hits=None,
            kept_fraction=None,
            max_rank=None,
        )
        unit_ids = filtered.candidates["unit_id"].take(pa.array(rows))
        in_order = rows[pc.sort_indices(unit_ids).to_numpy()]
        draft.counts = write_corpus(draft.directory, filtered, in_order, card)

    return write_once(out, "random_corpus", settings, all_inputs, write)


def _draw_until(
    num_units: int,
    num_candidates: int,
    draw: Draw,
    filter_drawn: Callable[[pa.Table], FilteredCandidates],
) -> FilteredCandidates:
    """Filter the units in order of their hash until enough are kept, or all have been drawn.

    The fraction that is drawn first does not change the result: the outcome of a candidate does not
    depend on later candidates.
    """
    # Allows for 5 % removals.
    fraction = fraction_for(int(1.05 * num_units), num_candidates)
    while True:
        filtered = filter_drawn(_as_training_text(by_key(draw(fraction))))
        if len(filtered.kept_rows) >= num_units or fraction >= 1.0:
            return filtered.cut(num_units)
        fraction = min(1.0, 1.5 * fraction)


def _as_training_text(units: pa.Table) -> pa.Table:
    return units.append_column("rank", pa.array(np.zeros(units.num_rows, np.int32))).append_column(
        "query_id", pa.nulls(units.num_rows, pa.string())
    )
