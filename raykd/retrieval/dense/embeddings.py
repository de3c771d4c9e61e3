"""Embeddings of texts, computed once per shard and stored in files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.corpus.shards import digest_of_shard
from raykd.errors import InputError
from raykd.storage.locations import explained
from raykd.storage.manifest import Draft, digest_of, read_manifest, write_once
from raykd.storage.remote.task_files import need

_VECTORS_FILE = "vectors.bin"
_TEXTS_FILE = "texts.npy"
_READ_ROWS = 8192


class Embedder(Protocol):
    """Text encoder; every task gets a copy.

    The embedding of a text must not depend on the other texts of the batch, since hits would then
    depend on the shards.
    """

    @property
    def digest(self) -> str:
        """Digest of the model and of all settings that determine an embedding."""

    @property
    def num_gpus(self) -> int:
        """Number of GPUs per task."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N > 0 texts, (N, d)."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings of the texts that are not empty or white space.

    Attributes:
        vectors: (N, d) float32.
        texts: (N,) positions of the texts, ascending.
        num_texts: number of texts, empty ones included.
    """

    vectors: NDArray[np.float32]
    texts: NDArray[np.int32]
    num_texts: int


@dataclass(frozen=True)
class Shard:
    """Embedded shard: file, digest, type of ids, and numbers of units."""

    path: Path
    digest: str
    unit_id_type: pa.DataType
    num_units: int
    num_embedded: int


def embed_shard(path: Path, *, folder: Path, embedder: Embedder, prefix: str) -> Shard:
    """Write the embeddings of a shard's units, unless they exist.

    Memory: texts and embeddings of 8192 units.

    Args:
        path: file of the shard.
        folder: directory of the embeddings of all shards.
        embedder: text encoder.
        prefix: text prepended to each unit.

    Raises:
        InputError: the shard is missing or damaged, or the model returns NaN or infinite values.
    """
    digest = digest_of_shard(path)

    def write(draft: Draft) -> None:
        with explained(path), pq.ParquetFile(path) as file:
            batches = file.iter_batches(_READ_ROWS, columns=["text"])
            _write(draft, (batch.column("text") for batch in batches), embedder, prefix)

    out = shard_folder(folder, digest, embedder.digest, prefix)
    need(out)
    counts = write_once(
        out,
        "embeddings",
        {"prefix": prefix},
        {"units": digest, "model": embedder.digest},
        write,
    ).counts
    unit_id_type = pq.read_schema(path).field("unit_id").type
    return Shard(path, digest, unit_id_type, int(counts["num_texts"]), int(counts["num_embedded"]))


def embed_texts(texts: pa.Array, *, folder: Path, embedder: Embedder, prefix: str) -> Embedded:
    """Embed texts, or read their embeddings if they exist in `folder`."""
    digest = digest_of(texts.to_pylist())
    texts_folder = shard_folder(folder, digest, embedder.digest, prefix)
    inputs = {"texts": digest, "model": embedder.digest}

    def write(draft: Draft) -> None:
        batches = [texts.slice(start, _READ_ROWS) for start in range(0, len(texts), _READ_ROWS)]
        _write(draft, batches, embedder, prefix)

    need(texts_folder)
    write_once(texts_folder, "embeddings", {"prefix": prefix}, inputs, write)
    return read_embedded(texts_folder)


def shard_folder(folder: Path, units_digest: str, embedder_digest: str, prefix: str) -> Path:
    """Directory of the embeddings of one shard."""
    model = digest_of([embedder_digest, prefix])[:16]
    return folder / f"embeddings-{units_digest}-{model}"


def read_embedded(folder: Path) -> Embedded:
    """Map the embeddings in a directory into memory."""
    manifest = read_manifest(folder)
    assert manifest is not None, folder
    shape = int(manifest.counts["num_embedded"]), int(manifest.counts["width"])
    # An empty file cannot be mapped.
    vectors: NDArray[np.float32] = (
        np.memmap(folder / _VECTORS_FILE, np.float32, "r", shape=shape)
        if shape[0]
        else np.empty(shape, np.float32)
    )
    return Embedded(vectors, np.load(folder / _TEXTS_FILE), int(manifest.counts["num_texts"]))


def _write(draft: Draft, batches: Iterable[pa.Array], embedder: Embedder, prefix: str) -> None:
    positions = [np.empty(0, np.int32)]
    num_texts = width = 0
    with (draft.directory / _VECTORS_FILE).open("wb") as file:
        for batch in batches:
            texts = [text or "" for text in batch.to_pylist()]
            is_text = [bool(text.strip()) for text in texts]
            positions.append((np.flatnonzero(is_text) + num_texts).astype(np.int32))
            num_texts += len(texts)
            if not any(is_text):
                continue
            vectors = embedder([prefix + text for text in compress(texts, is_text)])
            if not np.isfinite(vectors).all():
                raise InputError(
                    "dense.model: its embeddings contain NaN or infinite values; use another model"
                )
            width = vectors.shape[1]
            file.write(np.ascontiguousarray(vectors, np.float32).data)
    np.save(draft.directory / _TEXTS_FILE, np.concatenate(positions))
    num_embedded = sum(map(len, positions))
    draft.counts.update(num_texts=num_texts, num_embedded=num_embedded, width=width)
