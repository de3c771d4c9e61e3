"""Label cells: equal classes, refused values, and messages to the user."""

from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.tasks.class_counts import describe, limits
from raykd.tasks.config import TaskConfig
from raykd.tasks.labels.cells import label_name, read_cell
from raykd.tasks.labels.classes import class_indices, class_names
from raykd.tasks.labels.rules import LabelRules
from raykd.tasks.score_cells import read_score
from raykd.tasks.task import Task

RULES = LabelRules("label")
TWO = ["pos", "neg"] * 40


def names(values, **rules):
    return class_names("train.csv", values, LabelRules("label", **rules))


def indices(values, classes, **rules):
    return class_indices("dev.csv", values, classes, LabelRules("label", **rules))


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, Decimal("1"), Decimal("1.00"), "1", " 1 ", "1.0", "+1", "\uff11", "1\u00a0"),
        (-1, -1.0, "-1"),
        (True, "True", "true", "TRUE "),
        ("pos", "pos ", "\tpos\n", "\ufeffpos", "\uff50\uff4f\uff53"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_a_label_is_the_same_class_in_every_storage_type(same):
    assert len({read_cell(value).key for value in same}) == 1


@pytest.mark.parametrize("value", [None, float("nan"), "", "  ", "\u200b", Decimal("NaN")])
def test_empty_cells_are_missing_labels(value):
    assert read_cell(value) is None


def test_numbers_with_leading_zeros_are_names():
    assert names(["01", "00"] * 5) == ("00", "01")


def test_classes_are_in_numerical_then_alphabetical_order():
    assert names([10, "9", "b", "a"] * 5) == ("9", "10", "a", "b")
    assert names([True, False] * 5) == ("False", "True")
    assert names([1.0, 0.0] * 5) == names(["1", "0"] * 5) == names([1, 0] * 5) == ("0", "1")


def test_rows_without_a_label_are_reported_by_kind():
    values = [None, "", float("nan"), *TWO]
    refused(
        lambda: names(values), "null in row 0", "an empty cell in row 1", "NaN in row 2", "skip"
    )


@pytest.mark.parametrize("text", ["-", "?", "nan", "None", "N/A", "null", "<NA>", "unlabeled"])
def test_placeholders_are_classes_only_if_listed(text):
    values = [*TWO, *[text] * 20]
    refused(lambda: names(values), repr(text), "20 rows (80, 81, 82, 83, 84, ...)", f'"{text}"')
    listed = ("neg", "pos", text)
    assert indices(values, listed, labels=listed).values[-1] == 2.0


def test_the_only_negative_number_is_a_placeholder():
    refused(lambda: names([-1] * 8 + [0, 1] * 36), "-1 in 8 rows", 'labels: ["-1", "0", "1"]')
    assert names([-1, 1] * 20) == ("-1", "1")
    assert names([-2, -1, 0, 1] * 20) == ("-2", "-1", "0", "1")


def test_a_class_of_very_few_rows_is_refused_with_a_label_list_to_copy():
    refused(lambda: names([*TWO, "posi"]), "'posi' in row 80", 'labels: ["neg", "pos", "posi"]')
    assert names(["a"] * 3 + ["b"] * 5) == ("a", "b")
    assert names(["fraud"] * 5 + ["fine"] * 995) == ("fine", "fraud")


def test_labels_that_differ_only_in_case_are_refused():
    refused(lambda: names([*TWO, *["Pos"] * 30]), "'Pos' in 30 rows", "only in case")


def test_a_label_column_with_a_different_value_in_each_row_is_refused():
    refused(
        lambda: names([f"id {row}" for row in range(40)]), "40 different values", "label_column"
    )


def test_a_task_with_one_class_is_refused():
    refused(lambda: names(["a"] * 9), "every row has the same")


@pytest.mark.parametrize("values", [[0.5, 1.5], ["3.5", "2"], [Decimal("0.5"), 1]])
def test_fractions_are_scores(values):
    refused(lambda: names(values * 9), "fractions", "regression")


@pytest.mark.parametrize("value", [[1], [], {"a": 1}])
def test_several_labels_in_a_row_are_refused(value):
    refused(lambda: names([1, value]), "row 1", "give each row one label")
    refused(lambda: indices([1, value], ("0", "1")), "row 1", "give each row one label")


def test_a_list_written_as_text_is_refused():
    refused(lambda: names(["[1]", "[0, 1]"] * 9), "list written as text", "multi_label")


def test_a_binary_label_is_refused():
    refused(lambda: names([b"a", b"b"]), "row 0", "bytes")


def test_a_class_absent_from_train_is_reported_with_its_rows():
    refused(lambda: indices(["pos", "meh"], ("neg", "pos")), "row 1", "'meh'", "train split")
    refused(lambda: indices(["Pos"], ("neg", "pos")), "only in case")


def test_words_that_yaml_parses_as_booleans_are_explained():
    config = TaskConfig.parse(
        {
            **{"name": "a", "train": "a", "dev": "b", "sentence_columns": ["text"]},
            "labels": [False, True],
        },
        "recipe",
    )
    assert config.labels == ("False", "True")
    refused(lambda: indices(["no"], config.labels, labels=config.labels), "in quotes")
    assert label_name(0) == "0"


def test_rows_without_a_label_can_be_skipped_and_are_counted():
    rules = {"unlabeled_rows": "skip"}
    values = ["pos", "", "-", "neg"]
    assert names(values * 5, **rules) == ("neg", "pos")
    targets = indices(values, ("neg", "pos"), **rules)
    assert targets.values == [1.0, None, None, 0.0]
    assert targets.remarks == ["left out an empty cell in row 1; '-' in row 2 (counted from 0)"]
    refused(lambda: indices(["meh"], ("neg", "pos"), **rules), "'meh'")
    refused(lambda: indices(["-"], ("neg", "pos"), **rules), "no row is left")


def test_rows_with_unlisted_labels_can_be_skipped():
    listed = ("neg", "pos")
    targets = indices(["pos", "meh"], listed, labels=listed, unlabeled_rows="skip")
    assert targets.values == [1.0, None]
    refused(lambda: indices(["pos", "meh"], listed, labels=listed), "row 1", "'meh'")


def test_white_space_that_was_removed_is_reported():
    targets = indices(["pos ", "pos", "pos "], ("neg", "pos"))
    assert targets.values == [1.0, 1.0, 1.0]
    assert targets.remarks == ["'pos ' in rows 0, 2 (counted from 0) is taken as 'pos'"]


def test_a_class_listed_twice_under_different_spellings_is_refused():
    values = {"name": "a", "train": "a", "dev": "b", "sentence_columns": ["text"]}
    refused(lambda: TaskConfig.parse({**values, "labels": [1, "1.0"]}, "recipe"), "twice")
    refused(lambda: TaskConfig.parse({**values, "labels": ["", "a"]}, "recipe"), "labels.0")


@pytest.mark.parametrize(
    ("value", "score"),
    [("3.5", 3.5), (" 2 ", 2.0), (Decimal("1.5"), 1.5), ("-.5e1", -5.0)]
    + [(wrong, None) for wrong in (True, "1_0", "nan", "inf", "3,5", "", None, [1], float("inf"))],
)
def test_scores_are_numbers_or_numbers_in_quotes(value, score):
    assert read_score(value) == score


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 0.5, float("nan"), float("inf")]),
    st.text(max_size=4),
    st.sampled_from(["pos", "pos ", "neg", "-", "1", "01", "true", "[1]"]),
    st.lists(st.integers(), max_size=2),
)


