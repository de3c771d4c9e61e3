"""Evaluation rows with the text of a training row."""

import pyarrow as pa

from raykd.tasks.class_counts import describe
from raykd.tasks.overlap import overlap_of, rows_in
from raykd.tasks.task import Task


def rows(*pairs: tuple[str, str | None]) -> pa.Table:
    firsts, seconds = zip(*pairs, strict=True)
    return pa.table(
        {
            "row_id": pa.array(range(len(pairs)), pa.int64()),
            "sentence1": pa.array(firsts, pa.large_string()),
            "sentence2": pa.array(seconds, pa.large_string()),
            "label": pa.array([0.0] * len(pairs)),
        }
    )


def test_case_spacing_and_punctuation_do_not_hide_a_training_row():
    train = rows(("It works!", None), (":-)", None))
    dev = rows(("new", None), ("it  works", None), (":-)", None), (":-(", None))
    assert rows_in(dev, train) == [1, 2]


def test_a_pair_is_that_of_a_training_row_if_both_texts_are_in_the_same_order():
    train = rows(("a", "b"))
    assert rows_in(rows(("a", "c"), ("b", "a"), ("A", "b.")), train) == [2]


def test_the_remark_counts_and_shows_the_first_row():
    train, dev = rows(("one", "two")), rows(("new", "one"), ("One", "two"), ("one", "two"))
    assert overlap_of(dev, train) == [
        '2 of 3 rows have the text of a training row (first: row 1, "One / two"); their scores '
        "are not those of new text"
    ]
    assert overlap_of(rows(("x", None)), train) == []
    [remark] = overlap_of(rows(("w" * 100, None)), rows(("w" * 100, None)))
    assert f'"{"w" * 57}..."' in remark


def test_a_run_prints_it_for_dev_and_test():
    train = rows(("same", None), ("other", None))
    task = Task("t", ("no", "yes"), False, ("accuracy",), train, rows(("same", None)), train, {})
    lines = [line for line in describe(task) if "training row" in line]
    assert lines[0].startswith("  dev: 1 of 1 rows have the text of a training row")
    assert lines[1].startswith("  test: 2 of 2 rows")
