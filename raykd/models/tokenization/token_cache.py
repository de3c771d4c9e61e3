"""Memory-mapped cache of a long text's tokens, shared by all trainings on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from raykd import progress
from raykd.errors import InputError
from raykd.models.tokenization.tokens import TokenizedRows, read_rows
from raykd.storage.manifest import Draft, digest_of, digest_of_file, stage_key, write_once
from raykd.storage.remote.task_files import need

_STAGE = "tokens"
# A shorter text is tokenized faster than its cache is found.
_FEWEST_ROWS = 20_000
_ROWS_AT_ONCE = 100_000
_SAID_BYTES = 1_000_000_000


def cached_rows(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    folder: Path,
    fewest_rows: int = _FEWEST_ROWS,
) -> TokenizedRows:
    """Tokenized rows of a whole table; a table with many rows is memory-mapped from the cache.

    Args:
        path: file of the table.
        tokenizer: tokenizer; slow tokenizers, which have no JSON form, are not cached.
        max_length: maximum tokens per row.
        folder: folder of the caches, one per text, tokenizer and length.
        fewest_rows: minimum number of rows of a cached table.
    """
    num_rows = pq.read_metadata(path).num_rows
    if num_rows < fewest_rows or not tokenizer.is_fast:
        return read_rows(path, tokenizer, max_length=max_length)
    settings = {"max_length": max_length}
    inputs = {"text": digest_of_file(path), "tokenizer": _digest_of(tokenizer)}

    def write(draft: Draft) -> None:
        _write(draft.directory, path, tokenizer, max_length, num_rows)

    cache = folder / stage_key(_STAGE, settings, inputs)[:16]
    need(cache)
    write_once(cache, _STAGE, settings, inputs, write)
    types, labels = cache / "token_type_ids.bin", cache / "labels.npy"
    return TokenizedRows(
        input_ids=np.memmap(cache / "input_ids.bin", np.int32, "r"),
        token_type_ids=np.memmap(types, np.int8, "r") if types.exists() else None,
        offsets=np.load(cache / "offsets.npy", allow_pickle=False),
        labels=np.load(labels, allow_pickle=False) if labels.exists() else None,
    )


def _write(
    cache: Path, path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, num_rows: int
) -> None:
    lengths, labels = [], []
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, num_rows)
        rows = read_rows(path, tokenizer, max_length=max_length, start=start, stop=stop)
        lengths.append(rows.lengths)
        for name, array in (
            ("input_ids", rows.input_ids),
            ("token_type_ids", rows.token_type_ids),
        ):
            if array is not None:
                with (cache / f"{name}.bin").open("ab") as file:
                    array.tofile(file)
        if rows.labels is not None:
            labels.append(rows.labels)
        if start == 0:
            _check_space(cache, path, stop, num_rows)
    np.save(cache / "offsets.npy", np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))
    if labels:
        np.save(cache / "labels.npy", np.concatenate(labels))


def _check_space(cache: Path, path: Path, num_written: int, num_rows: int) -> None:
    """Check that the disk has room for the tokens of all rows, by those of the first rows.

    Raises:
        InputError: it has not.
    """
    num_bytes = sum(file.stat().st_size for file in cache.iterdir())
    needed = num_bytes * (num_rows - num_written) // num_written
    free = shutil.disk_usage(cache).free
    if needed > _SAID_BYTES:
        progress.say(
            f"tokens of {path.name}: about {(num_bytes + needed) / 1e9:.1f} GB on the disk of each "
            f"machine that trains, memory-mapped ({free / 1e9:.1f} GB are free)"
        )
    if needed > free:
        raise InputError(
            f"{path}: the tokens of its {num_rows:,} rows need about {needed / 1e9:.1f} GB more on "
            f"the disk of {cache.parent}, which has {free / 1e9:.1f} GB free; use a larger disk "
            "(--out, or RAYKD_CACHE for outputs at URLs), or fewer rows (contextualize.max_units)"
        )


def _digest_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of a tokenizer, independent of the length of its last call."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend.pop("truncation", None)
    backend.pop("padding", None)
    return digest_of([backend, tokenizer.model_input_names])
