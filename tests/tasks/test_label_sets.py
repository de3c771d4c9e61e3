"""Multi-label tasks: reading of sets of classes, their storage, and messages to the user."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.storage.locations import location_of
from raykd.storage.schemas import examples_schema
from raykd.tasks.class_counts import class_counts, constant_answer, describe
from raykd.tasks.config import TaskConfig
from raykd.tasks.labels.rules import LabelRules
from raykd.tasks.labels.sets import class_names_of_sets, label_sets, targets_of
from raykd.tasks.store import hold_out, read_task, write_task
from raykd.tasks.task import load_task

RULES = LabelRules("tags", separator=";")
LISTED = LabelRules("tags", ("a", "b", "c"), separator=";")
ROWS = [["a", "c"], [], ["b"], ["c", "a", "c"]]


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


@pytest.mark.parametrize("values", [ROWS, ["a;c", "", " b ", "c; a;c;"], ["a;c", [], ["b"], "c;a"]])
def test_lists_and_joined_names_are_the_same_sets(values):
    assert label_sets("x", values, ["a", "b", "c"], RULES).values == [
        [1, 0, 1],
        [0, 0, 0],
        [0, 1, 0],
        [1, 0, 1],
    ]
    assert class_names_of_sets("x", values, RULES) == ("a", "b", "c")


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=20))
def test_sets_are_those_of_the_rows_for_names_and_for_indices(sets):
    names = ["zero", "one", "two", "three", "four", "five"]
    expected = [[int(place in own) for place in range(6)] for own in sets]
    by_name = [[names[place] for place in own] for own in sets]
    joined = [";".join(own) for own in by_name]
    for values in (by_name, joined, [list(own) for own in sets]):
        assert label_sets("x", values, names, RULES).values == expected


def test_another_separator_keeps_semicolons_in_names():
    rules = LabelRules("tags", separator=" | ")
    assert class_names_of_sets("x", ["a;b | c", "c", "a;b"] * 5, rules) == ("a;b", "c")


def test_rows_without_known_classes_are_refused_or_left_out():
    values = [["a"], None, ["b"], "n/a", []]
    for call in (
        lambda: class_names_of_sets("t.csv", values, RULES),
        lambda: label_sets("t.csv", values, ["a", "b"], RULES),
    ):
        refused(
            call,
            "t.csv: no classes in 'tags': null in row 1; 'n/a' in row 3",
            "write an empty list or text if such a row has no class",
            "'task.unlabeled_rows'",
        )
    skipping = LabelRules("tags", unlabeled_rows="skip", separator=";")
    found = label_sets("t.csv", values, ["a", "b"], skipping)
    assert found.values == [[1, 0], None, [0, 1], None, [0, 0]]
    assert found.remarks == ["left out null in row 1; 'n/a' in row 3 (counted from 0)"]


def test_errors_name_file_row_and_remedy():
    refused(
        lambda: label_sets("t.csv", [["a"], ["b", "x"]], ["a", "b", "c"], LISTED),
        "t.csv, row 1 (counted from 0): class 'x' is none of the task's: a, b, c",
        "'task.labels', or 'task.label_separator' (';')",
    )
    refused(
        lambda: label_sets("t.csv", [["a"], ["b", None]], ["a", "b"], RULES),
        "t.csv, row 1 (counted from 0): 'tags' has None among its classes",
    )
    refused(lambda: label_sets("t.csv", [{"a": 1}], ["a", "b"], RULES), "row 0", "a list of class")
    refused(
        lambda: class_names_of_sets("t.csv", ["a,b", "a,b"] * 5, RULES),
        "'tags' has 1 classes (a,b)",
        "'task.label_separator' (';')",
    )
    refused(
        lambda: class_names_of_sets("t.csv", [["a", "b"]] * 200 + [["c"]], RULES),
        "classes of very few of the 401 rows: 'c' in row 200",
    )
    refused(
        lambda: class_names_of_sets("t.csv", ["['a', 'b']", "['a']"] * 30, RULES),
        "holds a list written as text",
        "joined by a separator",
    )


def write_files(folder):
    sets = [["film"], ["film", "music"], [], ["music", "book"]] * 6
    texts = [f"text {number}" for number in range(24)]
    lines = [json.dumps({"text": t, "tags": s}) for t, s in zip(texts, sets, strict=True)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"text": texts, "tags": sets}), folder / "dev.parquet")
    rows = [f"{t},{';'.join(s)}" for t, s in zip(texts, sets, strict=True)]
    (folder / "test.csv").write_text("\n".join(["text,tags", *rows]) + "\n")


def config_of(folder, **changes):
    values = {
        "name": "tags",
        "train": str(folder / "train.jsonl"),
        "dev": str(folder / "dev.parquet"),
        "test": str(folder / "test.csv"),
        "sentence_columns": ["text"],
        "label_column": "tags",
        "multi_label": True,
    }
    return TaskConfig.parse({k: v for k, v in (values | changes).items() if v is not None}, "task")


def test_json_lists_parquet_lists_and_csv_texts_are_one_task(tmp_path):
    write_files(tmp_path)
    task = load_task(config_of(tmp_path))
    assert task.labels == ("book", "film", "music")
    assert task.metrics == ("f1_micro", "f1_macro", "lrap", "subset_accuracy")
    assert task.num_labels == 3
    expected = [[0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]] * 6
    for table in task.splits.values():
        assert table.schema == examples_schema(3)
        assert targets_of(table).tolist() == expected
    assert class_counts(task)["test"] == [6, 12, 12]
    assert describe(task)[0].endswith(
        "24 rows: book 6 (25%), film 12 (50%), music 12 (50%); 1.25 classes per row, 6 rows "
        "without any"
    )


def test_a_stored_task_and_a_held_out_part_keep_their_sets(tmp_path):
    write_files(tmp_path)
    config = config_of(tmp_path, test=None)
    write_task(config, location_of, tmp_path / "task")
    task = read_task(tmp_path / "task")
    assert task.multi_label
    assert task.dev.schema == examples_schema(3)
    hold_out(tmp_path / "task", 0.3, tmp_path / "held")
    held = read_task(tmp_path / "held")
    assert held.multi_label
    parts = np.concatenate([targets_of(held.train), targets_of(held.dev)])
    assert sorted(parts.tolist()) == sorted(targets_of(task.train).tolist())


def test_dev_rows_are_cut_from_all_rows(tmp_path):
    write_files(tmp_path)
    task = load_task(config_of(tmp_path, dev=None, test=None, dev_fraction=0.25))
    assert (task.train.num_rows, task.dev.num_rows) == (18, 6)
    assert not set(task.train["sentence1"].to_pylist()) & set(task.dev["sentence1"].to_pylist())
    assert "6 of the 24 training rows, are dev rows" in task.remarks[0]


def test_a_list_in_a_task_of_one_class_per_row_names_the_key(tmp_path):
    write_files(tmp_path)
    config = config_of(tmp_path, multi_label=None)
    refused(lambda: load_task(config), "train.jsonl, row 0", "'task.multi_label: true'")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regression": True}, "'regression' has scores, and 'multi_label' classes"),
        ({"multi_label": False, "label_separator": ","}, "belongs to 'multi_label: true'"),
        (
            {"metrics": ["accuracy"]},
            "unknown metric 'accuracy' for a multi-label task; known:",
        ),
        ({"multi_label": False, "metrics": ["lrap"]}, "unknown metric 'lrap' for classification"),
        ({"name": "sst2"}, "GLUE fixes the labels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, changes, message):
    refused(lambda: config_of(tmp_path, **changes), message)


def test_settings_of_stored_tasks_of_one_class_per_row_are_unchanged(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n" + "a good one,x\na bad one,y\n" * 4)
    config = TaskConfig.parse(
        {
            "name": "m",
            "train": str(tmp_path / "t.csv"),
            "dev": str(tmp_path / "t.csv"),
            "sentence_columns": ["text"],
        },
        "t",
    )
    manifest = write_task(config, location_of, tmp_path / "task")
    assert not {"multi_label", "label_separator"} & manifest.config.keys()
    assert "multi_label" not in (tmp_path / "task" / "task.json").read_text()


def test_one_answer_for_all_rows_is_named(tmp_path):
    write_files(tmp_path)
    task = load_task(config_of(tmp_path))
    kind = pa.list_(pa.uint8(), 3)
    assert constant_answer(task, pa.chunked_array([[[0, 1, 1]] * 2], kind)) == "film, music"
    assert constant_answer(task, pa.chunked_array([[[0, 0, 0]] * 2], kind)) == "no class"
    assert constant_answer(task, pa.chunked_array([[[0, 0, 0], [1, 0, 0]]], kind)) is None
