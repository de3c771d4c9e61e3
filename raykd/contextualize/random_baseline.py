"""Random corpus: the baseline that shows the effect of retrieval."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.contextualize.baseline import CorpusSize, write_baseline
from raykd.contextualize.config import ContextualizeConfig
from raykd.contextualize.sample import Draw, by_key, draw_from_shard, fraction_for
from raykd.contextualize.select import ReferenceTexts
from raykd.storage.manifest import Draft, Manifest, digest_of, write_once
from raykd.text.figures import TextFigures


def random_corpus(
    unit_shards: Sequence[Path],
    size: CorpusSize,
    reference_texts: ReferenceTexts,
    config: ContextualizeConfig,
    out: Path,
    inputs: Mapping[str, str],
    *,
    draw: Draw | None = None,
    like: TextFigures | None = None,
) -> Manifest:
    """Draw units of the general corpus uniformly at random and write them as a corpus.

    The units with the smallest keyed hash of their id are taken, so the result does not depend on
    the shards and their order. Duplicates and contaminated units are replaced by the next ones.

    Args:
        unit_shards: files of the general corpus.
        size: size to draw; if there is too little text, all is taken, and the card reports it.
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
    settings = size.settings(config)
    all_inputs = {
        **inputs,
        **reference_texts.digests(),
        "like": digest_of(like and like.sizes()),
    }

    def draw_here(fraction: float) -> list[pa.Table]:
        return [draw_from_shard(path, fraction, config.random_seed) for path in unit_shards]

    def write(draft: Draft) -> None:
        num_candidates = sum(pq.read_metadata(path).num_rows for path in unit_shards)

        def take(num_units: int) -> pa.Table:
            return by_key((draw or draw_here)(fraction_for(num_units, num_candidates)))

        write_baseline(
            draft, "random", take, size, num_candidates, reference_texts, config, like=like
        )

    return write_once(out, "random_corpus", settings, all_inputs, write)
