"""Reading of an evaluation set, and its storage as a table of examples with its classes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.evaluation.config import EvaluationSetConfig, SetClasses
from raykd.storage.delimited import Layout
from raykd.storage.formats import source_digest
from raykd.storage.locations import Location, shown
from raykd.storage.manifest import Draft, Manifest, write_once
from raykd.storage.schemas import EXAMPLES_FILE
from raykd.tasks.config import TaskConfig
from raykd.tasks.examples import find_sentence_columns, read_rows, to_examples
from raykd.tasks.labels.rules import LabelRules

_FACTS_FILE = "set.json"
_REMEDY = (
    "; if the set has classes of its own, list them as 'labels', and map the task's to them with "
    "'label_map'"
)


@dataclass(frozen=True)
class EvaluationSet:
    """Stored evaluation set.

    Attributes:
        table: rows as `schemas.EXAMPLES`; a label is an index of `classes.labels`.
        classes: the set's classes; empty for regression.
        source: file or URL that it was read from.
        remarks: on skipped rows and rewritten labels.
    """

    table: pa.Table
    classes: SetClasses
    source: str
    remarks: tuple[str, ...]


def write_set(
    config: EvaluationSetConfig,
    task: TaskConfig,
    task_labels: tuple[str, ...],
    resolve: Callable[[str], Location],
    out: Path,
) -> Manifest:
    """Read and check an evaluation set and write its examples, unless they are already written.

    Args:
        config: settings of the set.
        task: settings of the task, whose columns are the defaults.
        task_labels: classes of the task, as loaded; empty for regression.
        resolve: function from a path or URL in the recipe to a file's location.
        out: directory to write.

    Raises:
        InputError: the file, a column, a row or a label is invalid, or the classes of set and task
            do not fit; names the set or the file, the row, and the remedy.
    """
    path = resolve(config.path)
    try:
        classes = config.classes(task_labels)
    except ValueError as error:
        raise InputError(f"evaluation set {config.name!r}: {error}") from None
    if "f1" in config.reported_metrics(task) and len(classes.labels) != 2:
        raise InputError(
            f"evaluation set {config.name!r}: metric 'f1' is that of the second of two classes, "
            f"and there are {len(classes.labels)}; set 'metrics: [accuracy]'"
        )
    candidates = task.sentence_candidates()
    if config.sentence_columns is not None:
        candidates = [config.sentence_columns]
    rules = LabelRules(
        config.label_column or task.label_column,
        config.labels or task.known_labels,
        config.unlabeled_rows,
        section=f"evaluation.sets.{config.name}",
        owner="set" if config.labels else "task",
        remedy="" if config.labels or task.multi_label else _REMEDY,
        separator=task.separator,
    )

    def write(draft: Draft) -> None:
        source = shown(path)
        rows = read_rows(path, candidates, rules, Layout(config.columns, config.quoting))
        if rows.num_rows == 0:
            raise InputError(f"{source}: holds no rows; the set {config.name!r} needs some")
        columns = find_sentence_columns(source, rows.column_names, candidates, rules)
        examples = to_examples(source, rows, columns, rules, labels=classes.labels)
        pq.write_table(examples.table, draft.directory / EXAMPLES_FILE)
        facts = {
            "labels": classes.labels,
            "targets": classes.targets,
            "source": source,
            "remarks": examples.remarks,
        }
        (draft.directory / _FACTS_FILE).write_text(json.dumps(facts, indent=2))
        draft.counts["num_rows"] = examples.table.num_rows

    settings = {
        "columns": config.columns,
        "quoting": config.quoting,
        "sentence_columns": candidates,
        "label_column": rules.column,
        "unlabeled_rows": config.unlabeled_rows,
        "lists_labels": rules.labels is not None,
        **classes._asdict(),
    }
    if rules.separator is not None:
        settings["separator"] = rules.separator
    return write_once(out, "evaluation_set", settings, {"file": source_digest(path)}, write)


def read_set(folder: Path) -> EvaluationSet:
    """Read a set written by `write_set`."""
    facts = json.loads((folder / _FACTS_FILE).read_text())
    return EvaluationSet(
        table=pq.read_table(folder / EXAMPLES_FILE),
        classes=SetClasses(tuple(facts["labels"]), tuple(facts["targets"])),
        source=facts["source"],
        remarks=tuple(facts["remarks"]),
    )
