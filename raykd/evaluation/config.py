"""Settings of evaluation sets: more rows, in or out of the task's domain, to score models on."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from raykd.config import Config
from raykd.storage.delimited import Quoting
from raykd.tasks.config import Label, TaskConfig
from raykd.tasks.labels.cells import key_of, label_name, repeated_label
from raykd.tasks.labels.rules import UnlabeledRows
from raykd.tasks.metrics import check_metrics

# A name becomes a part of folders' names.
_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"
_RESERVED_NAMES = ("train", "dev", "test")


class SetClasses(NamedTuple):
    """Classes of an evaluation set; both are empty for regression.

    Attributes:
        labels: the set's classes in order.
        targets: index of the set's class of each class of the task.
    """

    labels: tuple[str, ...]
    targets: tuple[int, ...]


class EvaluationSetConfig(Config):
    """A file of labeled rows that every model is scored on; nothing is trained or chosen by it."""

    name: str = Field(
        pattern=_NAME_PATTERN,
        description="Name of the set in the report: letters, digits, '_' and '-'; not train, dev "
        "or test.",
    )
    path: str = Field(
        min_length=1,
        description="File or URL of the rows (CSV, TSV, JSON lines or Parquet), also "
        "hf://datasets/OWNER/NAME@REVISION/PATH.",
    )
    sentence_columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="Column of the text, or the two columns of a pair of texts, as many as the "
        "task's. Default: those of the task.",
    )
    label_column: str | None = Field(
        None, description="Column of the label, or of the score. Default: that of the task."
    )
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the columns of a CSV or TSV file without a header line.",
    )
    quoting: Quoting = Field(
        "auto",
        description="Whether quotation marks enclose fields: standard, none, or auto (CSV: yes; "
        "TSV: where every line is as a writer with quotes would write it).",
    )
    labels: tuple[Label, ...] | None = Field(
        None,
        min_length=2,
        description="The set's classes in order; F1 is that of the second, and where no class is "
        "a number, the numbers 0, 1, ... in the file are positions in this list. Any other label "
        "is refused. Default: the task's classes.",
    )
    label_map: dict[Annotated[str, BeforeValidator(label_name)], Label] | None = Field(
        None,
        description="The set's class of each class of the task, if the classes differ. The "
        "probability of a class of the set is the sum of those of the task's classes that are "
        "mapped to it, and the most probable class is the prediction.",
    )
    unlabeled_rows: UnlabeledRows = Field(
        "error",
        description="Rows without a label (null, NaN, an empty cell, a placeholder such as '-', "
        "and, where classes are listed, any other label): error, or skip to leave them out and "
        "report their number.",
    )
    metrics: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Metrics to report, those that a task of this kind can have. Default: those of "
        "the task.",
    )

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in _RESERVED_NAMES:
            raise ValueError(f"{name!r} is a split of the task; choose another name for the set")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.labels and (repeated := repeated_label(self.labels)) is not None:
            raise ValueError(f"'labels' holds a label twice: {repeated!r}")
        if self.label_map is not None:
            if self.labels is None:
                raise ValueError("'label_map' needs the set's classes, in order, as 'labels'")
            if (repeated := repeated_label(list(self.label_map))) is not None:
                raise ValueError(f"'label_map' holds a class of the task twice: {repeated!r}")
        return self

    def check(self, task: TaskConfig) -> None:
        """Compare with the task what is known before a file is read.

        Raises:
            ValueError: names the key that does not fit the task.
        """
        num_columns = 2 if task.has_pairs else 1
        if self.sentence_columns is not None and len(self.sentence_columns) != num_columns:
            wanted = "two texts, as a row of the task is a pair" if task.has_pairs else "one text"
            raise ValueError(
                f"'sentence_columns' names {', '.join(self.sentence_columns)}; a model of the task "
                f"{task.name!r} reads {wanted}"
            )
        if task.is_regression and (self.labels or self.label_map):
            raise ValueError(
                f"the task {task.name!r} is a regression, whose sets have scores; remove 'labels' "
                "and 'label_map'"
            )
        if task.multi_label and self.label_map is not None:
            raise ValueError(
                f"the task {task.name!r} is multi-label: a probability of a merged class is not "
                "the sum of those of its classes; remove 'label_map'"
            )
        check_metrics(
            self.metrics or (), regression=task.is_regression, multi_label=task.multi_label
        )
        if task.is_regression:
            return
        labels = self.labels or task.known_labels
        if task.known_labels:
            self.classes(task.known_labels)
        if "f1" in self.reported_metrics(task) and labels and len(labels) != 2:
            raise ValueError(
                f"metric 'f1' is that of the second of two classes, and the set has {len(labels)}: "
                f"{', '.join(labels)}; set 'metrics: [accuracy]'"
            )

    def reported_metrics(self, task: TaskConfig) -> tuple[str, ...]:
        """Metrics to report, the main one first."""
        return self.metrics or task.reported_metrics

    def classes(self, task_labels: Sequence[str]) -> SetClasses:
        """Classes of the set, and the one of each class of the task.

        Args:
            task_labels: classes of the task; empty for regression.

        Raises:
            ValueError: a class of either side has no counterpart.
        """
        labels = self.labels or tuple(task_labels)
        numbers = {key_of(name): number for number, name in enumerate(labels)}
        keys = [key_of(name) for name in task_labels]
        if self.label_map is not None:
            mapped = {key_of(name): key_of(one) for name, one in self.label_map.items()}
            if unknown := [name for name in self.label_map if key_of(name) not in keys]:
                raise ValueError(
                    f"'label_map' maps {_names(unknown)}, no class of the task; its classes are "
                    f"{_names(task_labels)}"
                )
            if missing := [name for name in task_labels if key_of(name) not in mapped]:
                raise ValueError(
                    f"'label_map' lacks the task's class {_names(missing)}; map every class of the "
                    f"task to one of {_names(labels)}"
                )
            if wrong := [one for one in self.label_map.values() if key_of(one) not in numbers]:
                raise ValueError(
                    f"'label_map' maps to {_names(wrong)}, none of the set's 'labels': "
                    f"{_names(labels)}"
                )
            keys = [mapped[key] for key in keys]
        elif set(keys) != set(numbers):
            raise ValueError(
                f"'labels' are {_names(labels)}, and the task's classes {_names(task_labels)}; add "
                "'label_map: {TASK_CLASS: SET_CLASS, ...}' with every class of the task"
            )
        if never := [name for name in labels if key_of(name) not in keys]:
            raise ValueError(
                f"'label_map' maps no class of the task to {_names(never)}, so no model can answer "
                "it; merge this class with another in the file, or leave its rows out: remove it "
                "from 'labels' and set 'unlabeled_rows: skip'"
            )
        return SetClasses(labels, tuple(numbers[key] for key in keys))


class EvaluationConfig(Config):
    """Settings of the evaluation."""

    sets: tuple[EvaluationSetConfig, ...] = Field(
        (),
        description="Rows besides dev and test that teacher, baselines and students are scored "
        "on, in the report, results.json and the model card.",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.sets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sets have the name {name!r}; rename one of them")
        return self

    @property
    def paths(self) -> list[str]:
        """Files and URLs of the sets."""
        return [one.path for one in self.sets]

    def check(self, task: TaskConfig) -> None:
        """Compare the sets with the task.

        Raises:
            ValueError: names the set, and the key that does not fit the task.
        """
        for number, one in enumerate(self.sets):
            try:
                one.check(task)
            except ValueError as error:
                raise ValueError(f"evaluation.sets.{number} ({one.name}): {error}") from None


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(names)))
