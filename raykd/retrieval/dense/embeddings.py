"""Embeddings of texts, computed once a shard and kept in files."""

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

_VECTORS_FILE = "vectors.bin"
_TEXTS_FILE = "texts.npy"
_READ_ROWS = 8192


class Embedder(Protocol):
    """An encoder; every task gets a copy of it.

    The embedding of a text may not depend on the texts that are embedded with it: hits would
    otherwise depend on the shards.
    """

    @property
    def digest(self) -> str:
        """Digest of the model and of all settings that decide an embedding."""

    @property
    def num_gpus(self) -> int:
        """GPUs that a task needs."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, d) embeddings of N > 0 texts."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings of those of some texts that are not empty; white space is empty.

    Attributes:
        vectors: (N, d) float32.
        texts: (N,) positions of the texts, ascending.
        num_texts: empty ones included.
    """

    vectors: NDArray[np.float32]
    texts: NDArray[np.int32]
    num_texts: int


@dataclass(frozen=True)
class Shard:
    """A shard whose units have been embedded: its file, its digest, and what it holds."""

    path: Path
    digest: str
    unit_id_type: pa.DataType
    num_units: int
    num_embedded: int


def embed_shard(path: Path, *, folder: Path, embedder: Embedder, prefix: str) -> Shard:
    """Write the embeddings of a shard's units, unless they are there already.

    Memory: the texts and embeddings of 8192 units.

    Args:
        path: the shard.
        folder: where embeddings of all shards are kept.
        embedder: the encoder.
        prefix: put before each text.

    Raises:
        InputError: the shard is missing or damaged, or the model answers with what is no number.
    """
    digest = digest_of_shard(path)

    def write(draft: Draft) -> None:
        with explained(path), pq.ParquetFile(path) as file:
            batches = file.iter_batches(_READ_ROWS, columns=["text"])
            _write(draft, (batch.column("text") for batch in batches), embedder, prefix)

    counts = write_once(
        shard_folder(folder, digest, embedder.digest, prefix),
        "embeddings",
        {"prefix": prefix},
        {"units": digest, "model": embedder.digest},
        write,
    ).counts
    unit_id_type = pq.read_schema(path).field("unit_id").type
    return Shard(path, digest, unit_id_type, int(counts["num_texts"]), int(counts["num_embedded"]))


def embed_texts(texts: pa.Array, *, folder: Path, embedder: Embedder, prefix: str) -> Embedded:
    """Embed texts, or read what was written below `folder` when they were embedded before."""
    digest = digest_of(texts.to_pylist())
    found = shard_folder(folder, digest, embedder.digest, prefix)
    inputs = {"texts": digest, "model": embedder.digest}

    def write(draft: Draft) -> None:
        batches = [texts.slice(at, _READ_ROWS) for at in range(0, len(texts), _READ_ROWS)]
        _write(draft, batches, embedder, prefix)

    write_once(found, "embeddings", {"prefix": prefix}, inputs, write)
    return read_embedded(found)


def shard_folder(folder: Path, units_digest: str, embedder_digest: str, prefix: str) -> Path:
    """Where the embeddings of one shard are."""
    model = digest_of([embedder_digest, prefix])[:16]
    return folder / f"embeddings-{units_digest}-{model}"


def read_embedded(folder: Path) -> Embedded:
    """Map embeddings that were written here before."""
    manifest = read_manifest(folder)
    assert manifest is not None, folder
    shape = int(manifest.counts["num_embedded"]), int(manifest.counts["width"])
    # A file without a byte cannot be mapped.
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
                    "dense.model: its embeddings hold values that are no numbers (NaN or "
                    "infinite); use another model"
                )
            width = vectors.shape[1]
            file.write(np.ascontiguousarray(vectors, np.float32).data)
    np.save(draft.directory / _TEXTS_FILE, np.concatenate(positions))
    num_embedded = sum(map(len, positions))
    draft.counts.update(num_texts=num_texts, num_embedded=num_embedded, width=width)
