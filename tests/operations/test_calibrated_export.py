"""The calibration in an ONNX file, and predictions from it."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from calibrations import CALIBRATION
from test_int8_export import TEXTS, predictions_of
from tiny_models import save_tiny_classifier

from raykd.cli.app import _exit_code as run
from raykd.errors import InputError
from raykd.models.calibration import write_calibration
from raykd.operations.export import export_model
from raykd.operations.export_gate import Reduction
from raykd.prediction.classifier import Classifier
from raykd.prediction.config import PredictConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_classifier(
        tmp_path_factory.mktemp("calibrated") / "student", labels=CALIBRATION.labels
    )
    write_calibration(folder, CALIBRATION)
    return folder


@pytest.fixture(scope="module")
def exported(model):
    out = model.parent / "student.onnx"
    assert run(["export", str(model), "--out", str(out)]) == 0
    return out


def about(file):
    metadata = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    return json.loads(metadata["raykd"])


def test_the_file_has_the_calibration_and_predictions_use_it(model, exported):
    assert about(exported)["calibration"] == CALIBRATION.model_dump(mode="json")
    classifier = Classifier.load(str(exported), PredictConfig())
    assert classifier.calibration == CALIBRATION
    expected, found = predictions_of(model), predictions_of(exported)
    assert found["prediction"].equals(expected["prediction"])
    assert found["probability"].to_pylist() == pytest.approx(
        expected["probability"].to_pylist(), abs=1e-5
    )
    # The logits are those of the model, without the temperature.
    logits = classifier.outputs_of(TEXTS, None, device="cpu", with_embeddings=False).logits
    shares = np.exp(logits / 1.75) / np.exp(logits / 1.75).sum(axis=1, keepdims=True)
    assert found["probability"].to_pylist() == pytest.approx(shares.max(axis=1), abs=1e-6)
    own = Classifier.load(str(exported), PredictConfig(calibrated=False))
    assert own.temperature == 1


@pytest.mark.slow
def test_int8_weights_keep_the_calibration_and_the_gate_does_not_depend_on_it(model, tmp_path):
    dev = tmp_path / "dev.csv"
    labels = predictions_of(model)["prediction"].to_pylist()
    lines = [f"{text},{label}" for text, label in zip(TEXTS, labels, strict=True)]
    dev.write_text("\n".join(["text,label", *lines]) + "\n")
    settings = Reduction("dynamic", max_loss=100, dev=dev)
    int8 = export_model(str(model), tmp_path / "int8.onnx", settings)
    assert about(tmp_path / "int8.onnx")["calibration"]["temperature"] == 1.75
    assert int8.calibration == CALIBRATION
    other = save_tiny_classifier(tmp_path / "plain", labels=CALIBRATION.labels)
    plain = export_model(str(other), tmp_path / "plain.onnx", settings)
    assert plain.calibration is None
    assert (int8.reduced.scores, int8.whole.scores) == (plain.reduced.scores, plain.whole.scores)
    assert int8.difference == plain.difference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0}, "temperature: Input should be greater than 0"),
        ({"temperature": float("nan")}, "temperature: Input should be a finite number"),
        ({"labels": ["good", "bad"]}, "the calibration is of the classes good, bad, but"),
    ],
)
def test_a_damaged_calibration_in_a_file_is_refused(exported, tmp_path, changes, message):
    file = onnx.load(exported)
    for entry in file.metadata_props:
        if entry.key == "raykd":
            values = json.loads(entry.value)
            values["calibration"] |= changes
            entry.value = json.dumps(values)
    onnx.save(file, tmp_path / "damaged.onnx")
    with pytest.raises(InputError, match=message):
        Classifier.load(str(tmp_path / "damaged.onnx"), PredictConfig())


def test_a_file_without_a_calibration_is_predicted_as_before(exported, tmp_path):
    file = onnx.load(exported)
    for entry in file.metadata_props:
        if entry.key == "raykd":
            values = json.loads(entry.value)
            del values["calibration"]
            entry.value = json.dumps(values)
    onnx.save(file, tmp_path / "old.onnx")
    assert Classifier.load(str(tmp_path / "old.onnx"), PredictConfig()).temperature == 1


def test_a_model_with_the_calibration_of_another_one_is_not_exported(tmp_path):
    folder = save_tiny_classifier(tmp_path / "student", labels=("x", "y"))
    write_calibration(folder, CALIBRATION)
    with pytest.raises(InputError, match="the calibration is of the classes bad, good, but"):
        export_model(str(folder), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
