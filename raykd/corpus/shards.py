"""What every reader of a corpus shares: which files make which shard, and where none may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raykd.corpus.slices import Slice, plan_slices
from raykd.errors import InputError
from raykd.locations import Location
from raykd.manifest import digest_of

QUARANTINE_FILE = "quarantine.parquet"
# Text and JSONL as they are, Parquet as decompressed.
SHARD_BYTES = 64 << 20
# With more bad rows than this, a file is more likely the wrong one than a good one with faults.
MAX_BAD_FRACTION = 0.01


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
