"""`raykd suggest`: the next rows to label, from the run's corpus or another one."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny_classifier

from raykd.cli.app import _exit_code as raykd
from raykd.config import dump_yaml
from raykd.operations import suggest as suggest_module
from raykd.storage.manifest import write_manifest
from raykd.tasks.config import TaskConfig
from raykd.tasks.task import load_task
from raykd.workflow.recipe.recipe import Recipe

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
WORDS = ("good", "bad", "fine", "poor", "film", "book", "plot", "music")
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS if a != b]


@pytest.fixture
def run(tmp_path):
    """Folder of a run with a task, a student and a contextualized corpus."""
    folder = tmp_path / "run"
    save_tiny_classifier(folder / "student")
    for name, rows in (("train", TEXTS[:4]), ("dev", TEXTS[4:8])):
        lines = [f"{text},{'negative' if i % 2 else 'positive'}" for i, text in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["review,kind", *lines]))
    task = {
        "name": "reviews",
        "train": str(tmp_path / "train.csv"),
        "dev": str(tmp_path / "dev.csv"),
        "sentence_columns": ["review"],
        "label_column": "kind",
    }
    values = {
        "name": "tiny",
        "task": task,
        "teacher": {"model": "teacher", "epochs": 1, "learning_rate": 1e-3},
        "student": {"num_layers": 1},
        "variants": ["direct"],
        "adaptation": {"epochs": 1},
    }
    (folder / "recipe.yaml").write_text(dump_yaml(Recipe.parse(values, "test")))
    read = load_task(TaskConfig.parse(task, "test"))
    (folder / "task").mkdir()
    for split, table in read.splits.items():
        pq.write_table(table, folder / "task" / f"{split}.parquet")
    facts = {"name": "reviews", "labels": list(read.labels), "regression": False}
    facts |= {"metrics": ["accuracy"], "sources": {}, "remarks": []}
    (folder / "task" / "task.json").write_text(json.dumps(facts))
    texts = folder / "texts" / "contextualized"
    texts.mkdir(parents=True)
    pq.write_table(pa.table({"text": [*TEXTS, *TEXTS]}), texts / "text.parquet")
    write_manifest(texts, "contextualize", {}, {}, {}, duration_s=0)
    return folder


def test_new_different_texts_are_suggested_and_read_back_with_labels(run, tmp_path, capsys):
    out = tmp_path / "next.csv"
    assert raykd(["suggest", str(run), "--out", str(out), "--rows", "10"]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["review", "kind", "prediction", "probability"]
    found = [row["review"] for row in rows]
    assert len(set(found)) == 10
    assert set(found) <= set(TEXTS[8:])
    assert {row["kind"] for row in rows} == {""}
    assert {row["prediction"] for row in rows} <= {"negative", "positive"}
    printed = capsys.readouterr().out
    assert f"10 rows to label, of {len(TEXTS) - 8} new texts" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("dev.csv", "next.csv", "run", "train.csv")
    ]

    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"kind": "positive"} for row in rows)
    task = load_task(
        TaskConfig.parse(
            {
                "name": "reviews",
                "train": [str(tmp_path / "train.csv"), str(out)],
                "dev": str(tmp_path / "dev.csv"),
                "sentence_columns": ["review"],
                "label_column": "kind",
            },
            "test",
        )
    )
    assert task.train["sentence1"].to_pylist() == [*TEXTS[:4], *found]


def test_rows_are_suggested_for_the_student_of_a_cross_validation(run, tmp_path):
    (run / "final").mkdir()
    for name in ("task", "texts", "recipe.yaml"):
        (run / name).rename(run / "final" / name)
    out = tmp_path / "next.jsonl"
    assert raykd(["suggest", str(run), "--out", str(out), "--rows", "10"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 10
    assert {row["review"] for row in rows} <= set(TEXTS[8:])


def test_the_choice_depends_on_the_seed_only(run, tmp_path):
    texts = tmp_path / "pool.jsonl"
    texts.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    chosen = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / f"next{number}.jsonl"
        command = ["suggest", str(run), "--out", str(out), "--rows", "8", "--seed", seed]
        assert raykd([*command, "--corpus", str(texts), "--text-columns", "body"]) == 0
        chosen.append([json.loads(line)["review"] for line in out.read_text().splitlines()])
    assert chosen[0] == chosen[1] != chosen[2]


def test_of_many_candidates_those_with_the_longest_gradients_are_kept(monkeypatch):
    monkeypatch.setattr(suggest_module, "MAX_CANDIDATES", 2)
    shares = np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]], np.float32)
    candidates = suggest_module._Candidates(
        [("sure",), ("unsure",), ("nearly",)], ["a", "a", "a"], shares, np.ones((3, 2), np.float32)
    )
    assert suggest_module._longest(candidates).texts == [("unsure",), ("nearly",)]


def test_what_cannot_be_suggested_is_refused(run, tmp_path, capsys):
    known = tmp_path / "known.txt"
    known.write_text("\n".join(TEXTS[:8]))
    (tmp_path / "filled.csv").write_text("review,kind\n")
    for arguments, message in [
        ([str(tmp_path), "--out", "next.csv"], "has no task and student"),
        ([str(run), "--out", "next.xlsx"], "ends in .csv or .jsonl"),
        ([str(run), "--out", str(tmp_path / "filled.csv")], "exists, perhaps with labels"),
        ([str(run), "--out", "next.csv", "--rows", "0"], "give 1 or more"),
        ([str(run), "--out", "n.csv", "--corpus", str(known)], "is a row of the task"),
        (
            [str(run), "--out", "n.csv", "--corpus", str(known), "--text-columns", "a", "b"],
            "the task reads review, and the corpus has a and b",
        ),
    ]:
        options = [a if "/" in a or a[:1] != "n" else str(tmp_path / a) for a in arguments]
        assert raykd(["suggest", *options]) == 2
        assert message in capsys.readouterr().err
    (run / "texts" / "contextualized" / "text.parquet").unlink()
    assert raykd(["suggest", str(run), "--out", str(tmp_path / "next.csv")]) == 2
    assert "has no contextualized corpus; name texts with --corpus" in capsys.readouterr().err
