"""Units drawn at random: the corpus that shows what searching for units brought."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from raykd.contextualize import ContextualizeConfig, digests, figures, write_corpus
from raykd.corpus_card import CorpusCard, text_figures
from raykd.dedup.leaks import LeakIndex
from raykd.dedup.sift import Sifted, sift
from raykd.errors import InputError
from raykd.manifest import Draft, Manifest, digest_of, write_once

_BATCH_ROWS = 8192
_DRAWN = pa.schema([("unit_id", pa.string()), ("text", pa.string()), ("key", pa.uint64())])

# fraction -> what `draw_from_shard` returns for each shard, in any order.
Draw = Callable[[float], Sequence[pa.Table]]


def random_corpus(
    unit_shards: Sequence[Path],
    num_units: int,
    evaluation_sentences: Sequence[str],
    config: ContextualizeConfig,
    out: Path,
    inputs: Mapping[str, str],
    *,
    num_quarantined: int,
    task_sentences: Sequence[str],
    draw: Draw | None = None,
) -> Manifest:
    """Draw `num_units` units of the general corpus, each as likely as any other, as a corpus.

    The units with the smallest keyed hash of their id are taken, so that shards and their order
    make no difference; duplicates and leaks are replaced by the next ones. The files are those of
    `contextualize`, with rank 0 and no query; removed.parquet tells of the units met on the way.

    Args:
        unit_shards: The general corpus.
        num_units: Units wanted; where there are fewer, all are taken and the card says so.
        evaluation_sentences: All sentences of the task's evaluation splits.
        config: `leak_min_words` and `random_seed`; the size is `num_units`, not `max_units`.
        out: The directory to be written.
        inputs: Digest of the units; those of the other arguments are added here.
        num_quarantined: Rows of the general corpus that could not be read, for the card.
        task_sentences: The task's training sentences, compared with the corpus in the card.
        draw: Runs `draw_from_shard(path, fraction, config.random_seed)` for all shards; None does
            it here, one after the other.

    Raises:
        InputError: no unit is left.
    """
    assert num_units >= 1
    settings = config.model_dump(mode="json", exclude={"max_units"}) | {"num_units": num_units}
    all_inputs = {
        **inputs,
        **digests(evaluation_sentences, task_sentences),
        "facts": digest_of([num_quarantined]),
    }

    def draw_here(fraction: float) -> list[pa.Table]:
        return [draw_from_shard(path, fraction, config.random_seed) for path in unit_shards]

    def write(draft: Draft) -> None:
        num_candidates = sum(pq.read_metadata(path).num_rows for path in unit_shards)
        leaks = LeakIndex(evaluation_sentences, config.leak_min_words)
        sifted = _draw_until(num_units, num_candidates, draw or draw_here, leaks)
        if not len(sifted.kept_rows):
            raise InputError(
                f"random corpus: of the {num_candidates} units of the general corpus none is free "
                "of sentences of the task's evaluation splits; give a general corpus with other "
                "text"
            )
        kept = _as_textbook(sifted.kept())
        card = CorpusCard(
            kind="random",
            **figures(kept, sifted, num_units),
            num_candidates=num_candidates,
            num_beyond_limit=None,
            num_evaluation_sentences=len(evaluation_sentences),
            leak_min_words=config.leak_min_words,
            num_quarantined=num_quarantined,
            search=None,
            num_hits=None,
            kept_fraction=None,
            max_rank=None,
            text=text_figures(kept, task_sentences),
        )
        draft.counts = write_corpus(draft.directory, kept, sifted, card)

    return write_once(out, "random_corpus", settings, all_inputs, write)


def draw_from_shard(path: Path, fraction: float, seed: int) -> pa.Table:
    """The units of one shard whose keyed hash lies in the first `fraction` of all 64-bit hashes.

    Returns:
        The columns of UNITS and `key` (uint64), the hash; rows as they stand in the shard.
    """
    limit = math.ceil(fraction * 2.0**64)
    drawn = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["unit_id", "text"]):
            keys = [
                xxhash.xxh3_64_intdigest(unit_id.encode(), seed)
                for unit_id in batch.column("unit_id").to_pylist()
            ]
            table = pa.Table.from_batches([batch]).append_column("key", pa.array(keys, pa.uint64()))
            drawn.append(table.filter(pa.array([key < limit for key in keys], pa.bool_())))
    return pa.concat_tables([_DRAWN.empty_table(), *drawn])


def _draw_until(num_units: int, num_candidates: int, draw: Draw, leaks: LeakIndex) -> Sifted:
    """Sift the units in order of their hash until enough are kept, or there are no more.

    How many are drawn at once changes nothing: what is kept of the first candidates does not
    depend on those after them.
    """
    # Enough for 5 % removals and five standard deviations of a binomial draw.
    fraction = min(1.0, (1.05 * num_units + 5 * math.sqrt(num_units)) / max(1, num_candidates))
    while True:
        drawn = pa.concat_tables([_DRAWN.empty_table(), *draw(fraction)])
        # take() on 32-bit offsets fails above 2 GiB of text.
        drawn = drawn.set_column(1, "text", drawn["text"].cast(pa.large_string()))
        ordered = drawn.sort_by([("key", "ascending"), ("unit_id", "ascending")])
        sifted = sift(ordered, leaks)
        if len(sifted.kept_rows) >= num_units or fraction >= 1.0:
            return sifted.cut(num_units)
        fraction = min(1.0, 1.5 * fraction)


def _as_textbook(units: pa.Table) -> pa.Table:
    return units.append_column("rank", pa.array(np.zeros(units.num_rows, np.int32))).append_column(
        "query_id", pa.nulls(units.num_rows, pa.string())
    )
