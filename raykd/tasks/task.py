"""Tasks: train and evaluation splits as tables of examples, labels and metrics.

Columns, labels and metrics of GLUE tasks are known (`glue.py`); other tasks define them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from raykd.config import Config
from raykd.errors import InputError
from raykd.storage.delimited import Layout, Quoting
from raykd.storage.locations import Location, location_of, shown
from raykd.storage.tables import read_table
from raykd.tasks.dev_split import cut_dev
from raykd.tasks.examples import to_examples
from raykd.tasks.glue import GLUE, HUB_DATASET, load_from_hub
from raykd.tasks.label_cells import label_name, repeated_label
from raykd.tasks.label_rules import LabelRules, UnlabeledRows
from raykd.tasks.labels import class_names, label_column, require_label_column
from raykd.tasks.metrics import METRICS, REGRESSION_METRICS

Split = Literal["train", "dev", "test"]

# Sentence columns of local GLUE files, which may differ from those on the hub.
_PLAIN_COLUMNS = {1: ("sentence",), 2: ("sentence1", "sentence2")}


_Label = Annotated[
    str, BeforeValidator(label_name, json_schema_input_type=str | bool | int | float)
]


class TaskConfig(Config):
    """Settings of a labeled task and its files.

    GLUE's hidden test sets have placeholders instead of labels, so `test` is always a file.
    """

    name: str = Field(
        min_length=1,
        description="Name of the task. A GLUE name (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte) "
        "fixes columns, labels and metrics; any other task needs train, sentence_columns, and "
        "dev or dev_fraction.",
    )
    train: str | None = Field(
        None,
        description="File or URL of the training rows (CSV, TSV, JSON lines or Parquet). "
        "Default for GLUE: the hub.",
    )
    dev: str | None = Field(
        None,
        description="File or URL of the rows on which models are scored and chosen. "
        "Default for GLUE: the hub's validation split. Any other task needs this key, or "
        "`dev_fraction`.",
    )
    dev_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the training rows to use as dev rows instead, if there is no dev "
        "file; they are not trained on. The same share of each class is drawn (for regression, of "
        "each of ten ranges of scores). Rows with the same text are in the same split.",
    )
    dev_seed: int = Field(0, ge=0, lt=2**64, description="Seed of the draw of `dev_fraction`.")
    test: str | None = Field(
        None, description="File or URL of rows that are scored once, at the end."
    )
    sentence_columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="Column of the text, or the two columns of a pair of texts. GLUE fixes them.",
    )
    label_column: str = Field(
        "label", description="Column of the label, or of the score of a regression task."
    )
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the columns of CSV and TSV files without a header line.",
    )
    quoting: Quoting = Field(
        "auto",
        description="Whether quotation marks enclose fields: standard, none, or auto (CSV: yes; "
        "TSV: where every line is as a writer with quotes would write it).",
    )
    labels: tuple[_Label, ...] | None = Field(
        None,
        min_length=2,
        description="The classes in order; any other label is refused. Default: those of the "
        "train split, sorted, where values that look like placeholders and classes of very few "
        "rows are refused.",
    )
    unlabeled_rows: UnlabeledRows = Field(
        "error",
        description="Rows without a label (null, NaN, an empty cell, a placeholder such as '-', "
        "and, where `labels` are listed or GLUE fixes them, any other label): error, or skip to "
        "leave them out and report their number.",
    )
    regression: bool = Field(
        False,
        description="Whether the label is a number to predict (squared error) and not a class.",
    )
    metrics: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Metrics to report, of accuracy, f1 (two classes) and matthews, or pearson "
        "and spearman for regression; the first one chooses checkpoints and trials. Default: "
        "GLUE's, else accuracy, or pearson and spearman.",
    )
    max_train_rows: int | None = Field(
        None, ge=1, description="Use only the first N training rows."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dev is not None and self.dev_fraction is not None:
            raise ValueError(
                "'dev' names a file of dev rows, and 'dev_fraction' cuts them from the training "
                "rows; remove one of the two"
            )
        if self.dev_fraction is None and self.dev_seed:
            raise ValueError("'dev_seed' is the seed of 'dev_fraction', which is not set")
        if self.name in GLUE:
            if self.labels is not None or self.regression:
                raise ValueError(
                    f"GLUE fixes the labels of {self.name!r}; remove 'labels' and 'regression', "
                    "or rename the task"
                )
        else:
            self._check_own_task()
        if self.labels and (repeated := repeated_label(self.labels)) is not None:
            raise ValueError(f"'labels' holds a label twice: {repeated!r}")
        self._check_metrics()
        return self

    def _check_own_task(self) -> None:
        if self.dev is None and self.dev_fraction is None:
            raise ValueError(
                f"task {self.name!r} has no evaluation split; name a file with the key 'dev', or "
                "cut one from the training rows with 'dev_fraction: 0.1' "
                f"(only the GLUE tasks {', '.join(GLUE)} are found at the hub)"
            )
        missing = [key for key in ("train", "sentence_columns") if getattr(self, key) is None]
        if missing:
            raise ValueError(
                f"task {self.name!r} is none of GLUE's ({', '.join(GLUE)}), so it needs the key "
                f"{missing[0]!r}"
            )
        if self.regression and self.labels is not None:
            raise ValueError("a regression task has scores, not 'labels'; remove one of the two")

    def _check_metrics(self) -> None:
        regression = self.regression or (self.name in GLUE and not GLUE[self.name].labels)
        known = [name for name in METRICS if (name in REGRESSION_METRICS) == regression]
        for metric in self.metrics or ():
            if metric not in known:
                kind = "regression" if regression else "classification"
                raise ValueError(f"unknown metric {metric!r} for {kind}; known: {', '.join(known)}")

    @property
    def has_pairs(self) -> bool:
        """True if a row is a pair of texts."""
        return len(_sentence_candidates(self)[0]) == 2


@dataclass(frozen=True)
class Task:
    """Loaded task; every table has the columns of `schemas.EXAMPLES`.

    `labels` are the class names in order, empty for regression. The first of `metrics` is the main
    one. `sources` are the sources of the splits, `remarks` describe skipped rows and rewritten
    labels.
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
        splits: dict[Split, pa.Table] = {"train": self.train, "dev": self.dev}
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
    regression = not glue.labels if glue else config.regression
    score_range = glue.score_range if glue else None
    listed = (glue.labels if glue else config.labels) or None
    rules = LabelRules(config.label_column, listed, config.unlabeled_rows, options)
    raw: dict[Split, tuple[str, pa.Table]] = {"train": _read(config, "train", resolve, rules)}
    if config.dev_fraction is None:
        raw["dev"] = _read(config, "dev", resolve, rules)
    if config.test is not None:
        raw["test"] = _read(config, "test", resolve, rules)
    labels: tuple[str, ...] = ()
    if not regression:
        source, table = raw["train"]
        labels = listed or class_names(source, label_column(source, table, rules), rules)
    if config.max_train_rows is not None:
        source, table = raw["train"]
        raw["train"] = (source, table.slice(0, config.max_train_rows))
    splits = {
        split: to_examples(
            source,
            table,
            _sentence_columns(source, table.column_names, config),
            rules,
            labels=labels,
            score_range=score_range,
        )
        for split, (source, table) in raw.items()
    }
    tables = {split: examples.table for split, examples in splits.items()}
    sources: dict[str, str] = {split: source for split, (source, _) in raw.items()}
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
        by = "score" if regression else "class"
        num_cut, num_left = tables["dev"].num_rows, tables["train"].num_rows
        remarks.append(
            f"dev: {num_cut:,} of the {num_cut + num_left:,} training rows, drawn by {by}, are "
            f"dev rows and not trained on (dev_fraction {config.dev_fraction:g}, seed "
            f"{config.dev_seed})"
        )
    metrics = config.metrics or (
        glue.metrics if glue else ("pearson", "spearman") if regression else ("accuracy",)
    )
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
    )


