"""Source files of a corpus, and their division into slices that can be read in parallel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.storage.directories import Listing, list_files
from raykd.storage.formats import check_named, format_of, open_bytes
from raykd.storage.locations import Location, explained, size_of
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.manifest import manifest_of_source

# The last one is the training text of an earlier version.
_OWN_TEXTS = ("units-*.parquet", "text.parquet", "textbook.parquet")


@dataclass(frozen=True)
class Slice:
    """Part of a file: bytes of text and JSONL, row groups of Parquet; None: to the end."""

    path: Location
    start: int
    stop: int | None
    num_bytes: int


def list_sources(paths: Sequence[Location], exclude: Sequence[str] = ()) -> Listing:
    """List the files of paths, folders and patterns; see `directories.list_files`.

    Of a directory that raykd wrote, only the units and contextualized corpora are listed.

    Raises:
        InputError: the format of a file is unknown; see `list_files`.
    """
    listing = list_files(paths, exclude)
    named_files = frozenset(paths)
    texts = _without_records([file for file in listing.files if file not in named_files])
    kept = [file for file in listing.files if file in named_files or file in texts]
    if not kept:
        raise InputError(
            f"{paths[0]}: the directory has no text files, only records of raykd; give the files "
            "or their folder"
        )
    for source in kept:
        check_named(source)
    return replace(listing, files=kept)


def plan_slices(sources: Sequence[Location], shard_bytes: int) -> list[Slice]:
    """Divide files into slices of about `shard_bytes` that cover every row once.

    Compressed, CSV and TSV files are one slice each, and so are Parquet row groups larger than
    `shard_bytes` (decompressed).

    Raises:
        InputError: a file is missing or not readable, or a Parquet file is damaged.
    """
    assert shard_bytes > 0
    return [piece for path in sources for piece in _slices_of(path, shard_bytes)]


def _without_records(files: Sequence[Location]) -> set[Location]:
    """Exclude raykd's records from directories with a manifest."""
    records = [file for file in files if isinstance(file, Path) and file.name == MANIFEST]
    own = {file.parent for file in records if manifest_of_source(file.parent) is not None}
    return {
        file
        for file in files
        if not isinstance(file, Path)
        or own.isdisjoint(file.parents)
        or any(file.match(pattern) for pattern in _OWN_TEXTS)
    }


def _slices_of(path: Location, shard_bytes: int) -> Iterator[Slice]:
    format_, compression = format_of(path)
    with explained(path):
        num_bytes = size_of(path)
        if format_ == "parquet":
            yield from _row_group_slices(path, shard_bytes)
        elif compression or format_ in ("csv", "tsv"):
            yield Slice(path, 0, None, num_bytes)
        else:
            for start in range(0, num_bytes, shard_bytes):
                stop = min(start + shard_bytes, num_bytes)
                yield Slice(path, start, stop, stop - start)


def _row_group_slices(path: Location, shard_bytes: int) -> Iterator[Slice]:
    with open_bytes(path, None) as source, pq.ParquetFile(source) as file:
        sizes = [
            file.metadata.row_group(index).total_byte_size
            for index in range(file.metadata.num_row_groups)
        ]
    start, num_bytes = 0, 0
    for index, size in enumerate(sizes):
        if num_bytes and num_bytes + size > shard_bytes:
            yield Slice(path, start, index, num_bytes)
            start, num_bytes = index, 0
        num_bytes += size
    if start < len(sizes):
        yield Slice(path, start, len(sizes), num_bytes)
