"""Units drawn at random from the general corpus, the same ones for any shards and their order."""

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
# A sample stands for the corpus wherever a figure is compared with the corpus's.
SAMPLE_UNITS = 50_000
# Another one than a random corpus has as a rule, so that it is no part of the sample by design.
SAMPLE_SEED = 0x53414D504C45
_BATCH_ROWS = 8192
_DRAWN = pa.schema([*UNITS, ("key", pa.uint64())])

# fraction -> what `draw_from_shard` returns for each shard, in any order.
Draw = Callable[[float], Sequence[pa.Table]]


def draw_from_shard(path: Path, fraction: float, seed: int) -> pa.Table:
    """The units of one shard whose keyed hash lies in the first `fraction` of all 64-bit hashes.

    Returns:
        The columns of UNITS and `key` (uint64), the hash; rows as they stand in the shard.
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
    """The fraction to draw so that as many units as wanted come out, but for bad luck.

    Five standard deviations of a binomial draw more than wanted.
    """
    return min(1.0, (num_wanted + 5 * math.sqrt(num_wanted)) / max(1, num_units))


def by_key(drawn: Sequence[pa.Table]) -> pa.Table:
    """The units drawn from all shards in order of (key, unit_id), texts as large_string."""
    table = pa.concat_tables([_DRAWN.empty_table(), *drawn])
    # take() on 32-bit offsets fails above 2 GiB of text.
    table = table.set_column(1, "text", table["text"].cast(pa.large_string()))
    return table.sort_by([("key", "ascending"), ("unit_id", "ascending")])


def write_sample(num_units: int, draw: Draw, out: Path, inputs: Mapping[str, str]) -> Manifest:
    """Write `out/sample.parquet`: the 50,000 units with the smallest keyed hash of their id.

    Args:
        num_units: Units of the general corpus.
        draw: Runs `draw_from_shard(path, fraction, SAMPLE_SEED)` for all shards.
        out: The directory to be written.
        inputs: Digest of the units.
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
