"""Folds of the training rows: stratified, complete, and without a text in two folds."""

import random
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from raykd.errors import InputError
from raykd.storage.schemas import EXAMPLES
from raykd.tasks.config import TaskConfig
from raykd.tasks.dev_split import texts_of
from raykd.tasks.folds import assign_folds
from raykd.tasks.store import pool_folds, read_task, write_task
from raykd.tasks.task import load_task

LABELS = ("bad", "fair", "good")


def table(rows):
    """Examples of (first sentence, second sentence, label)."""
    values = [
        {"row_id": number, "sentence1": first, "sentence2": second, "label": label}
        for number, (first, second, label) in enumerate(rows)
    ]
    return pa.Table.from_pylist(values, schema=EXAMPLES)


def folds_of(rows, num_folds=3, seed=0, labels=LABELS):
    return assign_folds(table(rows), num_folds, seed, labels=labels, source="train.csv").tolist()


def oracle(examples, num_folds, seed, labels):
    """The rule, one text at a time, with sums over all rows at every step."""
    texts = texts_of(table(examples), seed)
    if labels:
        strata = [[t for t in texts if t.label == label] for label in range(len(labels))]
    else:
        texts.sort(key=lambda t: (t.label, t.draw))
        strata = [texts[i : i + num_folds] for i in range(0, len(texts), num_folds)]
    found = {}
    for stratum in strata:
        own = {row for text in stratum for row in text.rows}
        for text in sorted(stratum, key=lambda t: (-len(t.rows), t.draw)):
            in_folds = [[r for r in found if found[r] == f] for f in range(1, num_folds + 1)]
            fullness = [(sum(r in own for r in rows), len(rows)) for rows in in_folds]
            fold = 1 + fullness.index(min(fullness))
            found |= dict.fromkeys(text.rows, fold)
    return [found[row] for row in range(len(examples))]


SENTENCES = st.integers(0, 40).map("text {}".format)
ROWS = st.lists(
    st.tuples(SENTENCES, st.none() | st.sampled_from("xy"), st.sampled_from([0.0, 1.0, 2.0])),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(2, 4), st.integers(0, 3), st.booleans(), st.randoms())
def test_folds_follow_the_rule_in_any_order_and_never_divide_a_text(
    rows, num_folds, seed, is_regression, shuffler
):
    # Texts of each class that no other rows have, so that every class can be divided.
    rows += [(f"own {label} {copy}", None, label) for label in (0.0, 1.0, 2.0) for copy in "abcd"]
    labels = () if is_regression else LABELS

    folds = folds_of(rows, num_folds, seed, labels)

    assert folds == oracle(rows, num_folds, seed, labels)
    assert set(folds) == set(range(1, num_folds + 1))
    folds_by_text = defaultdict(set)
    for (first, second, _), fold in zip(rows, folds, strict=True):
        folds_by_text[first, second].add(fold)
    assert all(len(of_text) == 1 for of_text in folds_by_text.values())
    # One label per text, so that the order of rows with equal texts cannot matter.
    single = list({row[:2]: row for row in rows}.values())
    in_order = dict(zip(single, folds_of(single, num_folds, seed, labels), strict=True))
    shuffler.shuffle(single)
    assert dict(zip(single, folds_of(single, num_folds, seed, labels), strict=True)) == in_order


@pytest.mark.parametrize("sizes", [(7, 13, 5), (50, 8, 9), (11, 11, 11)])
def test_classes_are_balanced_as_in_scikit_learn(sizes):
    labels = [float(label) for label, size in enumerate(sizes) for _ in range(size)]
    random.Random(0).shuffle(labels)
    rows = [(f"text {number}", None, label) for number, label in enumerate(labels)]

    folds = np.array(folds_of(rows, 5))

    theirs = StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)
    expected = [Counter(np.array(labels)[held].tolist()) for _, held in theirs]
    ours = [Counter(np.array(labels)[folds == fold].tolist()) for fold in range(1, 6)]
    for label in (0.0, 1.0, 2.0):
        counts = sorted(fold[label] for fold in ours)
        assert counts == sorted(fold[label] for fold in expected)
        assert counts[-1] - counts[0] <= 1
    assert max(map(Counter.total, ours)) - min(map(Counter.total, ours)) <= 1


