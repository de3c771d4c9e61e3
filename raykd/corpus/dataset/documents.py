"""Documents of a Ray Data dataset as Parquet files whose content does not depend on its blocks.

Ray Data returns blocks in any order. So each block is partitioned by the hash of its texts, and the
partitions of all blocks are merged and sorted by that hash.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.storage.partitions import read_partition, write_partitions
from raykd.storage.working_files import replacing

# Partitions of a block, a power of two; neighboring ones are merged to files of about a shard.
NUM_PARTITIONS = 256
# Columns that are kept with the text, if there are any (see `custom_units`).
ID_COLUMNS = ("unit_id", "doc_id", "title")

# A row group is what ingest can read on its own.
_ROW_GROUP_BYTES = 8 << 20
_FIRST, _SECOND = "first_hash", "second_hash"
_DIGEST = np.dtype([(_FIRST, ">u8"), (_SECOND, ">u8")])


class Block(NamedTuple):
    """Partitioned documents of one block.

    Attributes:
        file: file of the partitions.
        num_bytes: bytes of text per partition, (NUM_PARTITIONS,).
    """

    file: str
    num_bytes: NDArray[np.int64]


def write_block(
    block: pa.Table, *, folder: Path, text_column: str, other_columns: Sequence[str], source: str
) -> Block | None:
    """Write the documents of a block to a new file in `folder`, by partition.

    Args:
        block: rows with at least the column of the text.
        folder: folder for the file, whose name is new even if the block is written again.
        text_column: column of the text: strings, or UTF-8 bytes.
        other_columns: columns to keep with it.
        source: description of the dataset for errors.

    Returns:
        The partitions; None for a block without rows.

    Raises:
        InputError: there is no such column, or it has no text.
    """
    if not len(block):
        return None
    texts = _texts_of(block, text_column, source)
    digests = np.frombuffer(
        b"".join(xxhash.xxh3_128_digest(text or b"") for text in _bytes_of(texts)),
        _DIGEST,
    )
    rows = pa.table(
        {
            "text": texts,
            **{name: block[name] for name in other_columns if name in block.column_names},
            **{name: digests[name].astype(np.uint64) for name in (_FIRST, _SECOND)},
        }
    )
    shift = np.uint64(64 - (NUM_PARTITIONS - 1).bit_length())
    partition = (digests[_FIRST].astype(np.uint64) >> shift).astype(np.int64)
    file = folder / f"block-{uuid.uuid4().hex}.arrow"
    with replacing(file) as partial:
        write_partitions(partial, rows, partition, NUM_PARTITIONS)
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    return Block(file.name, np.bincount(partition, lengths, NUM_PARTITIONS).astype(np.int64))


def plan_files(blocks: Sequence[Block], file_bytes: int) -> list[tuple[int, int]]:
    """Plan the partitions [first, last) of each file, of at least `file_bytes` of text each."""
    num_bytes = np.sum([block.num_bytes for block in blocks], axis=0)
    files, first, size = [], 0, 0
    for partition, own in enumerate(num_bytes.tolist()):
        size += own
        if size >= file_bytes:
            files.append((first, partition + 1))
            first, size = partition + 1, 0
    if size or not files:
        files.append((first, NUM_PARTITIONS))
    files[-1] = (files[-1][0], NUM_PARTITIONS)
    return files


def merge_blocks(
    item: tuple[tuple[int, int], Path], *, folder: Path, blocks: Sequence[Block]
) -> int:
    """Write the documents of some partitions, sorted by hash and id; return their number."""
    (first, last), out = item
    paths = [folder / block.file for block in blocks]
    empty = read_partition(paths, first).slice(0, 0).drop_columns([_FIRST, _SECOND])
    num_rows = 0
    # Without Arrow's own schema, so that readers return plain strings.
    with pq.ParquetWriter(out, empty.schema, compression="zstd", store_schema=False) as writer:
        pending = [empty]
        for partition in range(first, last):
            table = read_partition(paths, partition)
            ids = [name for name in ID_COLUMNS if name in table.column_names]
            keys = [(name, "ascending") for name in (_FIRST, _SECOND, *ids)]
            pending.append(table.take(pc.sort_indices(table, keys)).drop_columns([_FIRST, _SECOND]))
            num_rows += len(table)
            if partition == last - 1 or sum(part.nbytes for part in pending) > _ROW_GROUP_BYTES:
                rows = pa.concat_tables(pending)
                size = max(1, len(rows) * _ROW_GROUP_BYTES // max(1, rows.nbytes))
                writer.write_table(rows, row_group_size=size)
                pending = [empty]
    return num_rows


def _bytes_of(texts: pa.ChunkedArray) -> list[bytes | None]:
    values: list[bytes | None] = texts.cast(pa.large_binary()).to_pylist()
    return values


def _texts_of(block: pa.Table, column: str, source: str) -> pa.ChunkedArray:
    if column not in block.column_names:
        raise InputError(
            f"{source}: no column {column!r}; it has {', '.join(block.column_names)}: set "
            "text_column"
        )
    texts = block[column]
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    if not _is_text(texts.type):
        raise InputError(f"{source}: the column {column!r} has {texts.type}, not text")
    try:
        return texts.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        raise InputError(f"{source}: the column {column!r} has bytes that are not UTF-8") from None


def _is_text(type_: pa.DataType) -> bool:
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_null,
    )
    return any(check(type_) for check in checks)
