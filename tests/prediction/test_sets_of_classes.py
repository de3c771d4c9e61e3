"""Predictions of multi-label models: lists of classes, and the sigmoid of each logit."""

import json

import pyarrow as pa
import pytest
from tiny_models import save_tiny_classifier
from transformers import pipeline

from raykd.errors import InputError
from raykd.operations.export import export_model
from raykd.prediction.classifier import Classifier
from raykd.prediction.config import PredictConfig

TEXTS = ["good film", "the plot was awful and the ending very dull", "", "a book of poor music"]
LABELS = ("plot", "film", "book")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_classifier(tmp_path_factory.mktemp("model"), labels=LABELS)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"problem_type": "multi_label_classification"}
    path.write_text(json.dumps(config))
    return folder


def predicted(model, **settings):
    config = PredictConfig(**settings)
    classifier = Classifier.load(str(model), config)
    table = classifier.predicted(pa.table({"text": TEXTS}), config, device="cpu")
    assert table.schema.names == ["text", *(f.name for f in classifier.added_fields(config))]
    return table.to_pydict()


def shares_of(model):
    """Probabilities of transformers, which has the sigmoid for this problem_type."""
    classify = pipeline("text-classification", model=str(model), top_k=None)
    texts = [text for text in TEXTS if text]
    return [{one["label"]: one["score"] for one in row} for row in classify(texts)]


def test_probabilities_are_those_of_transformers_and_classes_have_at_least_one_half(model):
    found = predicted(model)
    assert "probability" not in found
    assert found["prediction"][2] is None
    assert found["probabilities"][2] is None
    rows = [place for place, text in enumerate(TEXTS) if text]
    for place, shares in zip(rows, shares_of(model), strict=True):
        assert found["probabilities"][place] == pytest.approx(shares, abs=1e-5)
        expected = [label for label in LABELS if shares[label] >= 0.5]
        assert found["prediction"][place] == expected


def test_a_threshold_replaces_one_half_and_marks_no_row(model):
    found = predicted(model, threshold=0.001)
    assert "is_uncertain" not in found
    assert found["prediction"][0] == list(LABELS)
    highest = max(found["probabilities"][0].values())
    assert predicted(model, threshold=highest + 1e-6)["prediction"][0] == []
    assert len(predicted(model, threshold=highest - 1e-6)["prediction"][0]) == 1


def test_a_precision_and_a_file_for_glue_are_refused_with_the_reason(model):
    for settings in ({"precision": 0.9}, {"glue": "sst2"}):
        with pytest.raises(InputError, match="predicts any number of classes per row, and"):
            Classifier.load(str(model), PredictConfig(**settings))


def test_an_exported_file_predicts_the_same_sets(model, tmp_path):
    pytest.importorskip("onnxruntime")
    export_model(str(model), tmp_path / "model.onnx")
    of_file, of_model = predicted(tmp_path / "model.onnx"), predicted(model)
    assert of_file["prediction"] == of_model["prediction"]
    for row, other in zip(of_file["probabilities"], of_model["probabilities"], strict=True):
        assert row == pytest.approx(other, abs=1e-4) if row else other is None
