"""Cross-validations of a regression with a corpus, and with a teacher that is a file of scores."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model

from raykd.report.results import Results
from raykd.workflow.crossval.crossvalidation import crossvalidate

PHASE = {"batch_size": 8, "learning_rate": 1e-3, "max_length": 16, "epochs": 2}
THINGS = ("film", "book", "plot", "actor", "scene", "story")
WORDS = (("good", 1), ("great", 1), ("bad", 0), ("poor", 0))
TEXTS = [(f"the {thing} was {word}", label) for thing in THINGS for word, label in WORDS]


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def crossvalidated(folder: Path, **changes) -> Results:
    values = {
        "name": "few",
        "task": {"name": "reviews", "train": "train.csv", "sentence_columns": ["text"], "folds": 2},
        "student": {"num_layers": 1, "inits": ["bottom"]},
        "workers": {"use_gpu": False},
        **changes,
    }
    (folder / "few.yaml").write_text(yaml.safe_dump(values))
    with serial_tasks():
        return crossvalidate(folder / "few.yaml", folder / "out")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_folds_of_a_regression_share_the_corpus_and_the_final_student_has_its_own_text(tmp_path):
    save_tiny_model(tmp_path / "teacher")
    rows = [[text, label + number / 100] for number, (text, label) in enumerate(TEXTS)]
    write_csv(tmp_path / "train.csv", ["text", "label"], rows)
    lines = [f"one more {thing} that was quite {word}" for thing in THINGS for word, _ in WORDS]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))

    results = crossvalidated(
        tmp_path,
        task={
            "name": "reviews",
            "train": "train.csv",
            "sentence_columns": ["text"],
            "folds": 2,
            "regression": True,
        },
        variants=["alone", "contextualized"],
        corpus={"paths": ["corpus.txt"], "units": {"min_words": 1}},
        retrieval={"top_k": 3},
        teacher={"model": "teacher", **PHASE, "keep": "best", "dev_check": "warn"},
        injection={"objective": {"name": "vanilla_kd", "task_weight": 0}, **PHASE},
        adaptation={"objective": {"name": "vanilla_kd"}, **PHASE, "keep": "best"},
    )

    out, crossval = tmp_path / "out", results.crossval
    assert crossval is not None
    assert len(list(out.glob("**/units/manifest.json"))) == 1
    assert {one.metric for one in crossval.intervals} == {"pearson", "spearman"}
    assert [(fold.num_train, fold.num_held_out) for fold in crossval.folds] == [(12, 12)] * 2
    assert crossval.student == ("contextualized", "bottom", 1)
    assert [choice.variant for choice in crossval.epochs] == ["teacher", "alone", "contextualized"]
    assert results.calibration is None
    texts = list(out.glob("*/texts/contextualized/manifest.json"))
    assert [path.relative_to(out).parts[0] for path in texts] == ["final"]
    assert len(list(out.glob("folds/*/texts/contextualized/manifest.json"))) == 2
    trained = out / "final" / "students" / "contextualized-bottom-seed1" / "adapted"
    assert json.loads((trained / "manifest.json").read_text())["counts"]["num_rows"] == 24
    assert (out / "student" / "model.safetensors").is_file()
    assert "Mean score" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_teacher_known_by_its_scores_is_scored_on_the_held_out_rows_with_a_caveat(tmp_path):
    save_tiny_model(tmp_path / "student")
    write_csv(
        tmp_path / "train.csv", ["text", "label"], [[t, ("bad", "good")[y]] for t, y in TEXTS]
    )
    # Wrong in 4 of 24 rows.
    given = [[t, 0.9 - 0.8 * (y if n % 6 else 1 - y)] for n, (t, y) in enumerate(TEXTS)]
    write_csv(tmp_path / "scores.csv", ["text", "bad", "good"], [[t, p, 1 - p] for t, p in given])

    results = crossvalidated(
        tmp_path,
        variants=["direct"],
        teacher={"scores": "scores.csv"},
        student={"model": "student"},
        adaptation={"objective": {"name": "vanilla_kd"}, **PHASE},
    )

    scores = {score.variant: score.metrics["accuracy"] for score in results.scores}
    assert scores["teacher"] == pytest.approx(20 / 24)
    assert "teacher" in {difference.other for difference in results.differences}
    assert results.crossval is not None
    assert results.crossval.teacher_is_given
    card = (tmp_path / "out" / "student" / "README.md").read_text()
    assert "If it was trained on some of these rows" in card
