"""Dev rows cut from the training rows: stratified, and independent of the rows' order."""

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.storage.schemas import EXAMPLES
from raykd.tasks.config import TaskConfig
from raykd.tasks.dev_split import cut_dev
from raykd.tasks.store import read_task, write_task
from raykd.tasks.task import load_task

LABELS = ("bad", "fair", "good")


def table(rows):
    """Examples of (first sentence, second sentence, label)."""
    values = [
        {"row_id": number, "sentence1": first, "sentence2": second, "label": label}
        for number, (first, second, label) in enumerate(rows)
    ]
    return pa.Table.from_pylist(values, schema=EXAMPLES)


def cut(rows, fraction=0.1, seed=0, labels=LABELS):
    return cut_dev(table(rows), fraction, seed, labels=labels, source="train.csv")


def texts(split):
    return Counter(
        zip(
            split["sentence1"].to_pylist(),
            split["sentence2"].to_pylist(),
            split["label"].to_pylist(),
            strict=True,
        )
    )


SENTENCES = st.integers(0, 40).map("text {}".format)
ROWS = st.lists(
    st.tuples(SENTENCES, st.none() | st.sampled_from("xy"), st.sampled_from([0.0, 1.0, 2.0])),
    min_size=1,
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.floats(0.01, 0.9), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_splits_are_disjoint_complete_and_the_same_in_any_order(rows, fraction, seed, shuffler):
    # Two texts of each class that no other rows have, so that the rows can be split.
    rows += [(f"own {label} {copy}", None, label) for label in (0.0, 1.0, 2.0) for copy in "ab"]
    train, dev = cut(rows, fraction, seed)

    assert texts(train) + texts(dev) == texts(table(rows))
    of_train, of_dev = ({key[:2] for key in texts(split)} for split in (train, dev))
    assert not of_train & of_dev
    assert train["row_id"].to_pylist() == sorted(train["row_id"].to_pylist())
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    again = cut(shuffled, fraction, seed)
    assert [texts(split) for split in again] == [texts(train), texts(dev)]


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.1, {0: 2, 1: 6, 2: 32}), (0.25, {0: 5, 1: 15, 2: 80})]
)
def test_each_class_gives_the_same_share(fraction, expected):
    sizes = {0: 20, 1: 60, 2: 320}
    rows = [(f"{label} {n}", None, float(label)) for label in sizes for n in range(sizes[label])]
    train, dev = cut(rows, fraction)
    assert Counter(dev["label"].to_pylist()) == expected
    assert train.num_rows == 400 - sum(expected.values())


def test_a_small_class_gives_one_text_and_keeps_one():
    rows = [(f"good {n}", None, 2.0) for n in range(50)] + [("a", None, 0.0), ("b", None, 0.0)]
    for fraction in (0.01, 0.99):
        train, dev = cut(rows, fraction)
        assert train["label"].to_pylist().count(0.0) == dev["label"].to_pylist().count(0.0) == 1


def test_another_seed_draws_other_rows():
    rows = [(f"text {n}", None, float(n % 3)) for n in range(300)]
    drawn = [set(cut(rows, seed=seed)[1]["row_id"].to_pylist()) for seed in (0, 1, 0)]
    assert drawn[0] == drawn[2]
    assert len(drawn[0]) == len(drawn[1]) == 30
    assert len(drawn[0] & drawn[1]) < 15


def test_scores_are_cut_from_each_range():
    rows = [(f"text {n}", f"text {n}", n / 100) for n in range(1000)]
    random.Random(1).shuffle(rows)
    _, dev = cut(rows, labels=())
    ranges = Counter(int(score) for score in dev["label"].to_pylist())
    assert ranges == dict.fromkeys(range(10), 10)


@pytest.mark.parametrize(
    ("rows", "labels", "reason"),
    [
        ([("a", None, 0.0), ("b", None, 2.0), ("c", None, 2.0)], LABELS, "class 'bad' has fewer"),
        ([("a", None, 0.0), ("a", None, 0.0)], LABELS, "class 'bad' has fewer than two different"),
        ([("a", None, 0.5)], (), "there are fewer than two different texts"),
    ],
)
def test_a_class_that_cannot_be_in_both_splits_is_refused(rows, labels, reason):
    with pytest.raises(InputError, match=rf"^train\.csv: {reason}.*\('task\.dev'\)$"):
        cut(rows, labels=labels)


@pytest.fixture
def values(tmp_path):
    """Task of 40 rows in one file."""
    lines = [f"text {n},{'ab'[n % 2]}" for n in range(40)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    return {
        "name": "letters",
        "train": str(tmp_path / "train.csv"),
        "sentence_columns": ["text"],
        "dev_fraction": 0.1,
    }


def test_a_task_reports_the_rows_that_it_cuts(values, tmp_path):
    write_task(TaskConfig.parse(values, "recipe"), Path, tmp_path / "task")
    task = read_task(tmp_path / "task")
    assert (task.train.num_rows, task.dev.num_rows) == (36, 4)
    assert task.remarks == (
        "dev: 4 of the 40 training rows, drawn by class, are dev rows and not trained on "
        "(dev_fraction 0.1, seed 0)",
    )
    assert task.sources["dev"] == f"10.00% of {task.sources['train']}"
    # Row ids are the rows' numbers in the file.
    assert task.dev["sentence1"].to_pylist() == [
        f"text {n}" for n in task.dev["row_id"].to_pylist()
    ]


@pytest.mark.parametrize("num_rows", [10, 40])
def test_dev_rows_are_of_the_first_rows_only(values, num_rows):
    task = load_task(TaskConfig.parse({**values, "max_train_rows": num_rows}, "recipe"))
    ids = [*task.train["row_id"].to_pylist(), *task.dev["row_id"].to_pylist()]
    assert sorted(ids) == list(range(num_rows))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dev": "dev.csv"}, "remove one of the two"),
        ({"dev_fraction": None}, "cut one from the training rows with 'dev_fraction: 0.1'"),
        ({"dev": "dev.csv", "dev_fraction": None, "dev_seed": 1}, "'dev_fraction' or 'folds', and"),
        ({"dev_fraction": 0}, "greater than 0"),
        ({"dev_fraction": 1}, "less than 1"),
        ({"dev_fraction": 20}, "less than 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, changed, reason):
    with pytest.raises(InputError, match=reason):
        TaskConfig.parse({**values, **changed}, "recipe")
