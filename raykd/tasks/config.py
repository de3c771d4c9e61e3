"""Settings of a labeled task."""

from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from raykd.config import Config
from raykd.storage.delimited import Quoting
from raykd.tasks.dataset import TaskDatasetConfig
from raykd.tasks.glue import GLUE
from raykd.tasks.labels.cells import label_name, repeated_label
from raykd.tasks.labels.rules import UnlabeledRows
from raykd.tasks.metrics import check_metrics

Split = Literal["train", "dev", "test"]
LABEL_SEPARATOR = ";"
SPLITS: tuple[Split, ...] = get_args(Split)

# Sentence columns of local GLUE files, which may differ from those on the hub.
_PLAIN_COLUMNS = {1: ("sentence",), 2: ("sentence1", "sentence2")}

Label = Annotated[str, BeforeValidator(label_name, json_schema_input_type=str | bool | int | float)]


class TaskConfig(Config):
    """Settings of a labeled task: its splits, columns, labels and metrics.

    GLUE's hidden test sets have placeholders instead of labels, so `test` has no default.
    """

    name: str = Field(
        min_length=1,
        description="Name of the task. A GLUE name (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte) "
        "fixes columns, labels and metrics; any other task needs sentence_columns, training rows "
        "(train or dataset), and dev rows (dev, dataset.dev, dev_fraction or folds).",
    )
    train: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="File or URL of the training rows (CSV, TSV, JSON lines or Parquet), or a list "
        "of several. Default for GLUE: the hub.",
    )
    dev: str | None = Field(
        None,
        description="File or URL of the rows on which models are scored and chosen. "
        "Default for GLUE: the hub's validation split. Any other task needs this key, "
        "`dataset.dev`, `dev_fraction` or `folds`.",
    )
    dev_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the training rows to use as dev rows instead, if there is no dev "
        "file; they are not trained on. The same share of each class is drawn (for regression, of "
        "each of ten ranges of scores). Rows with the same text are in the same split.",
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="Instead of dev rows: number of folds of `raykd crossval`, each of which holds "
        "out its part of the training rows. The folds are stratified by class (for regression, by "
        "score). Rows with the same text are in the same fold.",
    )
    fold: int | None = Field(
        None,
        ge=1,
        description="With `folds`: the fold, from 1, whose rows are the dev rows of this run. "
        "`raykd crossval` sets it.",
    )
    dev_seed: int = Field(
        0, ge=0, lt=2**64, description="Seed of the draw of `dev_fraction` or `folds`."
    )
    test: str | None = Field(
        None, description="File or URL of rows that are scored once, at the end."
    )
    dataset: TaskDatasetConfig | None = Field(
        None,
        description="Dataset of the Hugging Face hub, or a folder that `datasets` can load, with "
        "the splits that are not files.",
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
    labels: tuple[Label, ...] | None = Field(
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
    multi_label: bool = Field(
        False,
        description="Whether a row has any number of classes, also none: the label column has a "
        "list of class names (Parquet, JSON lines), or a text with the names joined by "
        "label_separator, empty for no class.",
    )
    label_separator: str | None = Field(
        None,
        min_length=1,
        description="With multi_label: text between the class names of a row. Default: ';'.",
    )
    regression: bool = Field(
        False,
        description="Whether the label is a number to predict (squared error) and not a class.",
    )
    metrics: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Metrics to report, of accuracy, f1 (two classes) and matthews; pearson and "
        "spearman for regression, or f1_micro, f1_macro, lrap and subset_accuracy for multi_label; "
        "the first one chooses checkpoints and trials. Default: GLUE's, else accuracy, or all of "
        "the task's kind.",
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
        self._check_folds()
        self._check_dataset()
        if not self.cuts_dev and self.dev_seed:
            raise ValueError(
                "'dev_seed' is the seed of 'dev_fraction' or 'folds', and neither is set"
            )
        if self.name in GLUE:
            if self.labels is not None or self.regression or self.multi_label:
                raise ValueError(
                    f"GLUE fixes the labels of {self.name!r}; remove 'labels', 'regression' and "
                    "'multi_label', or rename the task"
                )
        else:
            self._check_own_task()
        if self.labels and (repeated := repeated_label(self.labels)) is not None:
            raise ValueError(f"'labels' holds a label twice: {repeated!r}")
        if self.multi_label and self.regression:
            raise ValueError("'regression' has scores, and 'multi_label' classes; remove one")
        if self.label_separator is not None and not self.multi_label:
            raise ValueError("'label_separator' belongs to 'multi_label: true', which is not set")
        self._check_metrics()
        return self

    def _check_folds(self) -> None:
        if self.folds is None:
            if self.fold is not None:
                raise ValueError("'fold' is one of 'folds', which is not set")
            return
        if self.multi_label:
            raise ValueError(
                "'folds' are stratified by class, and with 'multi_label' a row has "
                "several; name dev rows, or set 'dev_fraction'"
            )
        if self.fold is not None and self.fold > self.folds:
            raise ValueError(f"'fold' is {self.fold}, and there are {self.folds} folds")
        for key in ("dev", "dev_fraction"):
            if getattr(self, key) is not None:
                raise ValueError(f"cross-validation holds out training rows; remove {key!r}")
        if self.dataset is not None and self.dataset.dev is not None:
            raise ValueError("cross-validation holds out training rows; remove 'dataset.dev'")

    @property
    def cuts_dev(self) -> bool:
        """True if the dev rows are some of the training rows."""
        return self.dev_fraction is not None or self.folds is not None

    def _check_dataset(self) -> None:
        if self.dataset is None:
            return
        for split in ("train", "dev", "test"):
            if getattr(self, split) is not None and getattr(self.dataset, split) is not None:
                raise ValueError(
                    f"'{split}' is a file, and 'dataset.{split}' a split; remove '{split}', or set "
                    f"'dataset.{split}: null'"
                )
        if self.dataset.dev is not None and self.dev_fraction is not None:
            raise ValueError(
                "'dataset.dev' names the dev split, and 'dev_fraction' cuts it from the training "
                "rows; remove one of the two"
            )
        if not self.has("dev") and not self.cuts_dev:
            raise ValueError(
                "the task has no evaluation split; name it with the key 'dataset.dev', such as "
                "validation, cut one from the training rows with 'dev_fraction: 0.1', or, with few "
                "rows, use raykd crossval"
            )
        if not self.has("train"):
            raise ValueError("the task has no training rows; set 'dataset.train' or 'train'")

    def files_of(self, split: Split) -> tuple[str, ...]:
        """Files and URLs of a split; empty if it is one of a dataset."""
        value = getattr(self, split)
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else tuple(value)

    def has(self, split: Split) -> bool:
        """True if the split is a file or one of the dataset's."""
        in_dataset = self.dataset is not None and getattr(self.dataset, split) is not None
        return in_dataset or getattr(self, split) is not None

    def _check_own_task(self) -> None:
        if not self.has("dev") and not self.cuts_dev:
            raise ValueError(
                f"task {self.name!r} has no evaluation split; name a file with the key 'dev', cut "
                "one from the training rows with 'dev_fraction: 0.1', or, with few rows, use raykd "
                "crossval "
                f"(only the GLUE tasks {', '.join(GLUE)} are found at the hub)"
            )
        missing = [] if self.has("train") else ["train"]
        if self.sentence_columns is None:
            missing.append("sentence_columns")
        if missing:
            raise ValueError(
                f"task {self.name!r} is none of GLUE's ({', '.join(GLUE)}), so it needs the key "
                f"{missing[0]!r}"
            )
        if self.regression and self.labels is not None:
            raise ValueError("a regression task has scores, not 'labels'; remove one of the two")

    def _check_metrics(self) -> None:
        check_metrics(
            self.metrics or (), regression=self.is_regression, multi_label=self.multi_label
        )

    @property
    def is_regression(self) -> bool:
        """True if the label is a score, also for GLUE's tasks."""
        return not GLUE[self.name].labels if self.name in GLUE else self.regression

    @property
    def separator(self) -> str | None:
        """Text between the classes of a row; None if a row has one class or a score."""
        return (self.label_separator or LABEL_SEPARATOR) if self.multi_label else None

    @property
    def known_labels(self) -> tuple[str, ...] | None:
        """Classes that the recipe or GLUE names; None for those of the train split, or a score."""
        return (GLUE[self.name].labels if self.name in GLUE else self.labels) or None

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """Metrics to report, the main one first."""
        if self.metrics is not None:
            return self.metrics
        if self.name in GLUE:
            return GLUE[self.name].metrics
        if self.multi_label:
            return ("f1_micro", "f1_macro", "lrap", "subset_accuracy")
        return ("pearson", "spearman") if self.regression else ("accuracy",)

    @property
    def has_pairs(self) -> bool:
        """True if a row is a pair of texts."""
        return len(self.sentence_candidates()[0]) == 2

    def sentence_candidates(self) -> list[tuple[str, ...]]:
        """Possible names of the sentence columns, in order of preference."""
        if self.sentence_columns is not None:
            return [self.sentence_columns]
        glue = GLUE[self.name].sentence_columns
        return [glue, _PLAIN_COLUMNS[len(glue)]]
