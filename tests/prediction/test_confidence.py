"""Calibrated probabilities and thresholds for a precision, against a softmax by hand."""

import numpy as np
import pytest
from calibrations import CALIBRATION
from test_classifier import TEXTS, expected_of, predicted
from tiny_models import save_tiny_classifier

from raykd.errors import InputError
from raykd.models.calibration import CALIBRATION_FILE, Calibration, write_calibration
from raykd.prediction.classifier import Classifier
from raykd.prediction.confidence import with_threshold
from raykd.prediction.config import PredictConfig

LABELS = ("bad", "good")


@pytest.fixture
def model(tmp_path):
    return save_tiny_classifier(tmp_path / "model", labels=LABELS)


def calibrate(model, **changes):
    write_calibration(model, CALIBRATION.model_copy(update=changes))


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_probabilities_are_those_of_half_the_logits_at_temperature_2(model):
    logits, _ = expected_of(model, TEXTS)
    calibrate(model, temperature=2.0)
    found = predicted(model, {"text": TEXTS})
    shares = softmax(logits / 2)
    assert np.abs(shares - softmax(logits)).max() > 0.01
    assert found["probability"] == pytest.approx(shares.max(axis=1), abs=1e-5)
    assert [row["good"] for row in found["probabilities"]] == pytest.approx(shares[:, 1], abs=1e-5)
    own = predicted(model, {"text": TEXTS}, calibrated=False)
    assert own["probability"] == pytest.approx(softmax(logits).max(axis=1), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.7, 3.0, 100.0])
def test_no_temperature_changes_a_predicted_class(model, temperature):
    words = ("good", "bad", "film", "plot", "music", "voice")
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words]
    before = predicted(model, {"text": texts})["prediction"]
    assert set(before) == set(LABELS)
    calibrate(model, temperature=temperature)
    assert predicted(model, {"text": texts})["prediction"] == before


def test_the_threshold_is_compared_with_the_calibrated_probability(model):
    calibrate(model, temperature=2.0)
    probability = predicted(model, {"text": TEXTS})["probability"]
    threshold = sorted(probability)[2] - 1e-6
    found = predicted(model, {"text": TEXTS}, threshold=threshold)
    assert found["is_uncertain"] == [value < threshold for value in probability]
    assert sum(found["is_uncertain"]) == 2


def test_a_precision_becomes_its_threshold_and_the_evidence_is_stated():
    config, lines = with_threshold(PredictConfig(precision=0.92), CALIBRATION, "model")
    assert (config.threshold, config.precision) == (0.8, None)
    assert lines == [
        "probabilities are calibrated on 120 dev rows: temperature 1.75",
        "precision 0.95: threshold 0.8; of held-out dev rows it answers 58%, 66 of 70 right "
        "(94.3%, 95% interval 86.0% to 98.4%)",
    ]
    _, [first, _] = with_threshold(PredictConfig(precision=0.92), CALIBRATION, "m", "int8")
    assert first.endswith("temperature 1.75, of the model before it became int8")
    assert with_threshold(PredictConfig(calibrated=False), None, "m") == (
        PredictConfig(calibrated=False),
        [],
    )


@pytest.mark.parametrize(
    ("calibration", "precision", "message"),
    [
        (None, 0.9, "m has no calibration, so the threshold is unknown; give the directory"),
        (CALIBRATION, 0.96, "no threshold reached it on the 120 dev rows; the highest precision"),
        (CALIBRATION, 0.9995, "at most 0.999 can be given"),
        (
            Calibration(temperature=1, labels=LABELS, num_rows=7, problem="7 dev rows are too few"),
            0.9,
            "no threshold is known: 7 dev rows are too few; use more dev rows",
        ),
    ],
)
def test_a_precision_without_a_threshold_is_refused(calibration, precision, message):
    with pytest.raises(InputError, match=message):
        with_threshold(PredictConfig(precision=precision), calibration, "m")


def test_a_model_without_a_temperature_is_stated():
    [line] = with_threshold(PredictConfig(), None, "m")[1]
    assert line == "probabilities are not calibrated: m has no calibration"
    unknown = CALIBRATION.model_copy(update={"temperature": 1.0, "problem": "all rows are right"})
    [line] = with_threshold(PredictConfig(), unknown, "m")[1]
    assert line == "probabilities are not calibrated: all rows are right"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": 1.0}, "the precision is 1.0; give a share between 0 and 1"),
        ({"precision": float("nan")}, "the precision is nan"),
        ({"precision": 0.9, "threshold": 0.8}, "give a threshold or a precision, not both"),
        ({"precision": 0.9, "calibrated": False}, "leave out uncalibrated"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PredictConfig(**settings)


def test_only_a_temperature_changes_the_key_of_earlier_predictions(model):
    before = Classifier.load(str(model), PredictConfig()).settings()
    assert list(before) == ["max_length"]
    calibrate(model, temperature=2.0)
    assert Classifier.load(str(model), PredictConfig()).settings() == before | {"temperature": 2.0}
    assert Classifier.load(str(model), PredictConfig(calibrated=False)).settings() == before


def test_a_damaged_or_foreign_calibration_is_refused_unless_none_is_wanted(model):
    calibrate(model, labels=("good", "bad"))
    with pytest.raises(InputError, match="the calibration is of the classes good, bad, but"):
        predicted(model, {"text": TEXTS})
    (model / CALIBRATION_FILE).write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        predicted(model, {"text": TEXTS})
    assert len(predicted(model, {"text": TEXTS}, calibrated=False)["prediction"]) == len(TEXTS)


def test_a_regression_has_no_precision(tmp_path):
    model = save_tiny_classifier(tmp_path / "scores", labels=())
    calibrate(model)
    with pytest.raises(InputError, match="leave the precision out"):
        predicted(model, {"text": TEXTS}, precision=0.9)
    assert Classifier.load(str(model), PredictConfig()).calibration is None
