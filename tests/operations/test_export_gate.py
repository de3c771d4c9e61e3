"""Rows and metric on which a smaller file of `raykd export` is measured."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny_classifier

from raykd.errors import InputError
from raykd.operations.export_gate import Reduction, labeled_rows

LABELS = ["bad", "good"]
TRAIN, DEV = ["a film", "a book", "a plot"], ["an actor", "a scene"]


def examples(texts):
    return pa.table(
        {
            "row_id": pa.array(range(len(texts)), pa.int64()),
            "sentence1": texts,
            "sentence2": pa.nulls(len(texts), pa.string()),
            "label": [float(row % 2) for row in range(len(texts))],
        }
    )


def write_task(folder, **splits):
    folder.mkdir(parents=True)
    for name, texts in splits.items():
        pq.write_table(examples(texts), folder / f"{name}.parquet")
    facts = {"name": "mine", "labels": LABELS, "regression": False}
    facts |= {"metrics": ["matthews", "accuracy"], "sources": {}, "remarks": []}
    (folder / "task.json").write_text(json.dumps(facts))


@pytest.fixture
def run(tmp_path) -> Path:
    save_tiny_classifier(tmp_path / "run" / "student", labels=LABELS)
    (tmp_path / "other.csv").write_text("text,label\na voice,good\na sound,bad\n")
    return tmp_path / "run"


def rows_of(run, *, dev=None, **settings):
    file = None if dev is None else run.parent / dev
    return labeled_rows(str(run), str(run / "student"), Reduction("static", dev=file, **settings))


@pytest.mark.parametrize("dev", [None, "other.csv"])
def test_training_rows_and_metric_are_the_runs_whatever_the_loss_is_measured_on(run, dev):
    write_task(run / "task", train=TRAIN, dev=DEV)
    found = rows_of(run, dev=dev)
    assert found.training == found.calibration == [(text,) for text in TRAIN]
    assert found.metric == "matthews"
    assert found.dev["sentence1"].to_pylist() == (DEV if dev is None else ["a voice", "a sound"])


def test_of_a_cross_validation_they_are_those_of_its_final_training(run):
    write_task(run / "final" / "task", train=TRAIN)
    assert rows_of(run, dev="other.csv").training == [(text,) for text in TRAIN]
    with pytest.raises(InputError, match="there are no dev rows.*give others with --dev FILE"):
        rows_of(run)


def test_of_a_model_in_no_run_static_ranges_are_measured_on_the_given_rows(run):
    found = rows_of(run, dev="other.csv")
    assert found.training == []
    assert found.calibration == [("a voice",), ("a sound",)]
    assert found.metric == "accuracy"


def test_f1_is_refused_for_other_than_two_classes(run, tmp_path):
    assert rows_of(run, dev="other.csv", metric="f1").metric == "f1"
    three = tmp_path / "three"
    save_tiny_classifier(three / "student", labels=[*LABELS, "mixed"])
    with pytest.raises(InputError, match="'f1' is that of the second of two classes, and .* has 3"):
        rows_of(three, dev="other.csv", metric="f1")
