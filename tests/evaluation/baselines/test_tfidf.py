import pyarrow as pa
import pytest

from raykd.evaluation.baselines.fitted import baseline_cost
from raykd.evaluation.baselines.tfidf import fit_tfidf
from raykd.evaluation.predict import to_predictions
from raykd.storage.schemas import EXAMPLES, PREDICTIONS
from raykd.tasks.config import TaskConfig
from raykd.tasks.metrics import compute
from raykd.tasks.task import load_task


def examples(first, labels, second=None):
    second = second or [None] * len(first)
    columns = [range(len(first)), first, second, labels]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, EXAMPLES, strict=True)]
    return pa.table(arrays, schema=EXAMPLES)


def predictions(train, split, num_labels):
    table = to_predictions(split, fit_tfidf(train, num_labels=num_labels).predict(split))
    assert table.schema == PREDICTIONS
    return table["prediction"].to_pylist()


def test_words_determine_the_class():
    train = examples(["good film", "good cast", "dull film", "dull cast"], [1, 1, 0, 0])
    assert predictions(train, examples(["good", "dull"], [0, 0]), 2) == [1.0, 0.0]


def test_a_pair_is_classified_by_the_words_its_sentences_share():
    train = examples(
        ["a b c", "d e f", "a b c", "d e f"], [1, 1, 0, 0], ["a b c", "d e f", "d e f", "a b c"]
    )
    split = examples(["a e c", "a e c"], [1, 0], ["a e c", "d b f"])
    assert predictions(train, split, 2) == [1.0, 0.0]


def test_scores_stay_within_the_range_of_the_train_split():
    train = examples(["a", "b", "a a b"], [0.0, 5.0, 2.0], ["b", "b", "a"])
    answers = predictions(train, examples(["b b b", "a"], [1, 1], ["b b b", "c"]), 1)
    assert all(0.0 <= answer <= 5.0 for answer in answers)
    assert answers[0] > answers[1]


def test_a_class_absent_from_the_train_split_is_never_predicted():
    train = examples(["a", "b"], [2, 0])
    assert set(predictions(train, examples(["a", "b", "c"], [0, 1, 2]), 3)) <= {0.0, 2.0}


def test_the_only_class_of_the_train_split_is_always_predicted():
    assert predictions(examples(["a", "b"], [1, 1]), examples(["c"], [0]), 3) == [1.0]


def test_text_without_words_is_classified():
    assert predictions(examples(["!!", "??"], [0, 1]), examples(["?"], [1]), 2) == [1.0]


def test_tfidf_beats_a_constant_answer_on_real_mrpc(glue):
    files = {split: str(glue / f"mrpc_{split}.parquet") for split in ("train", "dev")}
    task = load_task(TaskConfig(name="mrpc", **files))
    table = to_predictions(task.dev, fit_tfidf(task.train, num_labels=2).predict(task.dev))
    scores = compute(task.metrics, table["label"].to_numpy(), table["prediction"].to_numpy())
    # A constant answer gets 81.2 and 68.4.
    assert scores["f1"] == pytest.approx(0.840, abs=0.01)
    assert scores["accuracy"] == pytest.approx(0.757, abs=0.01)


def test_its_size_is_that_of_coefficients_and_document_frequencies():
    train = examples(["good film", "dull cast"], [1, 0])
    fitted = fit_tfidf(train, num_labels=2)
    # Four words and two bigrams, each with a coefficient and an inverse document frequency.
    assert fitted.num_parameters == 12
    assert fitted.num_bytes in (12 * 4, 12 * 8)


def test_its_cost_is_measured_from_texts_to_answers():
    train = examples(["good film", "dull cast"], [1, 0])
    cost = baseline_cost(fit_tfidf(train, num_labels=2), train)
    assert cost.flops is None
    assert 0.01 < cost.latency_ms < 100
    # Rows of a batch share the work of a call.
    assert cost.rows_per_s_batch_32 > cost.rows_per_s_batch_1 > 10
