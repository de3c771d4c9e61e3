"""Settings of predictions, and the names of the columns that are added to the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raykd.errors import InputError
from raykd.storage.delimited import AS_NAMED, Layout


@dataclass(frozen=True)
class PredictConfig:
    """Settings of predictions.

    Attributes:
        text_columns: the column of the text, or the two of a pair.
        threshold: smallest probability of a prediction that is not marked as uncertain; None: there
            is no such mark. Of a multi-label model: smallest probability of a predicted class;
            None: 0.5.
        precision: share of right predictions wanted among those without the mark; the threshold is
            that of the model's calibration. None: the threshold is given, or there is none.
        calibrated: whether probabilities have the temperature of the model's calibration.
        with_embeddings: whether to add an embedding of each row.
        max_length: tokens per row, longer ones are cut; None: what the model was trained with, at
            most 512.
        prefix: beginning of the names of the added columns.
        glue: test set of GLUE (`glue_file.GLUE_FILES`) for whose server a file is written; None:
            none.
        exclude: patterns of files and folders to leave out (see `directories.list_files`).
        layout: format options of CSV and TSV files.

    Raises:
        InputError: a value is not as it should be.
    """

    text_columns: tuple[str, ...] = ("text",)
    threshold: float | None = None
    precision: float | None = None
    calibrated: bool = True
    with_embeddings: bool = False
    max_length: int | None = None
    prefix: str = ""
    glue: str | None = None
    exclude: tuple[str, ...] = ()
    layout: Layout = AS_NAMED

    def __post_init__(self) -> None:
        if len(self.text_columns) not in (1, 2) or len(set(self.text_columns)) < len(
            self.text_columns
        ):
            given = ", ".join(self.text_columns) or "none"
            raise InputError(
                f"predict: text columns {given}: give one column, or the two of a pair"
            )
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(
                f"predict: the threshold is {self.threshold}; give a probability between 0 and 1"
            )
        if self.precision is not None:
            self._check_precision(self.precision)
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"predict: max_length is {self.max_length}; give 1 or more tokens")

    def _check_precision(self, precision: float) -> None:
        if not 0 < precision < 1:
            raise InputError(f"predict: the precision is {precision}; give a share between 0 and 1")
        if self.threshold is not None:
            raise InputError("predict: give a threshold or a precision, not both")
        if not self.calibrated:
            raise InputError(
                "predict: the threshold for a precision is one of calibrated probabilities; leave "
                "out uncalibrated, or give a threshold"
            )

    @property
    def prediction(self) -> str:
        """Column of the most probable class, the score, or the list of predicted classes."""
        return f"{self.prefix}prediction"

    @property
    def probability(self) -> str:
        """Column of the probability of that class."""
        return f"{self.prefix}probability"

    @property
    def probabilities(self) -> str:
        """Column of the probabilities of all classes, by name."""
        return f"{self.prefix}probabilities"

    @property
    def is_uncertain(self) -> str:
        """Column that marks rows with a probability below the threshold."""
        return f"{self.prefix}is_uncertain"

    @property
    def embedding(self) -> str:
        """Column of the mean of the last layer's vectors."""
        return f"{self.prefix}embedding"

    def check_names(self, columns: Sequence[str], source: str) -> None:
        """Refuse input columns that have the name of an added one.

        Raises:
            InputError: names the column, the file and the remedy.
        """
        added = {self.prediction, self.probability, self.probabilities}
        added |= {self.is_uncertain, self.embedding}
        if taken := [name for name in columns if name in added]:
            raise InputError(
                f"{source}: already has a column {taken[0]!r}; choose a beginning for the added "
                f"columns, such as --prefix student_ (student_{taken[0]})"
            )

    def settings(self) -> dict[str, Any]:
        """Settings that determine the predictions, in addition to files, model and calibration."""
        columns = self.layout.columns
        return {
            "text_columns": list(self.text_columns),
            "threshold": self.threshold,
            "with_embeddings": self.with_embeddings,
            "prefix": self.prefix,
            **({} if self.glue is None else {"glue": self.glue}),
            "columns": None if columns is None else list(columns),
            "quoting": self.layout.quoting,
        }
