"""Random sample of the general corpus, independent of the shards and their order."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from raykd.storage.manifest import Draft, Manifest, write_once
from raykd.storage.schemas import UNITS

SAMPLE_FILE = "sample.parquet"
# Units of the sample that represents the general corpus in comparisons.
SAMPLE_UNITS = 50_000
# Differs from the usual seeds of random corpora, so that these do not overlap by construction.
SAMPLE_SEED = 0x53414D504C45
_BATCH_ROWS = 8192
_DRAWN = pa.schema([*UNITS, ("key", pa.uint64())])

# fraction -> results of `draw_from_shard` for all shards, in any order.
Draw = Callable[[float], Sequence[pa.Table]]


def draw_from_shard(path: Path, fraction: float, seed: int) -> pa.Table:
    """Select the units of one shard whose keyed hash is in the first `fraction` of all hashes.

    Returns:
        Columns of UNITS and `key` (uint64), the 64-bit hash; in the order of the shard.
    """
    limit = math.ceil(fraction * 2.0**64)
    drawn = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=UNITS.names):
            keys = [
                xxhash.xxh3_64_intdigest(unit_id.encode(), seed)
                for unit_id in batch.column("unit_id").to_pylist()
            ]
            table = pa.Table.from_batches([batch]).append_column("key", pa.array(keys, pa.uint64()))
            drawn.append(table.filter(pa.array([key < limit for key in keys], pa.bool_())))
    return pa.concat_tables([_DRAWN.empty_table(), *drawn])


def fraction_for(num_wanted: int, num_units: int) -> float:
    """Fraction of the units to draw so that at least `num_wanted` are drawn, almost surely.

    The expected number is five standard deviations of a binomial draw above `num_wanted`.
    """
    return min(1.0, (num_wanted + 5 * math.sqrt(num_wanted)) / max(1, num_units))


def by_key(drawn: Sequence[pa.Table]) -> pa.Table:
    """Merge the units drawn from all shards, sorted by (key, unit_id); texts as large_string."""
    table = pa.concat_tables([_DRAWN.empty_table(), *drawn])
    # take() on 32-bit offsets fails above 2 GiB of text.
    table = table.set_column(1, "text", table["text"].cast(pa.large_string()))
    return table.sort_by([("key", "ascending"), ("unit_id", "ascending")])


def write_sample(num_units: int, draw: Draw, out: Path, inputs: Mapping[str, str]) -> Manifest:
    """Write `out/sample.parquet`: the 50,000 units with the smallest keyed hash of their id.

    Args:
        num_units: number of units of the general corpus.
        draw: function that runs `draw_from_shard(path, fraction, SAMPLE_SEED)` for all shards.
        out: output directory.
        inputs: digest of the units.
    """

    def write(draft: Draft) -> None:
        fraction = fraction_for(SAMPLE_UNITS, num_units)
        drawn = by_key(draw(fraction))
        if drawn.num_rows < SAMPLE_UNITS and fraction < 1.0:
            drawn = by_key(draw(1.0))
        sample = drawn.slice(0, SAMPLE_UNITS).select(UNITS.names).cast(UNITS)
        pq.write_table(sample, draft.directory / SAMPLE_FILE, compression="zstd")
        draft.counts["num_units"] = sample.num_rows
        draft.counts["num_bytes"] = pc.sum(pc.binary_length(sample["text"])).as_py() or 0

    return write_once(out, "sample", {"size": SAMPLE_UNITS, "seed": SAMPLE_SEED}, inputs, write)
