"""What every reader of a corpus shares: which files make which shard, and where none may be."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from raykd.corpus.lines import place_of
from raykd.corpus.slices import Slice, plan_slices
from raykd.errors import InputError
from raykd.storage.locations import Location, explained
from raykd.storage.manifest import digest_of, digest_of_file

QUARANTINE_FILE = "quarantine.parquet"
# Text and JSONL as they are, Parquet as decompressed.
SHARD_BYTES = 64 << 20
# With more bad rows than this, a file is more likely the wrong one than a good one with faults.
MAX_BAD_FRACTION = 0.01


# What becomes of a document whose text is null, empty or white space.
Empty = Literal["skip", "error"]
# The reason of such a row in the quarantine table.
NO_TEXT = "no text"
_NUM_SHOWN = 5


@dataclass(frozen=True)
class Part:
    """A slice, and the digest of the file it is of."""

    digest: str
    piece: Slice


def plan_shards(sources: Mapping[str, Location], shard_bytes: int) -> list[tuple[Part, ...]]:
    """Slices of files in shards of about `shard_bytes`; small files share a shard.

    Args:
        sources: digest -> file, in the order in which the shards are to hold them.
        shard_bytes: text and JSONL as they are, Parquet as decompressed.

    Raises:
        InputError: a file is missing or damaged.
    """
    shards: list[list[Part]] = []
    num_bytes = 0
    for digest, path in sources.items():
        for piece in plan_slices([path], shard_bytes):
            if not shards or num_bytes + piece.num_bytes > shard_bytes:
                shards.append([])
                num_bytes = 0
            shards[-1].append(Part(digest, piece))
            num_bytes += piece.num_bytes
    return [tuple(parts) for parts in shards]


def digest_of_parts(parts: Sequence[Part]) -> str:
    """Digest of what a shard is made of: files' contents and positions, not their names."""
    return digest_of([[part.digest, part.piece.start, part.piece.stop] for part in parts])


def check_apart(out: Path, paths: Sequence[Location]) -> None:
    """Check that the output is not among what is read, where a second run would read it.

    Raises:
        InputError: names the path that holds the output, or that the output would replace.
    """
    for path in paths:
        if not isinstance(path, Path):
            continue
        if out.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{path}: holds the output, {out}; write the output elsewhere")
        if path.resolve().is_relative_to(out.resolve()):
            raise InputError(
                f"{path}: stands in the output, {out}, which would replace it; write the output "
                "elsewhere"
            )


def quarantined_rows(directories: Iterable[Path], reason: str | None = None) -> Iterator[str]:
    """Place and reason of rows in the quarantine tables of shards, in words.

    Args:
        directories: of the shards.
        reason: the only one wanted; None for all.
    """
    for directory in directories:
        with pq.ParquetFile(directory / QUARANTINE_FILE) as file:
            for batch in file.iter_batches(_NUM_SHOWN):
                for row in batch.to_pylist():
                    if reason in (None, row["reason"]):
                        place = place_of(row["source"], row["offset"])
                        yield f"{row['source']}, {place}: {row['reason']}"


def check_empty(
    empty: Empty, num_empty: int, num_rows: int, directories: Iterable[Path], remedy: str
) -> None:
    """Check that there is no empty document, where these are errors.

    Args:
        empty: what becomes of empty documents.
        num_empty: their number.
        num_rows: number of all rows.
        directories: of the shards, whose quarantine tables name them.
        remedy: the key or option to leave them out.

    Raises:
        InputError: names the first ones.
    """
    if empty == "skip" or not num_empty:
        return
    shown = "; ".join(islice(quarantined_rows(directories, NO_TEXT), _NUM_SHOWN))
    raise InputError(
        f"{num_empty:,} of {num_rows:,} documents are empty. The first: {shown}. Remove them, or "
        f"leave them out with {remedy}"
    )


def digest_of_shard(path: Path) -> str:
    """Digest of a file of units.

    Raises:
        InputError: it is missing or not readable.
    """
    with explained(path):
        return digest_of_file(path)
