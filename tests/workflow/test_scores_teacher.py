"""Runs whose teacher is a file of scores: the same students as of the model that made them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file
from serial_tasks import serial_tasks
from tiny_models import save_tiny_classifier, save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.operations.run_state import read_state
from raykd.report.results import Results
from raykd.training.teacher_cache import read_outputs
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages

LABELS = ("bad", "good")
THINGS = ("film", "book", "plot", "actor", "scene", "story")
WORDS = (("good", 1), ("great", 1), ("bad", 0), ("poor", 0))
STUDENTS = ("direct-pretrained-seed1", "task-pretrained-seed1")


def texts_of(things: tuple[str, ...]) -> list[tuple[str, int]]:
    return [(f"the {thing} was {word}", label) for thing in things for word, label in WORDS]


TRAIN, DEV = texts_of(THINGS[:4]), texts_of(THINGS[4:])


def write_recipe(folder: Path, name: str, teacher: dict, **changes) -> Path:
    phase = {"batch_size": 8, "learning_rate": 1e-3, "max_length": 16}
    values = {
        "name": name,
        "variants": ["direct", "task"],
        "task": {
            "name": "reviews",
            "train": "train.csv",
            "dev": "dev.csv",
            "sentence_columns": ["text"],
            "labels": list(LABELS),
        },
        "teacher": {"dev_check": "warn", **teacher},
        "student": {"model": "student"},
        "injection": {"objective": {"name": "annealing_kd"}, "epochs": 2, **phase},
        "adaptation": {"objective": {"name": "vanilla_kd", "temperature": 2}, "epochs": 2, **phase},
        "workers": {"use_gpu": False},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def adapt(folder: Path, name: str, teacher: dict, **changes) -> Path:
    """Run all stages up to adaptation; return the run directory."""
    out = folder / "runs" / name
    with serial_tasks():
        recipe = load_recipe(write_recipe(folder, name, teacher, **changes))
        run_stages(Run(recipe, out, out / "units"), "adapt")
    return out


def weights_of(out: Path, student: str = STUDENTS[0]) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = load_file(
        out / "students" / student / "adapted" / "model" / "model.safetensors"
    )
    return weights


def losses_of(out: Path) -> list[float]:
    path = out / "students" / STUDENTS[0] / "adapted" / "steps.jsonl"
    return [json.loads(line)["losses"]["total"] for line in path.read_text().splitlines()]


def manifest_times(out: Path) -> dict[str, int]:
    return {
        str(path.parent.relative_to(out)): path.stat().st_mtime_ns
        for path in out.rglob("manifest.json")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a task, a run of a model as teacher in `runs/model`, and its logits."""
    folder = tmp_path_factory.mktemp("scores")
    save_tiny_classifier(folder / "teacher", labels=LABELS)
    save_tiny_model(folder / "student", num_layers=1)
    for split, rows in (("train", TRAIN), ("dev", DEV)):
        lines = [f"{text},{LABELS[label]}" for text, label in rows]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    out = adapt(folder, "model", {"model": "teacher", "fine_tuned": True})
    logits = read_outputs(out / "teacher_outputs" / "train", "logits")
    write_scores(folder / "logits.parquet", logits)
    return folder


def write_scores(path: Path, scores: np.ndarray, rows: list[tuple[str, int]] = TRAIN) -> None:
    """Write scores (N, 2) in another order of rows and classes than the task's."""
    order = np.random.default_rng(0).permutation(len(rows))
    columns = {
        "good": np.asarray(scores[order, 1]),
        "text": [rows[row][0] for row in order],
        "bad": np.asarray(scores[order, 0]),
    }
    pq.write_table(pa.table(columns), path)


def test_logits_in_a_file_train_the_same_students_as_the_model_they_are_of(folder):
    out = adapt(folder, "logits", {"scores": {"paths": ["logits.parquet"], "kind": "logits"}})
    for student in STUDENTS:
        own, of_model = weights_of(out, student), weights_of(folder / "runs" / "model", student)
        assert own.keys() == of_model.keys()
        assert all(np.array_equal(own[name], of_model[name]) for name in own)
    assert not (out / "teacher" / "model").exists()
    assert not (out / "teacher_outputs").exists()