def _read(
    config: TaskConfig, split: Split, resolve: Callable[[str], Location], rules: LabelRules
) -> tuple[str, pa.Table]:
    """Read a split; returns its source, and its sentence and label columns."""
    value = getattr(config, split)
    if value is not None:
        path = resolve(value)
        names = [name for columns in _sentence_candidates(config) for name in columns]
        source = shown(path)

        def choose(found: Sequence[str]) -> list[str]:
            columns = _sentence_columns(source, found, config)
            require_label_column(source, found, rules)
            return [*columns, rules.column]

        layout = Layout(config.columns, config.quoting)
        candidates = [*names, rules.column]
        table = read_table(path, candidates, choose=choose, text_columns=names, layout=layout)
    else:
        assert split != "test"
        table = load_from_hub(config.name, split)
        source = f"{HUB_DATASET} {config.name} {split}"
    if table.num_rows == 0:
        raise InputError(f"{source}: holds no rows; the {split} split of a task needs some")
    return source, table


def _sentence_columns(source: str, names: Sequence[str], config: TaskConfig) -> tuple[str, ...]:
    candidates = _sentence_candidates(config)
    for columns in candidates:
        if set(columns) <= set(names):
            return columns
    wanted = " or ".join(", ".join(columns) for columns in dict.fromkeys(candidates))
    raise InputError(
        f"{source}: the sentences are expected in {wanted}; the columns are "
        f"{', '.join(names)}; name yours with the key 'task.sentence_columns'"
    )


def _sentence_candidates(config: TaskConfig) -> list[tuple[str, ...]]:
    """Possible names of the sentence columns, in order of preference."""
    if config.sentence_columns is not None:
        return [config.sentence_columns]
    glue = GLUE[config.name].sentence_columns
    return [glue, _PLAIN_COLUMNS[len(glue)]]
