"""Shard planning, quarantine tables and checks that all readers of a corpus share."""

from collections.abc import Iterable, Iterator, Sequence
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
from raykd.storage.remote import working_folder

QUARANTINE_FILE = "quarantine.parquet"
# Size of a shard: uncompressed text, JSONL and Parquet.
SHARD_BYTES = 64 << 20
# A file with a larger share of bad rows is probably the wrong file.
MAX_BAD_FRACTION = 0.01


# Handling of documents whose text is null, empty or white space.
Empty = Literal["skip", "error"]
# Reason of such documents in the quarantine table.
NO_TEXT = "no text"
_NUM_SHOWN = 5


@dataclass(frozen=True)
class Part:
    """Slice and the digest of its file."""

    digest: str
    piece: Slice


def files_of_parts(parts: Sequence[Part]) -> tuple[Path, ...]:
    """Files of the parts that are on a disk."""
    return local_files(part.piece.path for part in parts)


def local_files(locations: Iterable[Location]) -> tuple[Path, ...]:
    """Select the files that are on a disk."""
    return tuple(place for place in locations if isinstance(place, Path))


def plan_shards(
    sources: Iterable[tuple[str, Location]], shard_bytes: int
) -> list[tuple[Part, ...]]:
    """Group slices of files into shards of about `shard_bytes`; small files share a shard.

    Args:
        sources: pairs (digest, file), in the order of the shards.
        shard_bytes: bytes of uncompressed text, JSONL and Parquet.

    Raises:
        InputError: a file is missing or damaged.
    """
    shards: list[list[Part]] = []
    num_bytes = 0
    for digest, path in sources:
        for piece in plan_slices([path], shard_bytes):
            if not shards or num_bytes + piece.num_bytes > shard_bytes:
                shards.append([])
                num_bytes = 0
            shards[-1].append(Part(digest, piece))
            num_bytes += piece.num_bytes
    return [tuple(parts) for parts in shards]


def digest_of_parts(parts: Sequence[Part]) -> str:
    """Digest of the sources of a shard: contents and positions of files, not their names."""
    return digest_of([[part.digest, part.piece.start, part.piece.stop] for part in parts])


def check_apart(out: Path, paths: Sequence[Location]) -> None:
    """Check that the output is not inside an input, where a second run would read it.

    Raises:
        InputError: a path contains the output, or would be replaced by it.
    """
    working = working_folder.current()
    for path in paths:
        if not isinstance(path, Path):
            if working is not None:
                working.check_apart(path)
            continue
        if out.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{path}: contains the output, {out}; write the output elsewhere")
        if path.resolve().is_relative_to(out.resolve()):
            raise InputError(
                f"{path}: is inside the output, {out}, which would replace it; write the output "
                "elsewhere"
            )


def quarantined_rows(directories: Iterable[Path], reason: str | None = None) -> Iterator[str]:
    """Describe the rows in the quarantine tables of shards: place and reason.

    Args:
        directories: directories of the shards.
        reason: only rows with this reason; None: all rows.
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
    """Check that there are no empty documents if these are errors.

    Args:
        empty: handling of empty documents.
        num_empty: number of empty documents.
        num_rows: number of all rows.
        directories: directories of the shards, with their quarantine tables.
        remedy: key or option to skip empty documents.

    Raises:
        InputError: there are empty documents; the message lists the first ones.
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