def test_probabilities_in_a_file_train_as_the_logits_they_are_of(folder):
    logits = read_outputs(folder / "runs" / "model" / "teacher_outputs" / "train", "logits")
    wide = np.exp(logits.astype(np.float64))
    write_scores(folder / "probabilities.parquet", wide / wide.sum(axis=1, keepdims=True))
    out = adapt(folder, "probabilities", {"scores": "probabilities.parquet"}, variants=["direct"])
    losses = losses_of(out)
    assert losses == pytest.approx(losses_of(folder / "runs" / "model"), rel=1e-5)
    assert len(losses) == 4
    own, of_model = weights_of(out), weights_of(folder / "runs" / "model")
    # The gradient of a key's bias is 0 up to rounding, from which Adam makes steps of any sign.
    names = [name for name in own if not name.endswith("key.bias")]
    assert max(np.abs(own[name] - of_model[name]).max() for name in names) < 2e-5


def test_changed_scores_train_again_and_unchanged_ones_do_not(folder):
    scores = np.array([[1.0, 0.0] if label == 0 else [0.0, 1.0] for _, label in TRAIN])
    write_scores(folder / "hard.parquet", scores)
    teacher = {"scores": ["hard.parquet"]}
    out = adapt(folder, "resumed", teacher)
    before, weights = manifest_times(out), weights_of(out)
    assert adapt(folder, "resumed", teacher) == out
    assert manifest_times(out) == before

    write_scores(folder / "hard.parquet", np.abs(scores - 0.1))
    adapt(folder, "resumed", teacher)
    changed = {name for name, time in manifest_times(out).items() if time != before[name]}
    assert changed == {
        "teacher",
        *(f"students/{student}/adapted" for student in STUDENTS),
        f"students/{STUDENTS[1]}/injected",
    }
    assert not np.array_equal(weights["classifier.weight"], weights_of(out)["classifier.weight"])


def report(folder: Path, name: str, teacher: dict, **changes) -> Path:
    path, out = write_recipe(folder, name, teacher, **changes), folder / "runs" / name
    with serial_tasks():
        assert raykd(["run", str(path), "--out", str(out)]) == 0
    return out


def test_the_report_has_the_teachers_score_if_dev_rows_have_scores(folder):
    rows = [*TRAIN, *DEV]
    right = np.array([[0.9, 0.1] if label == 0 else [0.2, 0.8] for _, label in rows])
    right[len(TRAIN)] = right[len(TRAIN)][::-1]  # one of the 8 dev rows is wrong
    write_scores(folder / "right.parquet", right, rows)
    shutil.copy(folder / "dev.csv", folder / "same.csv")
    out = report(
        folder,
        "right",
        {"scores": "right.parquet"},
        variants=["direct"],
        evaluation={"sets": [{"name": "same", "path": "same.csv"}]},
    )
    results = Results.model_validate_json((out / "results.json").read_text())
    [teacher] = [score for score in results.scores if score.variant == "teacher"]
    assert teacher.metrics == {"accuracy": 7 / 8}
    assert teacher.sets == {}
    assert [(a.variant, a.layers) for a in results.analyses] == [("direct", None)]
    assert any(one.other == "teacher" for one in results.differences)
    assert [model.variant for model in results.models] == ["direct"]
    assert results.teacher_scores.num_rows == {"train": 16, "dev": 8}
    card = (out / "student" / "README.md").read_text()
    assert "from the teacher `scores of right.parquet`" in card
    assert "| Teacher | 87.5 | \N{EN DASH} |\n" in card
    assert read_state(out).is_done


def test_the_report_says_that_the_teacher_has_no_score_without_scores_of_dev_rows(folder):
    rows = [*TRAIN, *DEV[:3], ("the ending was good", 1)]
    right = np.array([[1.0, 0.0] if label == 0 else [0.0, 1.0] for _, label in rows])
    write_scores(folder / "some.parquet", right, rows)
    out = report(folder, "some", {"scores": "some.parquet"}, variants=["alone", "direct"])
    results = Results.model_validate_json((out / "results.json").read_text())
    assert [score.variant for score in results.scores] == ["majority", "alone", "direct"]
    assert results.analyses == []
    page = (out / "report.html").read_text()
    assert "The teacher is not a model, but scores of some.parquet (probabilities): " in page
    assert "accuracy 100.0 on the 16 training rows" in page
    assert "3 of the 8 rows of the dev split are in its scores" in page
    assert read_state(out).is_done
