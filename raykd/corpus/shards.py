"""Shard planning, quarantine tables and checks that all readers of a corpus share."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from xxhash import xxh3_64_intdigest

from raykd import progress
from raykd.corpus.lines import place_of
from raykd.corpus.slices import Slice, plan_slices
from raykd.errors import InputError
from raykd.storage.locations import Location, explained
from raykd.storage.manifest import digest_of, digest_of_file
from raykd.storage.remote import working_folder

QUARANTINE_FILE = "quarantine.parquet"
# Size of a shard: uncompressed text, JSONL and Parquet.
SHARD_BYTES = 64 << 20
# A file of this part of a shard shares none, and small files together make this part of a shard.
_OWN_SHARE, _GROUP_SHARE = 8, 4
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
    """Group slices of files into shards of at most about `shard_bytes`.

    An added or removed file changes few shards besides its own. A file of at least
    1 / `_OWN_SHARE` of `shard_bytes` shares no shard. Smaller files share one, until a file whose
    digest begins a new one: with a probability in proportion to its size, so that such shards have
    1 / `_GROUP_SHARE` of `shard_bytes` on average. (Content-defined chunking, as in Muthitacharoen,
    Chen and Mazieres 2001, "A Low-Bandwidth Network File System", doi:10.1145/502034.502052.)

    Args:
        sources: pairs (digest, file), in the order of the shards.
        shard_bytes: bytes of uncompressed text, JSONL and Parquet.

    Raises:
        InputError: a file is missing or damaged.
    """
    shards: list[list[Part]] = []
    room = 0
    for digest, path in sources:
        pieces = plan_slices([path], shard_bytes)
        num_bytes = sum(piece.num_bytes for piece in pieces)
        is_alone = _OWN_SHARE * num_bytes >= shard_bytes
        if is_alone or _begins_shard(digest, num_bytes, shard_bytes):
            room = 0
        for piece in pieces:
            if room <= 0 or piece.num_bytes > room:
                shards.append([])
                room = shard_bytes
            shards[-1].append(Part(digest, piece))
            room -= piece.num_bytes
        if is_alone:
            room = 0
    return [tuple(parts) for parts in shards]


def _begins_shard(digest: str, num_bytes: int, shard_bytes: int) -> bool:
    fraction = xxh3_64_intdigest(digest.encode()) / 2**64
    return fraction * shard_bytes < _GROUP_SHARE * num_bytes


def shard_folder(out: Path, parts: Sequence[Part]) -> Path:
    """Directory of a shard, named by its first slice: sorted by name, units are sorted by id."""
    first = parts[0]
    return out / f"shard-{first.digest[:16]}-{first.piece.start:012d}"


def folders_of(out: Path, shards: Sequence[Sequence[Part]]) -> list[Path]:
    """Directories of shards, in their order."""
    folders = [shard_folder(out, parts) for parts in shards]
    assert len(set(folders)) == len(folders), "two files have one digest"
    return folders


def remove_stale(out: Path, folders: Iterable[Path]) -> None:
    """Remove the shards in `out` that are not in `folders`, and partial ones."""
    current = set(folders)
    for folder in [*out.glob("shard-*"), *out.glob(".shard-*.partial-*")]:
        if folder not in current:
            shutil.rmtree(folder)


def say_reused(label: str, shards: Sequence[Sequence[Part]], are_kept: Sequence[bool]) -> None:
    """Print how many files have the units of an earlier call, if there are any.

    Args:
        label: name of the step.
        shards: planned shards.
        are_kept: for each shard, whether it existed.
    """
    digests = {part.digest for parts in shards for part in parts}
    pairs = zip(shards, are_kept, strict=True)
    made = {part.digest for parts, is_kept in pairs if not is_kept for part in parts}
    if num_kept := len(digests - made):
        progress.say(f"{label}: {num_kept:,} of {len(digests):,} files as before")


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
