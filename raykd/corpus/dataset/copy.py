"""A corpus that Ray Data reads: its documents are first written to Parquet files, then ingested."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.cluster import datasets, sources
from raykd.cluster.sources import Dataset
from raykd.corpus.dataset.documents import ID_COLUMNS, merge_blocks, plan_files, write_block
from raykd.corpus.dataset.readers import ReaderConfig, arguments_of
from raykd.corpus.shards import SHARD_BYTES
from raykd.errors import InputError
from raykd.storage.manifest import Draft, write_once
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.working_files import working_directory

_TABLE_FILE = "table.parquet"


def copy_documents(
    reader: ReaderConfig,
    text_column: str,
    out: Path,
    file_bytes: int,
    inputs: Mapping[str, str],
) -> list[Path]:
    """Copy the documents of a source once; the files are kept for an interrupted ingest.

    Args:
        reader: the source.
        text_column: column of the text.
        out: directory of the files; it is next to that of the units.
        file_bytes: bytes of text per file.
        inputs: digests of the source.

    Returns:
        Files with the column `text`, whose contents do not depend on the order of reading.

    Raises:
        InputError: see `sources.read` and `documents.write_block`.
    """
    settings: dict[str, Any] = {
        "reader": reader.model_dump(mode="json"),
        "text_column": text_column,
    }
    settings["file_bytes"] = file_bytes

    def write(draft: Draft) -> None:
        dataset = sources.read(reader.name, arguments_of(reader))
        source = f"corpus.reader {reader.name}"
        write_documents(dataset, draft.directory, text_column, (), source, file_bytes)

    write_once(out, "read", settings, inputs, write)
    return document_files(out)


def write_documents(
    dataset: Dataset,
    out: Path,
    text_column: str,
    other_columns: Sequence[str],
    source: str,
    file_bytes: int,
) -> None:
    """Write the documents of a dataset to files in `out`, sorted by the hash of their texts.

    Args:
        dataset: rows with the column of the text; it is read once.
        out: empty directory.
        text_column: column of the text.
        other_columns: columns to keep, of those that the dataset has.
        source: description of the dataset for errors.
        file_bytes: bytes of text per file.

    Raises:
        InputError: see `datasets.for_each_block` and `documents.write_block`.
    """
    folder = working_directory(out, "blocks")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        shared: Mapping[str, Any] = {
            "folder": folder,
            "text_column": text_column,
            "other_columns": tuple(other_columns),
            "source": source,
        }
        written = datasets.for_each_block(
            write_block, dataset, label="read", shared=shared, files=TaskFiles(adds=(folder,))
        )
        blocks = [block for block in written if block is not None]
        if not blocks:
            raise InputError(f"{source}: has no rows")
        files = plan_files(blocks, file_bytes)
        items = [(file, out / f"documents-{n:05d}.parquet") for n, file in enumerate(files)]
        shared = {"folder": folder, "blocks": blocks}
        datasets.for_each(
            merge_blocks,
            items,
            label="sort",
            unit="files",
            shared=shared,
            files=lambda item: TaskFiles((folder,), (item[1],)),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def copied(dataset: Dataset, text_column: str, out: Path) -> Iterator[list[Path]]:
    """Yield files of a dataset's documents next to `out`; they are removed in the end.

    Args:
        dataset: rows with `text_column`, and optionally the columns `documents.ID_COLUMNS`.
        text_column: column of the text.
        out: output that is made of the documents.
    """
    folder = working_directory(out, "documents")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        write_documents(dataset, folder, text_column, ID_COLUMNS, "the dataset", SHARD_BYTES)
        yield document_files(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def copied_table(dataset: Dataset, key: str, out: Path) -> Iterator[Path]:
    """Yield a file of all rows of a small dataset, sorted by a column; it is removed in the end."""
    folder = working_directory(out, "table")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        blocks = datasets.for_each_block(as_table, dataset, label="read", files=TaskFiles())
        blocks = [block for block in blocks if len(block)]
        if not blocks:
            raise InputError(f"the dataset of {key}: has no rows")
        rows = pa.concat_tables(blocks, promote_options="permissive")
        pq.write_table(
            rows.sort_by(key) if key in rows.column_names else rows, folder / _TABLE_FILE
        )
        yield folder / _TABLE_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_table(block: pa.Table) -> pa.Table:
    """Return a block as it is."""
    return block


def document_files(folder: Path) -> list[Path]:
    """List the files of `write_documents`."""
    return sorted(folder.glob("documents-*.parquet"))
