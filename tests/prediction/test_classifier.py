"""Predictions for a table of rows, against transformers row by row."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import save_tiny_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raykd.errors import InputError
from raykd.prediction.classifier import Classifier
from raykd.prediction.config import PredictConfig

TEXTS = ["good film", "the plot was awful and the ending very dull", "fine", "a book of poor music"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_classifier(tmp_path_factory.mktemp("model"))


def expected_of(model, *texts):
    """Logits and mean vector of each row, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.no_grad():
        outputs = [
            classifier(**tokenizer(*row, return_tensors="pt"), output_hidden_states=True)
            for row in zip(*texts, strict=True)
        ]
    logits = np.array([output.logits[0].numpy() for output in outputs])
    return logits, np.array([o.hidden_states[-1][0].mean(0).numpy() for o in outputs])


def predicted(model, table, **settings):
    config = PredictConfig(**settings)
    classifier = Classifier.load(str(model), config)
    result = classifier.predicted(pa.table(table), config, device="cpu")
    assert result.schema == pa.schema([*pa.table(table).schema, *classifier.added_fields(config)])
    return result.to_pydict()


def test_classes_and_probabilities_are_those_of_transformers(model):
    logits, vectors = expected_of(model, TEXTS)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = predicted(model, {"text": TEXTS, "id": [1, 2, 3, 4]}, with_embeddings=True)
    labels = ["negative", "positive"]
    assert found["id"] == [1, 2, 3, 4]
    assert found["prediction"] == [labels[place] for place in logits.argmax(1)]
    assert found["probability"] == pytest.approx(shares.max(1), abs=1e-5)
    assert [row["positive"] for row in found["probabilities"]] == pytest.approx(
        shares[:, 1], abs=1e-5
    )
    assert np.array(found["embedding"]) == pytest.approx(vectors, abs=1e-4)


def test_both_texts_of_a_pair_are_read(model):
    other = TEXTS[::-1]
    logits, _ = expected_of(model, TEXTS, other)
    found = predicted(model, {"q": TEXTS, "a": other}, text_columns=("q", "a"))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["probability"] == pytest.approx(shares.max(1), abs=1e-5)


def test_rows_without_text_are_not_predicted(model):
    found = predicted(model, {"text": [None, TEXTS[0], " \n", TEXTS[1]]}, threshold=0.5)
    alone = predicted(model, {"text": [TEXTS[0], TEXTS[1]]}, threshold=0.5)
    for name in ("prediction", "probabilities", "is_uncertain"):
        assert found[name] == [None, alone[name][0], None, alone[name][1]]
    assert predicted(model, {"text": [None, ""]})["prediction"] == [None, None]


@pytest.mark.parametrize("values", [[1, 22], [True, None], [["good"], ["bad"]]])
def test_values_that_are_no_text_are_refused(model, values):
    with pytest.raises(InputError, match="column 'text' has type .*, text is expected"):
        predicted(model, {"text": values})
    as_bytes = predicted(model, {"text": [text.encode() for text in TEXTS]})
    assert as_bytes["prediction"] == predicted(model, {"text": TEXTS})["prediction"]


def test_rows_below_the_threshold_are_marked(model):
    probability = predicted(model, {"text": TEXTS})["probability"]
    threshold = sorted(probability)[2] - 1e-6
    found = predicted(model, {"text": TEXTS}, threshold=threshold)
    assert found["is_uncertain"] == [value < threshold for value in probability]
    assert sum(found["is_uncertain"]) == 2


def test_a_regression_has_scores_and_no_probabilities(tmp_path):
    model = save_tiny_classifier(tmp_path / "scores", labels=())
    logits, _ = expected_of(model, TEXTS)
    found = predicted(model, {"text": TEXTS})
    assert list(found) == ["text", "prediction"]
    assert found["prediction"] == pytest.approx(logits[:, 0], abs=1e-5)
    with pytest.raises(InputError, match="predicts a score and no probabilities"):
        predicted(model, {"text": TEXTS}, threshold=0.5)


def test_what_the_model_does_not_support_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="max_length"):
        predicted(model, {"text": TEXTS}, max_length=100_000)
    twins = save_tiny_classifier(tmp_path / "twins", labels=("same", "same"))
    with pytest.raises(InputError, match="two of its classes have the same name"):
        predicted(twins, {"text": TEXTS})


def test_a_length_without_room_for_the_text_is_refused(model):
    # [CLS], [SEP], and another [SEP] for a pair.
    with pytest.raises(InputError, match="max_length 2: 2 tokens of a row .* set it to 3 or more"):
        predicted(model, {"text": TEXTS}, max_length=2)
    assert len(set(predicted(model, {"text": TEXTS}, max_length=3)["probability"])) > 1
    pair = {"text_columns": ("q", "a"), "max_length": 4}
    with pytest.raises(InputError, match="max_length 4: 3 tokens of a row .* set it to 5 or more"):
        predicted(model, {"q": TEXTS, "a": TEXTS}, **pair)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_columns": ()}, "text columns none"),
        ({"text_columns": ("a", "a")}, "give one column, or the two of a pair"),
        ({"text_columns": ("a", "b", "c")}, "give one column, or the two of a pair"),
        ({"threshold": 1.5}, "the threshold is 1.5"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PredictConfig(**settings)
