"""Storage of a task: one table of examples per split, and its labels."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from raykd.errors import InputError
from raykd.storage.formats import source_digest
from raykd.storage.locations import Location
from raykd.storage.manifest import Draft, Manifest, digest_of, digest_of_directory, write_once
from raykd.tasks.config import SPLITS, TaskConfig
from raykd.tasks.dataset import digest_of_dataset
from raykd.tasks.folds import assign_folds
from raykd.tasks.task import Task, load_task

_FACTS_FILE = "task.json"
_FROM_HUB = "hub"
_SENTENCES = ("sentence1", "sentence2")


def task_folder_of(run: Path) -> Path | None:
    """Folder of a run's task, or of a cross-validation's final one; None if there is none."""
    folders = (run / "task", run / "final" / "task")
    return next((folder for folder in folders if (folder / _FACTS_FILE).is_file()), None)


def write_task(config: TaskConfig, resolve: Callable[[str], Location], out: Path) -> Manifest:
    """Load a task and write its splits, unless they are already written.

    Raises:
        InputError: see `load_task`.
    """
    inputs = {split: _FROM_HUB for split in ("train", "dev")}
    if config.cuts_dev:
        del inputs["dev"]
    if config.dataset is not None:
        inputs = {"dataset": digest_of_dataset(config.dataset)}
    for split in SPLITS:
        digests = [source_digest(resolve(reference)) for reference in config.files_of(split)]
        if digests:
            inputs[split] = digests[0] if len(digests) == 1 else digest_of(digests)

    left_out: dict[str, Any] = {"train": True, "dev": True, "test": True, "dataset": {"path"}}
    # Newer keys, which must not change the tasks of earlier runs.
    if not config.multi_label:
        left_out |= {"multi_label": True, "label_separator": True}
    if config.folds is None:
        left_out |= {"folds": True, "fold": True}
    settings = config.model_dump(mode="json", exclude=left_out)
    return write_once(
        out, "task", settings, inputs, lambda draft: _write(load_task(config, resolve), draft)
    )


def hold_out(task_folder: Path, fraction: float, out: Path) -> Manifest:
    """Write a task whose dev split is held out from another task's train split.

    Rows are held out by the hash of their sentences, so that equal rows are in the same split.

    Raises:
        InputError: no row, or every row, would be held out.
    """
    whole = read_task(task_folder)

    def write(draft: Draft) -> None:
        keys = zip(*(whole.train[name].to_pylist() for name in _SENTENCES), strict=True)
        held_out = [
            xxhash.xxh3_64_intdigest(json.dumps(key).encode()) < fraction * 2.0**64 for key in keys
        ]
        num_rows, num_held_out = len(held_out), sum(held_out)
        if not 0 < num_held_out < num_rows:
            raise InputError(
                f"task {whole.name!r}: holding out {fraction:.0%} of its {num_rows} training rows "
                f"takes {num_held_out} of them; use more training rows, or a test split, so that "
                "no rows have to be held out"
            )
        mask = pa.array(held_out, pa.bool_())
        task = replace(
            whole,
            train=whole.train.filter(pc.invert(mask)),
            dev=whole.train.filter(mask),
            test=None,
        )
        _write(task, draft)

    inputs = {"task": digest_of_directory(task_folder)}
    return write_once(out, "hold_out", {"fraction": fraction}, inputs, write)


def write_folds(task_folder: Path, seed: int, outs: Sequence[Path]) -> None:
    """Write a task per fold of another task's train split: the fold's rows are its dev split.

    Args:
        task_folder: the task.
        seed: seed of the draw of the folds, see `folds.assign_folds`.
        outs: folder of each fold's task.

    Raises:
        InputError: a class, or a regression, has too few different texts.
    """
    whole = read_task(task_folder)
    source, num_folds = whole.sources["train"], len(outs)
    folds = assign_folds(whole.train, num_folds, seed, labels=whole.labels, source=source)
    inputs = {"task": digest_of_directory(task_folder)}
    for number, out in enumerate(outs, 1):
        is_dev = pa.array(folds == number)
        name = f"fold {number} of {num_folds} of {source}"
        task = replace(
            whole,
            train=whole.train.filter(pc.invert(is_dev)),
            dev=whole.train.filter(is_dev),
            test=None,
            sources={"train": source, "dev": name},
        )
        settings = {"fold": number, "folds": num_folds, "seed": seed}
        write_once(out, "fold", settings, inputs, partial(_write, task))


def pool_folds(whole: Path, folds: Sequence[Path], out: Path) -> Manifest:
    """Write a task whose dev rows are those of all folds, in the order of the training rows.

    Args:
        whole: the task with all training rows.
        folds: the task of each fold.
        out: folder to write.
    """

    def write(draft: Draft) -> None:
        held_out = pa.concat_tables([read_task(folder).dev for folder in folds])
        _write(replace(read_task(whole), dev=held_out.sort_by("row_id")), draft)

    inputs = {
        "task": digest_of_directory(whole),
        "folds": digest_of([digest_of_directory(folder) for folder in folds]),
    }
    return write_once(out, "pool_folds", {}, inputs, write)


def _write(task: Task, draft: Draft) -> None:
    for split, table in task.splits.items():
        pq.write_table(table, draft.directory / f"{split}.parquet")
        draft.counts[f"num_{split}_rows"] = table.num_rows
    facts = {
        "name": task.name,
        "labels": list(task.labels),
        "regression": task.regression,
        **({"multi_label": True} if task.multi_label else {}),
        "metrics": list(task.metrics),
        "sources": dict(task.sources),
        "remarks": list(task.remarks),
    }
    (draft.directory / _FACTS_FILE).write_text(json.dumps(facts, indent=2))


def read_task(out: Path) -> Task:
    """Read a task written by `write_task`."""
    facts = json.loads((out / _FACTS_FILE).read_text())
    train, dev = pq.read_table(out / "train.parquet"), _optional(out / "dev.parquet")
    return Task(
        name=facts["name"],
        labels=tuple(facts["labels"]),
        regression=facts["regression"],
        multi_label=facts.get("multi_label", False),
        metrics=tuple(facts["metrics"]),
        train=train,
        dev=train.slice(0, 0) if dev is None else dev,
        test=_optional(out / "test.parquet"),
        sources=facts["sources"],
        remarks=tuple(facts["remarks"]),
    )


def _optional(path: Path) -> pa.Table | None:
    """Rows of a split; None if it does not exist."""
    return pq.read_table(path) if path.is_file() else None
