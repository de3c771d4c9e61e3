"""Tasks: train and evaluation splits as tables of examples, labels and metrics.

Columns, labels and metrics of GLUE tasks are known (`glue.py`); other tasks define them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from raykd.errors import InputError
from raykd.storage.delimited import Layout
from raykd.storage.locations import Location, location_of, shown
from raykd.storage.schemas import EXAMPLES
from raykd.tasks.config import Split, TaskConfig
from raykd.tasks.dataset import read_split
from raykd.tasks.dev_split import cut_dev
from raykd.tasks.examples import Examples, find_sentence_columns, read_rows, to_examples
from raykd.tasks.folds import assign_folds
from raykd.tasks.glue import GLUE, HUB_DATASET, load_from_hub
from raykd.tasks.labels.classes import class_names, label_column, require_label_column
from raykd.tasks.labels.rules import LabelRules
from raykd.tasks.labels.sets import class_names_of_sets


@dataclass(frozen=True)
class Task:
    """Loaded task; every table has the columns of `schemas.EXAMPLES`.

    A task has classes, of which a row has one; scores (`regression`); or sets of classes
    (`multi_label`), whose tables are those of `schemas.examples_schema`. `labels` are the class
    names in order, empty for regression. The first of `metrics` is the main one. `sources` are the
    sources of the splits, `remarks` describe skipped rows and rewritten labels. `dev` has no rows
    if all are trained on, after cross-validation.
    """

    name: str
    labels: tuple[str, ...]
    regression: bool
    metrics: tuple[str, ...]
    train: pa.Table
    dev: pa.Table
    test: pa.Table | None
    sources: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    multi_label: bool = False

    @property
    def num_labels(self) -> int:
        """Outputs of the classifier: number of classes, or 1 for regression."""
        return 1 if self.regression else len(self.labels)

    @property
    def main_metric(self) -> str:
        """Main metric."""
        return self.metrics[0]

    @property
    def splits(self) -> dict[Split, pa.Table]:
        """Existing splits by name."""
        splits: dict[Split, pa.Table] = {"train": self.train}
        if self.dev.num_rows:
            splits["dev"] = self.dev
        return splits if self.test is None else {**splits, "test": self.test}

    @property
    def report_split(self) -> Split:
        """Split whose scores are reported: test if it exists, otherwise dev."""
        return "dev" if self.test is None else "test"

    @property
    def reported(self) -> pa.Table:
        """Rows of the report split."""
        return self.splits[self.report_split]

    def evaluation_splits(self) -> list[pa.Table]:
        """Splits that must not be trained on."""
        return [table for split, table in self.splits.items() if split != "train"]


def load_task(
    config: TaskConfig,
    resolve: Callable[[str], Location] = location_of,
    *,
    options: bool = False,
) -> Task:
    """Read all splits of a task.

    Args:
        config: settings of the task.
        resolve: function from a path or URL in the recipe to a file's location.
        options: whether errors name options of a command instead of keys of a recipe.

    Raises:
        InputError: a file, column, row or label is invalid, or the hub cannot be reached.
    """
    glue = GLUE.get(config.name)
    regression = config.is_regression
    score_range = glue.score_range if glue else None
    listed = config.known_labels
    rules = LabelRules(
        config.label_column,
        listed,
        config.unlabeled_rows,
        options,
        separator=config.separator,
    )
    raw: dict[Split, list[tuple[str, pa.Table]]] = {"train": _read(config, "train", resolve, rules)}
    if not config.cuts_dev:
        raw["dev"] = _read(config, "dev", resolve, rules)
    if config.has("test"):
        raw["test"] = _read(config, "test", resolve, rules)
    labels: tuple[str, ...] = ()
    if not regression:
        source = _sources(raw["train"])
        values = [value for part in raw["train"] for value in label_column(*part, rules)]
        names_of = class_names if rules.separator is None else class_names_of_sets
        labels = listed or names_of(source, values, rules)
    if config.max_train_rows is not None:
        raw["train"] = _first_rows(raw["train"], config.max_train_rows)
    candidates = config.sentence_candidates()
    splits = {
        split: _joined(
            [
                to_examples(
                    source,
                    table,
                    find_sentence_columns(source, table.column_names, candidates, rules),
                    rules,
                    labels=labels,
                    score_range=score_range,
                )
                for source, table in parts
            ],
            [table.num_rows for _, table in parts],
        )
        for split, parts in raw.items()
    }
    tables = {split: examples.table for split, examples in splits.items()}
    sources: dict[str, str] = {split: _sources(parts) for split, parts in raw.items()}
    remarks = [f"{split}: {remark}" for split, one in splits.items() for remark in one.remarks]
    if config.dev_fraction is not None:
        tables["train"], tables["dev"] = cut_dev(
            tables["train"],
            config.dev_fraction,
            config.dev_seed,
            labels=labels,
            source=sources["train"],
            key=rules.key("dev"),
        )
        sources["dev"] = f"{config.dev_fraction:.2%} of {sources['train']}"
        how = f"dev_fraction {config.dev_fraction:g}, seed {config.dev_seed}"
    elif config.folds is not None:
        tables["train"], tables["dev"] = _held_out(config, tables["train"], labels, sources)
        how = f"fold {config.fold} of {config.folds}, seed {config.dev_seed}"
    if config.cuts_dev and (num_cut := tables["dev"].num_rows):
        by = ", drawn by score" if regression else ", drawn by class"
        by = "" if config.multi_label else by
        num_left = tables["train"].num_rows
        remarks.append(
            f"dev: {num_cut:,} of the {num_cut + num_left:,} training rows{by}, are "
            f"dev rows and not trained on ({how})"
        )
    metrics = config.reported_metrics
    if "f1" in metrics and len(labels) != 2:
        raise InputError(
            f"task {config.name!r}: metric 'f1' is that of the second of two classes, and there "
            f"are {len(labels)}: {', '.join(labels)}; use 'accuracy'"
        )
    return Task(
        name=config.name,
        labels=labels,
        regression=regression,
        metrics=metrics,
        train=tables["train"],
        dev=tables["dev"],
        test=tables.get("test"),
        sources=sources,
        remarks=tuple(remarks),
        multi_label=config.multi_label,
    )


def _held_out(
    config: TaskConfig, rows: pa.Table, labels: Sequence[str], sources: dict[str, str]
) -> tuple[pa.Table, pa.Table]:
    """Training rows, and those of the held-out fold; none are held out if no fold is given."""
    assert config.folds is not None
    folds = assign_folds(
        rows, config.folds, config.dev_seed, labels=labels, source=sources["train"]
    )
    if config.fold is not None:
        sources["dev"] = f"fold {config.fold} of {config.folds} of {sources['train']}"
    is_dev = folds == config.fold
    return rows.filter(pa.array(~is_dev)), rows.filter(pa.array(is_dev))


def _sources(parts: Sequence[tuple[str, pa.Table]]) -> str:
    return ", ".join(source for source, _ in parts)


def _first_rows(parts: Sequence[tuple[str, pa.Table]], num_rows: int) -> list[tuple[str, pa.Table]]:
    """Parts with the first rows of all."""
    kept = []
    for source, table in parts:
        if num_rows > 0:
            kept.append((source, table.slice(0, num_rows)))
        num_rows -= table.num_rows
    return kept


def _joined(parts: Sequence[Examples], sizes: Sequence[int]) -> Examples:
    """Examples of several files; `row_id` counts over all of their rows."""
    if len(parts) == 1:
        return parts[0]
    tables = []
    for part, first in zip(parts, accumulate(sizes, initial=0), strict=False):
        row_ids = pc.add(part.table["row_id"], first)
        tables.append(part.table.set_column(0, EXAMPLES.field("row_id"), row_ids))
    remarks = [remark for part in parts for remark in part.remarks]
    return Examples(pa.concat_tables(tables), remarks)


def _read(
    config: TaskConfig, split: Split, resolve: Callable[[str], Location], rules: LabelRules
) -> list[tuple[str, pa.Table]]:
    """Read a split; returns the source of each file, and its sentence and label columns."""
    if files := config.files_of(split):
        return [_read_file(config, split, resolve(file), rules) for file in files]
    return [_read_dataset(config, split, rules)]


def _read_file(
    config: TaskConfig, split: Split, path: Location, rules: LabelRules
) -> tuple[str, pa.Table]:
    layout = Layout(config.columns, config.quoting)
    table = read_rows(path, config.sentence_candidates(), rules, layout)
    return _with_rows(shown(path), table, split)


def _read_dataset(config: TaskConfig, split: Split, rules: LabelRules) -> tuple[str, pa.Table]:
    candidates = config.sentence_candidates()
    if config.dataset is not None:
        named = [config.dataset.path, config.dataset.config, getattr(config.dataset, split)]
        source = " ".join(part for part in named if part)
        table = read_split(config.dataset, split)
        columns = find_sentence_columns(source, table.column_names, candidates, rules)
        require_label_column(source, table.column_names, rules)
        table = table.select([*columns, rules.column])
    else:
        assert split != "test"
        table = load_from_hub(config.name, split)
        source = f"{HUB_DATASET} {config.name} {split}"
    return _with_rows(source, table, split)


def _with_rows(source: str, table: pa.Table, split: Split) -> tuple[str, pa.Table]:
    """Check that a file or split has rows.

    Raises:
        InputError: it has none.
    """
    if table.num_rows == 0:
        raise InputError(f"{source}: holds no rows; the {split} split of a task needs some")
    return source, table
