"""The file with a model's calibration, and what is refused in it."""

import pytest
from calibrations import CALIBRATION

from raykd.errors import InputError
from raykd.models.calibration import (
    CALIBRATION_FILE,
    check_classes,
    read_calibration,
    write_calibration,
)
from raykd.storage.checked_json import to_checked_json


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    assert read_calibration(tmp_path) is None
    write_calibration(tmp_path, CALIBRATION)
    assert read_calibration(tmp_path) == CALIBRATION


def test_the_threshold_is_that_of_the_next_precision_that_was_reached():
    assert CALIBRATION.threshold_for(0.5).threshold == 0.6
    assert CALIBRATION.threshold_for(0.9).threshold == 0.6
    assert CALIBRATION.threshold_for(0.901).threshold == 0.8
    assert CALIBRATION.threshold_for(0.951) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature: Input should be greater than 0"),
        ({"temperature": -2.0}, "temperature: Input should be greater than 0"),
        ({"temperature": float("nan")}, "temperature: Input should be a finite number"),
        ({"temperature": float("inf")}, "temperature: Input should be a finite number"),
        ({"temperature": "warm"}, "temperature: Input should be a valid number"),
        ({"labels": 3}, "labels: Input should be a valid tuple"),
        ({"thresholds": [{"precision": 0.9}]}, "thresholds.0.threshold: Field required"),
    ],
)
def test_values_without_a_meaning_are_refused_in_one_clear_error(tmp_path, changes, message):
    values = CALIBRATION.model_dump(mode="json") | changes
    (tmp_path / CALIBRATION_FILE).write_text(to_checked_json(values))
    with pytest.raises(InputError) as error:
        read_calibration(tmp_path)
    assert f"{tmp_path / CALIBRATION_FILE}: {message}" in str(error.value)
    assert str(error.value).endswith("; get the model from its run again")


def test_any_changed_byte_is_found(tmp_path):
    write_calibration(tmp_path, CALIBRATION)
    path = tmp_path / CALIBRATION_FILE
    content = path.read_bytes()
    place = content.index(b"1.75")
    for damaged in (content.replace(b"1.75", b"1.76"), content[:place], b"", b"\xff", b"[]"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"raykd_calibration\.json: damaged; get the model"):
            read_calibration(tmp_path)


@pytest.mark.parametrize("labels", [("good", "bad"), ("bad",), ()])
def test_the_calibration_of_other_classes_is_refused(labels):
    check_classes(CALIBRATION, ("bad", "good"), "model")
    with pytest.raises(InputError, match="model: the calibration is of the classes bad, good, but"):
        check_classes(CALIBRATION, labels, "model")