@given(st.lists(CELLS, max_size=40), st.sampled_from(["error", "skip"]))
def test_a_column_is_refused_or_every_kept_row_gets_its_class(values, unlabeled_rows):
    rules = LabelRules("label", unlabeled_rows=unlabeled_rows)
    try:
        classes = class_names("train.csv", values, rules)
    except InputError:
        return
    targets = class_indices("train.csv", values, classes, rules).values
    assert len(classes) == len(set(classes)) >= 2
    assert {target for target in targets if target is not None} == set(
        map(float, range(len(classes)))
    )
    if unlabeled_rows == "error":
        assert None not in targets
    for value, target in zip(values, targets, strict=True):
        if target is not None:
            assert read_cell(value).key == read_cell(classes[int(target)]).key


def make_task(train, dev, metrics=("accuracy",), *, regression=False):
    def split(name, labels):
        texts = [f"{name} {row}" for row in range(len(labels))]
        return pa.table(
            {
                "sentence1": texts,
                "sentence2": pa.nulls(len(texts), pa.string()),
                "label": pa.array(labels, pa.float64()),
            }
        )

    labels = () if regression else ("neg", "pos")
    return Task(
        "t",
        labels,
        regression,
        metrics,
        split("a", train),
        split("b", dev),
        None,
        {},
        ("a remark",),
    )


def test_long_names_and_line_breaks_of_classes_are_shortened_on_the_console():
    task = replace(make_task([0, 1], [1, 1]), labels=("a\nb", "x" * 3000))
    first, second, *remarks = describe(task)
    long = "x" * 57 + "..."
    assert first == f"  train  2 rows: 'a\\nb' 1 (50%), {long} 1 (50%)"
    assert second == f"  dev    2 rows: 'a\\nb' 0 (0%), {long} 2 (100%)"
    assert f"  dev: every row is of the class {long}" in remarks[1]


def test_classes_are_counted_in_every_split():
    assert describe(make_task([0, 1, 1, 1], [0, 1])) == [
        "  train  4 rows: neg 1 (25%), pos 3 (75%)",
        "  dev    2 rows: neg 1 (50%), pos 1 (50%)",
        "  a remark",
    ]
    scores = describe(make_task([0, 2.5], [1, 3], ("pearson",), regression=True))
    assert scores[0] == "  train  2 rows: scores 0 to 2.5, mean 1.25"


def test_a_dev_split_of_one_class_is_reported():
    (remark,) = limits(make_task([0, 1], [0, 0], ("matthews", "f1")))
    for words in ("dev: every row is of the class neg", "Matthews correlation is 0", "F1"):
        assert words in remark
    assert limits(make_task([0, 1], [0, 1])) == []
    (remark,) = limits(make_task([0, 1], [2, 2], ("pearson",), regression=True))
    assert "every score is 2" in remark
