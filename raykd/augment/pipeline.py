"""Augmentation on Ray: one task per part of the rows."""

import functools
import glob
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.augment.candidates import CandidateFinder
from raykd.augment.examples import augment_rows, training_text_schema
from raykd.augment.task_da import TaskDaConfig
from raykd.cluster import tasks
from raykd.models.resolve import digest_of_model
from raykd.storage.locations import explained
from raykd.storage.manifest import (
    Draft,
    Manifest,
    check_replaceable,
    digest_of,
    digest_of_file,
    read_manifest,
    write_once,
)
from raykd.storage.outputs import output_path
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import AUGMENTED, EXAMPLES_FILE, TEXT_FILE, TRAINING_PAIRS
from raykd.storage.working_files import sweep

# Completed parts are kept when the job is interrupted.
PART_ROWS = 256


@dataclass(frozen=True)
class AugmentJob:
    """Settings and inputs of a part's task, and the folder of the parts."""

    parts: Path
    config: TaskDaConfig
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]

    def files(self, start: int) -> TaskFiles:
        """Files that the task of a part reads and writes."""
        config = self.config
        models = (config.model, config.embeddings_model, config.embeddings)
        return TaskFiles(tuple(filter(None, models)), (self.part(start),))

    def part(self, start: int) -> Path:
        """Folder of the part that starts at a row."""
        return self.parts / f"{start:010d}"


def augment(
    examples: pa.Table,
    out: Path,
    config: TaskDaConfig,
    *,
    part_rows: int = PART_ROWS,
    describe: Callable[[Draft], None] | None = None,
) -> Manifest:
    """Write `out/examples.parquet` and `out/text.parquet`, unless `out` already holds them.

    The examples have the columns of `schemas.AUGMENTED`: every row, followed by what was made of
    it, with its label. The training text holds the same without labels, a pair as one unit of two
    texts (`schemas.TRAINING_PAIRS`), in the order of their ids: row, sentence that is changed and
    number of its variant, which is 0 for the sentence itself. Both are the same bytes for any
    number of workers, and hold the same rows for any parts. An interrupted job resumes.

    Args:
        examples: rows of `schemas.EXAMPLES`.
        out: directory to write.
        config: settings.
        part_rows: rows per task.
        describe: function that writes a description of the completed files into their directory.

    Raises:
        InputError: a model or file cannot be read, the model does not predict words, or `out` is
            another folder.
    """
    out = output_path(out)
    config = config.model_copy(
        update={
            name: _absolute(reference)
            for name in ("model", "embeddings_model", "embeddings")
            if (reference := getattr(config, name)) is not None
        }
    )
    inputs = {
        "examples": digest_of(examples.to_pydict()),
        "model": digest_of_model(config.model),
        "embeddings": _digest_of_embeddings(config),
    }
    settings = config.model_dump(mode="json", exclude={"model", "embeddings_model", "embeddings"})
    # Part of the key: earlier versions wrote pairs as single sentences, or under another file name.
    has_pairs = training_text_schema(examples) == TRAINING_PAIRS
    settings["text"] = "pairs" if has_pairs else "sentences"
    job = AugmentJob(out.with_name(f".{out.name}.parts"), config, settings, inputs)

    def write(draft: Draft) -> None:
        # Unsuitable models are refused here, before tasks start.
        CandidateFinder(config.model_copy(update={"use_gpu": False})).check()
        starts = range(0, examples.num_rows, part_rows)
        tasks.for_each(
            functools.partial(write_part, part_rows=part_rows),
            starts,
            label="augment",
            unit="parts",
            num_gpus=1.0 if config.use_gpu else 0.0,
            shared={"examples": examples, "job": job},
            files=job.files,
        )
        _collect([job.part(start) for start in starts], training_text_schema(examples), draft)
        draft.counts["num_rows"] = examples.num_rows
        if describe is not None:
            describe(draft)

    check_replaceable(out)
    sweep(job.parts)
    sweep(out.parent, f".{glob.escape(out.name)}.partial-*")
    manifest = write_once(out, "augment", settings, inputs, write)
    shutil.rmtree(job.parts, ignore_errors=True)
    return manifest


def write_part(start: int, *, examples: pa.Table, job: AugmentJob, part_rows: int) -> None:
    """Augment the rows of a part, unless it is complete."""
    rows = examples.slice(start, part_rows)

    def write(draft: Draft) -> None:
        made = augment_rows(rows, _finder(job.config, digest_of(dict(job.inputs))), job.config)
        pq.write_table(made.examples, draft.directory / EXAMPLES_FILE, compression="zstd")
        pq.write_table(made.units, draft.directory / TEXT_FILE, compression="zstd")
        draft.counts.update(made.counts)

    inputs = {**job.inputs, "rows": f"{start}-{start + rows.num_rows}"}
    write_once(job.part(start), "augment_part", job.settings, inputs, write)


# A cache of one; models whose files change have another digest and are loaded again.
@functools.lru_cache(maxsize=1)
def _finder(config: TaskDaConfig, digest: str) -> CandidateFinder:
    return CandidateFinder(config)


def _collect(parts: list[Path], text_schema: pa.Schema, draft: Draft) -> None:
    """Concatenate the parts and number their rows."""
    counts = draft.counts
    counts.update(num_examples=0, num_units=0, num_bytes=0)
    with (
        pq.ParquetWriter(
            draft.directory / EXAMPLES_FILE, AUGMENTED, compression="zstd"
        ) as examples,
        pq.ParquetWriter(draft.directory / TEXT_FILE, text_schema, compression="zstd") as units,
    ):
        for part in parts:
            rows = pq.read_table(part / EXAMPLES_FILE)
            first = int(counts["num_examples"])
            numbers = pa.array(range(first, first + rows.num_rows), pa.int64())
            examples.write_table(rows.set_column(0, AUGMENTED.field("row_id"), numbers))
            texts = pq.read_table(part / TEXT_FILE)
            units.write_table(texts)
            counts["num_examples"] += rows.num_rows
            counts["num_units"] += texts.num_rows
            counts["num_bytes"] += sum(
                len(text.encode())
                for name in ("text", "text_pair")
                if name in texts.column_names
                for text in texts[name].to_pylist()
            )
            manifest = read_manifest(part)
            assert manifest is not None, part
            for name, count in manifest.counts.items():
                counts[name] = counts.get(name, 0) + count


def _digest_of_embeddings(config: TaskDaConfig) -> str:
    if config.embeddings is None:
        return digest_of_model(config.embeddings_model or config.model)
    path = Path(config.embeddings)
    with explained(path):
        return digest_of_file(path)


def _absolute(reference: str) -> str:
    """Absolute path of a folder; package and hub names are unchanged."""
    path = Path(reference).expanduser()
    return str(path.absolute()) if path.exists() else reference
