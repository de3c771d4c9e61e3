"""Hits -> the contextualized corpus: gathered, deduplicated, free of evaluation sentences."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from raykd import schemas
from raykd.config import Config
from raykd.corpus_card import FILE_NAME, CorpusCard, SearchFacts, text_figures
from raykd.dedup.leaks import LeakIndex
from raykd.dedup.sift import Sifted, sift
from raykd.errors import InputError
from raykd.manifest import Draft, Manifest, digest_of, write_once

TEXTBOOK_FILE = "textbook.parquet"
REMOVED_FILE = "removed.parquet"
_WRITE_ROWS = 65_536

# unit ids -> the UNITS rows that have them, in any order.
Gather = Callable[[pa.Array], pa.Table]


class ContextualizeConfig(Config):
    """Which of the retrieved units are kept.

    `max_units` keeps the first in order of (rank, unit_id), so that every anchor brings its best
    hits first. Evaluation sentences of fewer than `leak_min_words` words count as leaked only into
    a unit equal to them. `random_seed` decides which units a random corpus holds.
    """

    max_units: int | None = Field(default=None, ge=1)
    leak_min_words: int = Field(default=5, ge=1)
    random_seed: int = Field(default=0, ge=0, lt=2**64)


def contextualize(
    hits_path: Path,
    gather: Gather,
    evaluation_sentences: Sequence[str],
    config: ContextualizeConfig,
    out: Path,
    inputs: Mapping[str, str],
    *,
    search: SearchFacts,
    num_quarantined: int,
    task_sentences: Sequence[str],
) -> Manifest:
    """Write textbook.parquet, removed.parquet and card.json, unless `out` already holds them.

    Args:
        hits_path: The search's hits, with string ids.
        gather: Looks up the texts of units.
        evaluation_sentences: All sentences of the task's evaluation splits.
        config: What is kept.
        out: The directory to be written.
        inputs: Digests of hits and units; those of the other arguments are added here.
        search: Facts for the card.
        num_quarantined: Rows of the general corpus that could not be read, for the card.
        task_sentences: The task's training sentences, compared with the corpus in the card.

    Raises:
        InputError: no hits; hits of units that `gather` does not find; nothing left to keep.

    Source: union by smallest rank as in TLM (Yao et al. 2022); there, equal texts under different
    ids and evaluation sentences stay.
    """
    settings = config.model_dump(mode="json", exclude={"random_seed"})
    all_inputs = {
        **inputs,
        **digests(evaluation_sentences, task_sentences),
        "facts": digest_of([search.model_dump(), num_quarantined]),
    }

    def write(draft: Draft) -> None:
        hits = pq.read_table(hits_path, columns=["query_id", "unit_id", "rank"])
        if not hits.num_rows:
            raise InputError(
                f"{hits_path}: the search found nothing, so there is no corpus to contextualize; "
                "give a general corpus that shares words with the task's sentences"
            )
        candidates = _with_texts(_union(hits), gather, hits_path)
        whole = sift(candidates, LeakIndex(evaluation_sentences, config.leak_min_words))
        sifted = whole if config.max_units is None else whole.cut(config.max_units)
        kept = sifted.kept()
        if not kept.num_rows:
            raise InputError(
                f"{hits_path}: all {candidates.num_rows} units found hold a sentence of the task's "
                "evaluation splits; give a general corpus that is not made of the task's own data"
            )
        card = CorpusCard(
            kind="contextualized",
            **figures(kept, sifted, config.max_units),
            num_candidates=candidates.num_rows,
            num_beyond_limit=len(whole.kept_rows) - kept.num_rows,
            num_evaluation_sentences=len(evaluation_sentences),
            leak_min_words=config.leak_min_words,
            num_quarantined=num_quarantined,
            search=search,
            num_hits=hits.num_rows,
            kept_fraction=kept.num_rows / hits.num_rows,
            max_rank=pc.max(kept["rank"]).as_py(),
            text=text_figures(kept, task_sentences),
        )
        draft.counts = write_corpus(draft.directory, kept, sifted, card)

    return write_once(out, "contextualize", settings, all_inputs, write)


def digests(evaluation_sentences: Sequence[str], task_sentences: Sequence[str]) -> dict[str, str]:
    """Digests of the task's sentences, as inputs of a stage."""
    return {
        "evaluation_sentences": digest_of(list(evaluation_sentences)),
        "task_sentences": digest_of(list(task_sentences)),
    }


def figures(kept: pa.Table, sifted: Sifted, num_wanted: int | None) -> dict[str, Any]:
    """The part of the card that every corpus has."""
    num_bytes = pc.sum(pc.binary_length(kept["text"])).as_py()
    return {
        "num_units": kept.num_rows,
        "num_bytes": num_bytes,
        "bytes_per_unit": num_bytes / kept.num_rows,
        "num_wanted": num_wanted,
        "num_missing": max(0, (num_wanted or 0) - kept.num_rows),
        "num_duplicates": len(sifted.duplicates),
        "num_leaks": len(sifted.leaks),
    }


def write_corpus(
    directory: Path, kept: pa.Table, sifted: Sifted, card: CorpusCard
) -> dict[str, float]:
    """Write the three files; `kept` has the columns of TEXTBOOK. Returns the manifest's counts."""
    ordered = kept.sort_by([("rank", "ascending"), ("unit_id", "ascending")])
    with pq.ParquetWriter(
        directory / TEXTBOOK_FILE, schemas.TEXTBOOK, compression="zstd"
    ) as writer:
        for batch in ordered.select(schemas.TEXTBOOK.names).to_batches(_WRITE_ROWS):
            writer.write_table(pa.Table.from_batches([batch]).cast(schemas.TEXTBOOK))
    pq.write_table(sifted.removed(), directory / REMOVED_FILE, compression="zstd")
    (directory / FILE_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    names = ("num_units", "num_bytes", "num_duplicates", "num_leaks", "num_missing")
    return {name: getattr(card, name) for name in names}


def _union(hits: pa.Table) -> pa.Table:
    """Each unit once, with its smallest rank and the query of that hit, by (rank, unit_id).

    Where several queries found a unit at the same rank, the smallest query_id is kept, so that
    the order of the hits makes no difference.
    """
    assert hits.schema.field("unit_id").type == pa.string(), "ids of units are strings here"
    order = [(name, "ascending") for name in ("rank", "unit_id", "query_id")]
    ordered = hits.sort_by(order)
    ordered = ordered.append_column("row", pa.array(range(ordered.num_rows), pa.int64()))
    best = ordered.group_by("unit_id").aggregate([("row", "min")])["row_min"]
    return ordered.take(best.take(pc.sort_indices(best))).drop_columns(["row"])


def _with_texts(union: pa.Table, gather: Gather, hits_path: Path) -> pa.Table:
    units = gather(union["unit_id"].combine_chunks())
    rows = pc.index_in(union["unit_id"], value_set=units["unit_id"])
    if rows.null_count:
        lost = union.filter(pc.is_null(rows))["unit_id"][0].as_py()
        raise InputError(
            f"{hits_path}: {rows.null_count} units found are not in the corpus (the first: {lost}),"
            " which has changed since; run the search again"
        )
    # take() on 32-bit offsets fails above 2 GiB of text.
    texts = units["text"].cast(pa.large_string()).take(rows)
    return union.append_column("text", texts)
