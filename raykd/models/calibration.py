"""Calibration of a classifier's probabilities: its temperature and thresholds, kept with the model.

The probabilities are `softmax(logits / temperature)`; the most probable class does not depend on
the temperature.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from raykd.errors import InputError
from raykd.storage.checked_json import from_checked_json, to_checked_json

CALIBRATION_FILE = "raykd_calibration.json"
# Precisions with a threshold, if it is reached: 50 % to 99 % in steps of one, 99.5 % and 99.9 %.
PRECISIONS = (*(percent / 100 for percent in range(50, 100)), 0.995, 0.999)
_REMEDY = "get the model from its run again"


class Threshold(BaseModel):
    """A threshold for the calibrated probability of the predicted class.

    Attributes:
        precision: wanted share of right answers, one of `PRECISIONS`.
        threshold: smallest probability with that share among the dev rows that reach it.
        num_answered: dev rows that reach a threshold that was chosen in the same way, together
            with the temperature, on other rows.
        num_right: rows among them whose prediction is right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: FiniteFloat = Field(ge=0, le=1)
    threshold: FiniteFloat = Field(gt=0, lt=1)
    num_answered: int = Field(ge=0)
    num_right: int = Field(ge=0)


class Calibration(BaseModel):
    """Calibration of a classifier.

    Attributes:
        temperature: divisor of the logits.
        labels: names of the classes, in the order of the logits.
        num_rows: dev rows on which temperature and thresholds were chosen.
        problem: why the temperature could not be estimated, and is 1; None if it was.
        thresholds: thresholds of the precisions that were reached, in ascending order; empty if
            there were too few rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: FiniteFloat = Field(gt=0)
    labels: tuple[str, ...]
    num_rows: int = Field(ge=0)
    problem: str | None = None
    thresholds: tuple[Threshold, ...] = ()

    def threshold_for(self, precision: float) -> Threshold | None:
        """Threshold of the next of `PRECISIONS` from this one up; None if it was not reached."""
        return next((one for one in self.thresholds if one.precision >= precision), None)


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write the calibration of the model in a folder."""
    text = to_checked_json(calibration.model_dump(mode="json"))
    (folder / CALIBRATION_FILE).write_text(text, encoding="utf-8")


def read_calibration(folder: Path) -> Calibration | None:
    """Read the calibration of the model in a folder; None if it has none.

    Raises:
        InputError: the file is damaged, or a value is not as it should be.
    """
    path = folder / CALIBRATION_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    values = from_checked_json(content)
    if values is None:
        raise InputError(f"{path}: damaged; {_REMEDY}")
    return parse_calibration(values, str(path))


def parse_calibration(values: Any, source: str) -> Calibration:
    """Check the values of a calibration.

    Raises:
        InputError: names the source, the key and the remedy.
    """
    try:
        return Calibration.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "calibration"
        raise InputError(f"{source}: {key}: {first['msg']}; {_REMEDY}") from None


def check_classes(calibration: Calibration, labels: tuple[str, ...], source: str) -> None:
    """Refuse the calibration of another classifier.

    Raises:
        InputError: the classes are not those of the model.
    """
    if calibration.labels != labels:
        raise InputError(
            f"{source}: the calibration is of the classes {', '.join(calibration.labels)}, but the "
            f"model has {', '.join(labels) or 'none'}; {_REMEDY}"
        )