def test_a_fold_of_a_regression_has_a_score_of_every_range():
    rows = [(f"text {number}", None, number / 10) for number in range(20)]
    random.Random(1).shuffle(rows)

    folds = folds_of(rows, 5, labels=())

    of_score = sorted(zip((score for _, _, score in rows), folds, strict=True))
    for first in (0, 5, 10, 15):
        assert {fold for _, fold in of_score[first : first + 5]} == {1, 2, 3, 4, 5}


def test_another_seed_makes_other_folds():
    rows = [(f"text {number}", None, float(number % 3)) for number in range(30)]
    assert folds_of(rows, seed=0) != folds_of(rows, seed=1)


def test_a_class_with_fewer_texts_than_folds_is_refused():
    rows = [(f"text {number}", None, 0.0) for number in range(9)]
    rows += [("same", None, 1.0), ("same", None, 1.0), ("other", None, 1.0)]
    rows += [("third", None, 1.0)]

    with pytest.raises(InputError) as error:
        folds_of(rows, 5)

    assert str(error.value) == (
        "train.csv: class 'fair' has 4 rows (3 different texts), which cannot be divided into 5 "
        "folds; use at most 3 folds, or add rows"
    )
    with pytest.raises(InputError, match=r"4 different texts .* 5 folds; use at most 4 folds"):
        folds_of(rows[:4], 5, labels=())
    with pytest.raises(InputError, match=r"class 'fair' has 1 rows.* 2 different texts at least"):
        folds_of([*rows[:4], ("one", None, 1.0)], 2)


def test_folds_are_dev_rows_in_turn_and_together_all_rows(tmp_path):
    lines = [
        f"the film {number} is {LABELS[number % 3]},{LABELS[number % 3]}" for number in range(18)
    ]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    values = {
        "name": "films",
        "train": str(tmp_path / "train.csv"),
        "sentence_columns": ["text"],
        "folds": 3,
    }
    whole = load_task(TaskConfig.parse(values, "recipe"))
    assert whole.train.num_rows == 18
    assert list(whole.splits) == ["train"]

    folders = []
    for fold in (1, 2, 3):
        config = TaskConfig.parse(values | {"fold": fold}, "recipe")
        task = load_task(config)
        assert (task.train.num_rows, task.dev.num_rows) == (12, 6)
        assert Counter(task.dev["label"].to_pylist()) == {0: 2, 1: 2, 2: 2}
        assert not set(task.train["row_id"].to_pylist()) & set(task.dev["row_id"].to_pylist())
        folders.append(tmp_path / f"fold-{fold}")
        write_task(config, lambda path: tmp_path / path, folders[-1])
    write_task(TaskConfig.parse(values, "recipe"), lambda path: tmp_path / path, tmp_path / "all")
    assert read_task(tmp_path / "all").dev.num_rows == 0

    pool_folds(tmp_path / "all", folders, tmp_path / "pooled")

    pooled = read_task(tmp_path / "pooled")
    assert pooled.train.num_rows == 18
    assert pooled.dev.equals(pooled.train)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "folds"),
        ({"folds": 3, "dev": "dev.csv"}, "remove 'dev'"),
        ({"folds": 3, "dev_fraction": 0.1}, "remove 'dev_fraction'"),
        ({"folds": 3, "fold": 4}, "'fold' is 4, and there are 3 folds"),
        ({"fold": 1, "dev": "dev.csv"}, "'fold' is one of 'folds'"),
        ({"dev_seed": 1, "dev": "dev.csv"}, "'dev_seed' is the seed of 'dev_fraction' or 'folds'"),
        ({}, "raykd crossval"),
    ],
)
def test_settings_that_contradict_folds_are_refused(changes, message):
    values = {"name": "films", "train": "train.csv", "sentence_columns": ["text"]}
    with pytest.raises(InputError, match=message):
        TaskConfig.parse(values | changes, "recipe")
