"""DSIR corpus: units drawn by the importance of their n-grams for the task, a selection baseline.

Two passes over the shards count the n-grams of the general corpus and weigh its units. Both write
one small file per shard next to the output, which an interrupted command reads again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from raykd.contextualize.baseline import CorpusSize, write_baseline
from raykd.contextualize.card import DsirFacts
from raykd.contextualize.config import ContextualizeConfig
from raykd.contextualize.dsir import (
    DsirConfig,
    gumbel_noise,
    log_ratios,
    log_weights,
    ngram_counts,
)
from raykd.contextualize.select import ReferenceTexts
from raykd.corpus.shards import digest_of_shard
from raykd.errors import InputError
from raykd.storage.manifest import Draft, Manifest, digest_of, write_once
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import UNITS
from raykd.storage.working_files import discard_parts, sweep_parts, working_directory
from raykd.text.figures import TextFigures

# Rows analyzed at a time.
_BATCH_ROWS = 16_384
_COUNTS_FILE = "counts.npy"
_KEYS_FILE = "keys.npy"
_KEYED = pa.schema([*UNITS, ("key", pa.float64())])

# Signature of `cluster.datasets.for_each`.
ForEach = Callable[..., list[Any]]


@dataclass(frozen=True)
class _Job:
    """Parameters of the tasks, one per shard and step."""

    parts: Path
    shards: tuple[Path, ...]
    config: DsirConfig
    seed: int

    def folder(self, step: str, number: int) -> Path:
        """Output directory of a step on one shard."""
        return self.parts / f"{step}-{number:05d}"

    def files_of_counts(self, number: int) -> TaskFiles:
        """Files of `_count_shard`."""
        return TaskFiles((self.shards[number],), (self.folder("counts", number),))

    def files_of_keys(self, number: int) -> TaskFiles:
        """Files of `_weigh_shard`."""
        return TaskFiles((self.shards[number],), (self.folder("keys", number),))

    def files_to_take(self, number: int) -> TaskFiles:
        """Files of `_take_from_shard`."""
        return TaskFiles((self.shards[number], self.folder("keys", number)))

    def counts(self) -> NDArray[np.int64]:
        """N-grams of the general corpus per bucket."""
        total = np.zeros(self.config.num_buckets, np.int64)
        for number in range(len(self.shards)):
            total += np.load(self.folder("counts", number) / _COUNTS_FILE)
        return total

    def threshold(self, num_units: int) -> float:
        """Find the key of the unit with the `num_units`-th largest key; -inf if there are fewer."""
        best = np.empty(0)
        for number in range(len(self.shards)):
            best = np.concatenate([best, np.load(self.folder("keys", number) / _KEYS_FILE)])
            if len(best) > num_units:
                best = np.partition(best, len(best) - num_units)[len(best) - num_units :]
        return float(best.min()) if len(best) >= num_units else -np.inf


def dsir_corpus(
    unit_shards: Sequence[Path],
    size: CorpusSize,
    reference_texts: ReferenceTexts,
    config: ContextualizeConfig,
    out: Path,
    inputs: Mapping[str, str],
    *,
    for_each: ForEach | None = None,
    like: TextFigures | None = None,
) -> Manifest:
    """Draw units of the general corpus by their importance weights and write them as a corpus.

    The units with the largest sum of log importance weight and noise are taken; see `dsir`. The
    noise depends only on the unit's id and the seed, so the result does not depend on the shards
    and their order. Duplicates and contaminated units are replaced by the next ones.

    Memory: a task reads some thousand units at a time; this process needs 16 bytes per unit of the
    corpus that is written, in addition to its text.

    Args:
        unit_shards: files of the general corpus.
        size: size to draw; if there is too little text, all is taken, and the card reports it.
        reference_texts: the task's sentences, sentences to remove, and texts for the card.
        config: decontamination and deduplication settings, `random_seed` and `dsir`; its limits
            are ignored.
        out: output directory.
        inputs: digest of the units; digests of the other arguments are added.
        for_each: runs a function for all shards, as `cluster.datasets.for_each`; None: run it
            here, shard by shard.
        like: statistics of the corpus that this one is compared with.

    Raises:
        InputError: the task's sentences have no words, or no unit is left.
    """
    settings = {**size.settings(config), "dsir": config.dsir.model_dump(mode="json")}
    all_inputs = {
        **inputs,
        **reference_texts.digests(),
        "like": digest_of(like and like.sizes()),
    }
    run = for_each or _here
    parts = working_directory(out, "parts")
    job = _Job(parts, tuple(unit_shards), config.dsir, config.random_seed)
    numbers = range(len(unit_shards))

    def write(draft: Draft) -> None:
        sentences = pa.array(reference_texts.task_sentences, pa.string())
        task = ngram_counts(sentences, config.dsir.num_buckets)
        if not task.any():
            raise InputError("dsir corpus: the task's training sentences contain no words")
        run(
            _count_shard,
            numbers,
            label="counting n-grams for the DSIR corpus",
            shared={"job": job},
            files=job.files_of_counts,
        )
        general = job.counts()
        ratios = log_ratios(task, general, config.dsir.smoothing)
        run(
            _weigh_shard,
            numbers,
            label="weighing the units for the DSIR corpus",
            shared={"job": job, "ratios": ratios},
            files=job.files_of_keys,
        )

        def take(num_units: int) -> pa.Table:
            shared = {"job": job, "threshold": job.threshold(num_units)}
            label = "drawing the DSIR corpus"
            taken = run(
                _take_from_shard, numbers, label=label, shared=shared, files=job.files_to_take
            )
            return _by_key(taken)

        num_candidates = sum(pq.read_metadata(path).num_rows for path in unit_shards)

        def facts(texts: pa.ChunkedArray) -> DsirFacts:
            own = np.zeros_like(general)
            for batch in pa.table({"text": texts}).to_batches(_BATCH_ROWS):
                own += ngram_counts(batch.column("text"), config.dsir.num_buckets)
            return DsirFacts(
                num_task_ngrams=int(task.sum()),
                num_general_ngrams=int(general.sum()),
                num_buckets=config.dsir.num_buckets,
                smoothing=config.dsir.smoothing,
                mean_log_weight=float(own @ ratios) / len(texts),
                mean_log_weight_general=float(general @ ratios) / num_candidates,
            )

        write_baseline(
            draft,
            "dsir",
            take,
            size,
            num_candidates,
            reference_texts,
            config,
            like=like,
            dsir=facts,
        )

    sweep_parts(out)
    manifest = write_once(out, "dsir_corpus", settings, all_inputs, write)
    discard_parts(out)
    return manifest


def _count_shard(number: int, *, job: _Job) -> None:
    """Write the n-grams of a shard per bucket."""

    def write(draft: Draft) -> None:
        total = np.zeros(job.config.num_buckets, np.int64)
        with pq.ParquetFile(job.shards[number]) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=["text"]):
                total += ngram_counts(batch.column("text"), job.config.num_buckets)
        np.save(draft.directory / _COUNTS_FILE, total)

    inputs = {"units": digest_of_shard(job.shards[number])}
    settings = {"num_buckets": job.config.num_buckets}
    write_once(job.folder("counts", number), "shard n-grams", settings, inputs, write)


def _weigh_shard(number: int, *, job: _Job, ratios: NDArray[np.float64]) -> None:
    """Write the key of every unit of a shard: its log importance weight plus its noise."""

    def write(draft: Draft) -> None:
        keys = [np.empty(0)]
        with pq.ParquetFile(job.shards[number]) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=UNITS.names):
                noise = gumbel_noise(batch.column("unit_id"), job.seed)
                keys.append(log_weights(batch.column("text"), ratios) + noise)
        np.save(draft.directory / _KEYS_FILE, np.concatenate(keys))

    inputs = {
        "units": digest_of_shard(job.shards[number]),
        "ratios": xxhash.xxh3_128_hexdigest(ratios.tobytes()),
    }
    settings = {"seed": job.seed}
    write_once(job.folder("keys", number), "shard importance weights", settings, inputs, write)


def _take_from_shard(number: int, *, job: _Job, threshold: float) -> pa.Table:
    """Select the units of a shard whose key is at least `threshold`; columns of UNITS and `key`."""
    keys = np.load(job.folder("keys", number) / _KEYS_FILE)
    taken = [_KEYED.empty_table()]
    first = 0
    with pq.ParquetFile(job.shards[number]) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=UNITS.names):
            own = keys[first : first + batch.num_rows]
            first += batch.num_rows
            table = pa.Table.from_batches([batch]).append_column("key", pa.array(own))
            taken.append(table.filter(pa.array(own >= threshold)))
    return pa.concat_tables(taken)


def _by_key(taken: Sequence[pa.Table]) -> pa.Table:
    """Merge units, sorted by key in descending order, then by id; texts as large_string."""
    table = pa.concat_tables([_KEYED.empty_table(), *taken])
    # take() on 32-bit offsets fails above 2 GiB of text.
    table = table.set_column(1, "text", table["text"].cast(pa.large_string()))
    return table.sort_by([("key", "descending"), ("unit_id", "ascending")])


def _here(
    function: Callable[..., Any], items: Sequence[int], *, shared: Mapping[str, Any], **_: Any
) -> list[Any]:
    return [function(item, **shared) for item in items]
