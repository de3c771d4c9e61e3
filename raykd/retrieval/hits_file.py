"""File of hits of several query batches, each with a digest that is verified on reading."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from raykd.retrieval.hits import RankedHits

_HITS_FILE = "hits.bin"
_BLOCKS_FILE = "blocks.json"
_COLUMNS = ("num_hits", "units", "scores")


class DamagedHitsError(Exception):
    """Damaged file of hits; the only argument is the directory."""


def write_blocks(directory: Path, blocks: Iterable[RankedHits]) -> None:
    """Write the hits of several query batches; only one batch is in memory at a time.

    Each batch is an Arrow IPC stream, compressed with lz4: 12 bytes per hit, 4 per query, and the
    ids of the hit units.
    """
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    entries = []
    start = 0
    with (directory / _HITS_FILE).open("wb") as file:
        for hits in blocks:
            # Columns differ in length, so each is a list in a table of one row.
            columns = [pa.array(getattr(hits, name)) for name in _COLUMNS]
            batch = pa.record_batch(
                [_as_list(column) for column in [*columns, hits.unit_ids]],
                names=[*_COLUMNS, "unit_ids"],
            )
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
                writer.write_batch(batch)
            encoded = sink.getvalue()
            file.write(encoded)
            entries.append((start, encoded.size, xxhash.xxh3_128_hexdigest(encoded)))
            start += encoded.size
    (directory / _BLOCKS_FILE).write_text(json.dumps(entries), encoding="utf-8")


def read_block(directory: Path, block: int) -> RankedHits:
    """Read the hits of one query batch.

    Raises:
        DamagedHitsError: the directory or a file is missing, or bytes differ from those written.
    """
    try:
        entries = json.loads((directory / _BLOCKS_FILE).read_bytes())
        start, num_bytes, digest = entries[block]
        with (directory / _HITS_FILE).open("rb") as file:
            file.seek(start)
            encoded = file.read(num_bytes)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        raise DamagedHitsError(directory) from None
    if xxhash.xxh3_128_hexdigest(encoded) != digest:
        raise DamagedHitsError(directory)
    with pa.ipc.open_stream(encoded) as reader:
        batch = reader.read_next_batch()
    num_hits, units, scores = (batch.column(name).values.to_numpy() for name in _COLUMNS)
    return RankedHits(num_hits, units, scores, batch.column("unit_ids").values)


def _as_list(values: pa.Array) -> pa.Array:
    offsets = pa.array(np.array([0, len(values)], np.int64))
    return pa.LargeListArray.from_arrays(offsets, values)
