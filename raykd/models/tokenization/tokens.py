"""Tokenization of text tables, and padded batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from raykd.tasks.labels.sets import targets_of

_TOKENIZED_ROWS = 10_000
_COLUMNS = ("text", "text_pair", "sentence1", "sentence2", "label")


@dataclass(frozen=True)
class TokenizedRows:
    """Token ids of a text table's rows in one flat array.

    Shapes: N rows, T tokens in all. Row i is `input_ids[offsets[i]:offsets[i + 1]]`.
    """

    input_ids: NDArray[np.int32]  # (T,)
    token_type_ids: NDArray[np.int8] | None  # (T,)
    offsets: NDArray[np.int64]  # (N + 1,)
    labels: NDArray[np.float64] | None = None  # (N,), or (N, C) of a multi-label task
    teacher_logits: NDArray[np.float32] | None = None  # (N, C)
    teacher_features: NDArray[np.float32] | None = None  # (N, n, d): layers 1 to n, pooled
    teacher_relations: NDArray[np.float16] | None = None  # (T, 3, d): query, key, value vectors

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, (N,)."""
        return np.diff(self.offsets)


def read_rows(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    start: int = 0,
    stop: int | None = None,
) -> TokenizedRows:
    """Tokenize rows [start, stop) of a table of examples or of units (see `schemas`).

    Rows are in the order of the file; examples keep their labels.
    """
    return tokenize_table(tokenizer, _read_slice(path, start, stop), max_length=max_length)


def tokenize_table(
    tokenizer: PreTrainedTokenizerBase, table: pa.Table, *, max_length: int
) -> TokenizedRows:
    """Tokenize the rows of a table of examples or of units; examples keep their labels.

    The two sentences of an example, and a unit's `text` and `text_pair`, form one input.
    """
    if "text" in table.column_names:
        pairs = table["text_pair"].to_pylist() if "text_pair" in table.column_names else None
        return tokenize(tokenizer, table["text"].to_pylist(), pairs, max_length=max_length)
    second = table["sentence2"]
    rows = tokenize(
        tokenizer,
        table["sentence1"].to_pylist(),
        None if second.null_count == len(second) else second.to_pylist(),
        max_length=max_length,
    )
    return replace(rows, labels=targets_of(table))


def _read_slice(path: Path, start: int, stop: int | None) -> pa.Table:
    """Rows [start, stop), reading only the needed columns and row groups."""
    with pq.ParquetFile(path) as file:
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        stop = int(sum(sizes)) if stop is None else stop
        groups = [at for at, end in enumerate(ends) if end > start and end - sizes[at] < stop]
        table = file.read_row_groups(groups, columns=columns)
    skipped = sum(sizes[: groups[0]]) if groups else 0
    return table.slice(start - skipped, stop - start)


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    max_length: int,
) -> TokenizedRows:
    """Tokenize sentences or sentence pairs, truncated to `max_length` tokens, without padding."""
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int8]] = []
    lengths: list[int] = []
    has_types = "token_type_ids" in tokenizer.model_input_names
    for start in range(0, len(first), _TOKENIZED_ROWS):
        stop = start + _TOKENIZED_ROWS
        encoded = tokenizer(
            list(first[start:stop]),
            None if second is None else list(second[start:stop]),
            truncation=True,
            max_length=max_length,
            return_token_type_ids=has_types,
            return_attention_mask=False,
        )
        lengths += [len(row) for row in encoded["input_ids"]]
        ids += [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
        if has_types:
            types += [np.asarray(row, dtype=np.int8) for row in encoded["token_type_ids"]]
    return TokenizedRows(
        input_ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
        token_type_ids=np.concatenate(types) if types else None,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
    )


def collate(
    rows: TokenizedRows, indices: NDArray[np.int64], *, pad_id: int, regression: bool
) -> dict[str, Tensor]:
    """Batch of rows, padded on the right to the longest one.

    Returns:
        input_ids (B, L), attention_mask (B, L), row_ids (B,) and, if the rows have them,
        token_type_ids (B, L), labels (B,) int64 or float32, or (B, C) float32 of a multi-label
        task, teacher_logits (B, C), teacher_features (B, n, d) and teacher_relations (B, L, 3, d)
        float32.
    """
    lengths = rows.lengths[indices]
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    positions = np.where(mask, rows.offsets[indices][:, None] + np.arange(width), 0)
    batch: dict[str, NDArray[Any]] = {
        "input_ids": np.where(mask, rows.input_ids[positions], pad_id).astype(np.int64),
        "attention_mask": mask.astype(np.int64),
        "row_ids": indices,
    }
    if rows.token_type_ids is not None:
        batch["token_type_ids"] = (rows.token_type_ids[positions] * mask).astype(np.int64)
    if rows.labels is not None:
        has_numbers = regression or rows.labels.ndim == 2
        batch["labels"] = rows.labels[indices].astype(np.float32 if has_numbers else np.int64)
    if rows.teacher_logits is not None:
        batch["teacher_logits"] = rows.teacher_logits[indices]
    if rows.teacher_features is not None:
        batch["teacher_features"] = rows.teacher_features[indices]
    if rows.teacher_relations is not None:
        vectors = np.zeros((*mask.shape, *rows.teacher_relations.shape[1:]), np.float32)
        vectors[mask] = rows.teacher_relations[positions[mask]]
        batch["teacher_relations"] = vectors
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move all tensors of a batch."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
