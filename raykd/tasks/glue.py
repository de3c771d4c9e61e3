"""The eight GLUE tasks: columns, labels, metrics, and rows from the hub.

Source: Wang et al. 2019, "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding" (ICLR 2019); names, columns and label order as in the hub's `nyu-mll/glue`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from raykd.errors import InputError
from raykd.storage.remote import hub

HUB_DATASET = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True)
class GlueTask:
    """Definition of a GLUE task; the first metric is the main one."""

    sentence_columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    score_range: tuple[float, float] | None = None
    dev_split: str = "validation"


_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

GLUE: Mapping[str, GlueTask] = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
    "sst2": GlueTask(("sentence",), ("negative", "positive"), ("accuracy",)),
    "mrpc": GlueTask(_PAIR, ("not_equivalent", "equivalent"), ("f1", "accuracy")),
    "stsb": GlueTask(_PAIR, (), ("pearson", "spearman"), score_range=(0.0, 5.0)),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
    "mnli": GlueTask(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        dev_split="validation_matched",
    ),
    "qnli": GlueTask(("question", "sentence"), _ENTAILMENT, ("accuracy",)),
    "rte": GlueTask(_PAIR, _ENTAILMENT, ("accuracy",)),
}


def load_from_hub(name: str, split: Literal["train", "dev"]) -> pa.Table:
    """Load a split of a GLUE task from the hub, or from an earlier download on this machine.

    Raises:
        InputError: neither the hub nor a local copy can be read.
    """
    # Imported here: the import takes most of a second, and local files do not need it.
    import datasets

    hub_split = "train" if split == "train" else GLUE[name].dev_split
    copy = Path(datasets.config.HF_DATASETS_CACHE) / HUB_DATASET.replace("/", "___") / name
    problem = hub.problem_with(HUB_DATASET, HUB_REVISION)
    # Checked first, because `datasets` itself waits for half a minute.
    if problem is None or copy.is_dir():
        try:
            dataset = datasets.load_dataset(
                HUB_DATASET, name, split=hub_split, revision=HUB_REVISION
            )
            table: pa.Table = dataset.with_format("arrow")[:]
            return table
        except Exception as error:  # which HTTP errors there are depends on the hub's client
            problem = hub.explained(error)
    raise InputError(
        f"task {name!r}: its {split} split was looked for at the hub "
        f"({hub.endpoint()}/datasets/{HUB_DATASET}, split {hub_split!r}: {problem}) and in the "
        f"copies of earlier downloads ({copy}), and could not be read; give a Parquet, JSONL, CSV "
        f"or TSV file of your own with the key 'task.{split}'"
    )
