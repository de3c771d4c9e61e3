import numpy as np
import pyarrow as pa

from raykd.evaluation.predict import answers, to_predictions
from raykd.storage.schemas import EXAMPLES, PREDICTIONS


def examples(*labels):
    num = len(labels)
    rows = {"row_id": range(num), "sentence1": ["x"] * num, "sentence2": [None] * num}
    return pa.table({**rows, "label": labels}, schema=EXAMPLES)


def test_the_prediction_is_the_most_likely_class_and_the_first_of_ties():
    logits = np.array([[0.1, 0.3, 0.2], [1.0, 1.0, 0.0]], np.float32)
    assert answers(logits).tolist() == [1.0, 0.0]


def test_the_prediction_of_a_single_logit_is_the_score():
    assert answers(np.array([[2.5], [-1.0]], np.float32)).tolist() == [2.5, -1.0]


def test_predictions_keep_rows_labels_and_logits():
    logits = np.array([[0.0, 1.0], [2.0, 0.5]], np.float32)
    table = to_predictions(examples(1, 1), logits)
    assert table.schema == PREDICTIONS
    assert table.to_pylist() == [
        {"row_id": 0, "label": 1.0, "prediction": 1.0, "logits": [0.0, 1.0]},
        {"row_id": 1, "label": 1.0, "prediction": 0.0, "logits": [2.0, 0.5]},
    ]
