"""Rows of all input files as Parquet files with one schema; other formats are converted on Ray."""

from collections.abc import Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.cluster import datasets
from raykd.corpus.rows import QUOTES_COUNTS
from raykd.corpus.shards import (
    MAX_BAD_FRACTION,
    QUARANTINE_FILE,
    Part,
    files_of_parts,
    plan_shards,
    quarantined_rows,
)
from raykd.errors import InputError
from raykd.prediction.config import PredictConfig
from raykd.prediction.parts import RowFile, schema_of
from raykd.prediction.rows import write_rows
from raykd.prediction.types import merged_schema
from raykd.storage.formats import format_of
from raykd.storage.locations import Location, shown
from raykd.storage.manifest import read_manifest
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import QUARANTINE

# Bytes of text or JSONL that one task converts.
_SLICE_BYTES = 16 << 20
_NUM_SHOWN = 5

_Parts = tuple[Part, ...]


class InputRows(NamedTuple):
    """All rows of the input.

    Attributes:
        files: Parquet files of the rows, in order.
        schema: columns of all files.
        quarantine: unreadable rows (`schemas.QUARANTINE`).
        counts: number of these, and of TSV files with quotation marks.
    """

    files: list[RowFile]
    schema: pa.Schema
    quarantine: pa.Table
    counts: dict[str, float]


def rows_of_sources(
    sources: Sequence[tuple[str, Location]], folder: Path, config: PredictConfig
) -> InputRows:
    """List the rows of sources in their order; convert files that are not Parquet.

    Args:
        sources: pairs (digest, file).
        folder: folder of the converted files; complete ones in it are kept.
        config: settings.

    Raises:
        InputError: a file cannot be read, has no column of text, or has a column with the name of
            an added one; more than `MAX_BAD_FRACTION` of the rows cannot be read; there are none;
            or types of columns are incompatible.
    """
    # A Parquet file, or the folder of converted ones.
    entries: list[tuple[str, Location] | tuple[_Parts, Path]] = []
    converted: list[tuple[_Parts, Path]] = []
    for is_parquet, run in groupby(sources, lambda source: format_of(source[1])[0] == "parquet"):
        if is_parquet:
            entries += run
        else:
            for parts in plan_shards(run, _SLICE_BYTES):
                converted.append((parts, folder / f"rows-{len(converted):05d}"))
                entries.append(converted[-1])
    datasets.for_each(
        _convert,
        converted,
        label="read",
        shared={"config": config},
        files=lambda item: TaskFiles(files_of_parts(item[0]), (item[1],)),
    )
    directories = [directory for _, directory in converted]
    _check_quarantined(directories)
    files: list[RowFile] = []
    schemas: list[tuple[str, pa.Schema]] = []
    for source, place in entries:
        if isinstance(source, str):
            schema, num_rows = schema_of(place, config.text_columns)
            files.append(RowFile(place, source, num_rows))
            schemas.append((shown(place), schema))
            continue
        assert isinstance(place, Path)
        for path, digest in _files_in(place):
            schema, num_rows = schema_of(path, ())
            files.append(RowFile(path, digest, num_rows))
            schemas.append((shown(source[0].piece.path), schema))
    if not sum(file.num_rows for file in files):
        raise InputError(f"{shown(sources[0][1])}: there are no rows to predict; give other files")
    for name, schema in schemas:
        config.check_names(schema.names, name)
    tables = [pq.read_table(directory / QUARANTINE_FILE) for directory in directories]
    counts = sums_of_counts(directories, ["num_quarantined", *QUOTES_COUNTS])
    quarantine = pa.concat_tables([QUARANTINE.empty_table(), *tables])
    return InputRows(files, merged_schema(schemas), quarantine, counts)


def sums_of_counts(directories: Sequence[Path], names: Sequence[str]) -> dict[str, float]:
    """Sum counts of the manifests in directories."""
    manifests = [read_manifest(directory) for directory in directories]
    return {name: sum(m.counts.get(name, 0) for m in manifests if m) for name in names}


def _convert(item: tuple[_Parts, Path], *, config: PredictConfig) -> None:
    parts, directory = item
    write_rows(parts, directory, config)


def _files_in(directory: Path) -> list[tuple[Path, str]]:
    """Pairs (file, digest) of converted files, in order."""
    manifest = read_manifest(directory)
    assert manifest is not None, directory
    names = sorted(name for name in manifest.outputs if name.startswith("rows-"))
    return [(directory / name, manifest.outputs[name].digest) for name in names]


def _check_quarantined(directories: Sequence[Path]) -> None:
    """Check that few rows cannot be read.

    Raises:
        InputError: names the first of them.
    """
    counts = sums_of_counts(directories, ("num_rows", "num_quarantined"))
    num_bad, num_rows = counts["num_quarantined"], sum(counts.values())
    if num_bad > MAX_BAD_FRACTION * num_rows:
        first = "; ".join(islice(quarantined_rows(directories), _NUM_SHOWN))
        raise InputError(
            f"{num_bad:.0f} of {num_rows:.0f} rows cannot be read, more than "
            f"{MAX_BAD_FRACTION:.0%}; correct or remove them, or name the columns of the text with "
            f"--text-columns. The first: {first}"
        )
