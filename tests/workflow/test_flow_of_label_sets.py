"""A run of tiny models on a multi-label task, and one with class weights and label smoothing."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn import metrics
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.report.results import Results
from raykd.tasks.labels.sets import targets_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

WORDS = {"film": ("film", "scene"), "music": ("music", "sound"), "bad": ("bad", "awful", "dull")}


def rows_of(num_rows, seed):
    chance = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        sets = [name for name in WORDS if chance.random() < 0.4]
        words = [chance.choice(WORDS[name]) for name in sets] + chance.choices(["the", "was"], k=3)
        chance.shuffle(words)
        rows.append((" ".join(words), sets))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a teacher to fine-tune, and a task in three formats."""
    folder = tmp_path_factory.mktemp("sets")
    save_tiny_model(folder / "teacher")
    train, dev, test = rows_of(96, 1), rows_of(40, 2), rows_of(30, 3)
    lines = [json.dumps({"text": text, "tags": sets}) for text, sets in train]
    (folder / "train.jsonl").write_text("\n".join(lines))
    columns = {"text": [text for text, _ in dev], "tags": [sets for _, sets in dev]}
    pq.write_table(pa.table(columns), folder / "dev.parquet")
    with (folder / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "tags"), *((text, "|".join(s)) for text, s in test)])
    with (folder / "set.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "tags"), *((text, "|".join(s)) for text, s in test)])
    return folder


def write_single_classes(folder):
    """Write the rows with one class as a task of one class per row; returns its section."""
    lines = [json.dumps({"text": t, "tags": s[0]}) for t, s in rows_of(90, 7) if len(s) == 1]
    for name in ("one.jsonl", "one-dev.jsonl"):
        (folder / name).write_text("\n".join(lines))
    return {
        "name": "one",
        "train": "one.jsonl",
        "dev": "one-dev.jsonl",
        "sentence_columns": ["text"],
        "label_column": "tags",
    }


def recipe_of(folder, **changes):
    phase = {"epochs": 2, "batch_size": 16, "learning_rate": 5e-3, "max_length": 16}
    values = {
        "name": "sets",
        "variants": ["tfidf", "alone", "task"],
        "task": {
            "name": "sets",
            "train": "train.jsonl",
            "dev": "dev.parquet",
            "test": "test.csv",
            "sentence_columns": ["text"],
            "label_column": "tags",
            "multi_label": True,
            "label_separator": "|",
        },
        "teacher": {"model": "teacher", **phase, "epochs": 12},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "annealing_kd"}, **phase},
        "adaptation": {"objective": {"name": "rail_kd"}, **phase},
    }
    values["student"] = {"num_layers": 2, "inits": ["random"]}
    path = folder / f"{changes.get('name', 'sets')}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


@pytest.fixture(scope="module")
def results(folder, ray_cluster):
    # The same rows in another order of classes have the same scores.
    sets = {"sets": [{"name": "again", "path": "set.csv", "labels": ["music", "film", "bad"]}]}
    recipe = recipe_of(folder, evaluation=sets)
    assert raykd(["run", str(recipe), "--out", str(folder / "out")]) == 0
    return Results.model_validate_json((folder / "out" / "results.json").read_text())


def test_scores_are_those_of_the_predicted_sets(folder, results):
    assert results.task.multi_label
    assert results.task.labels == ["bad", "film", "music"]
    scored = [score for score in results.scores if score.variant in ("tfidf", "alone", "task")]
    assert {score.stage for score in scored} == {"baseline", "injected", "adapted"}
    for name, variant, stage in (
        ("tfidf", "tfidf", "baseline"),
        ("students-task-random-seed1-adapted", "task", "adapted"),
    ):
        table = pq.read_table(folder / "out" / "predictions" / name / "predictions.parquet")
        truth, predicted = targets_of(table), table["prediction"].to_pylist()
        score = next(s for s in results.scores if (s.variant, s.stage) == (variant, stage))
        expected = {
            "f1_micro": metrics.f1_score(truth, predicted, average="micro", zero_division=0),
            "f1_macro": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
            "lrap": metrics.label_ranking_average_precision_score(
                truth, table["logits"].to_pylist()
            ),
            "subset_accuracy": metrics.accuracy_score(truth, predicted),
        }
        assert score.metrics == pytest.approx(expected)
        assert score.sets["again"]["f1_micro"] == pytest.approx(expected["f1_micro"])
        assert score.sets["again"]["lrap"] == pytest.approx(expected["lrap"])


def test_the_report_says_what_a_row_has_and_what_is_left_out(folder, results):
    page = (folder / "out" / "report.html").read_text()
    assert "3 classes, any number per row" in page
    assert "Most frequent classes" in page
    assert "probabilities of multi-label tasks are not calibrated" in page
    assert results.calibration is None
    config = json.loads((folder / "out" / "student" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_a_fine_tuned_teacher_of_the_other_kind_is_refused_before_training(folder, results, capfd):
    # The student of the run is multi-label: it cannot teach a task of one class per row.
    task = write_single_classes(folder)
    teacher = {"model": "out/student", "fine_tuned": True, "max_length": 16}
    recipe = recipe_of(folder, name="one", task=task, teacher=teacher, variants=["direct"])
    assert raykd(["run", str(recipe), "--out", str(folder / "one")]) == 2
    error = capfd.readouterr().err
    assert "its problem_type in config.json is multi_label_classification" in error


def test_class_weights_of_no_class_are_refused_after_the_task_is_read(folder, capfd):
    task = write_single_classes(folder)
    phase = {"epochs": 1, "max_length": 16}
    adaptation = {**phase, "class_weights": {"film": 1, "bad": 2, "tv": 3}}
    recipe = recipe_of(
        folder,
        name="weighted",
        task=task,
        variants=["alone"],
        adaptation=adaptation,
        injection=None,
    )
    assert raykd(["run", str(recipe), "--out", str(folder / "weighted")]) == 2
    error = capfd.readouterr().err
    assert "adaptation.class_weights: 'tv' is no class of the task, and the task's class" in error
    assert not (folder / "weighted" / "teacher").exists()
    balanced = {**phase, "class_weights": "balanced", "label_smoothing": 0.1}
    recipe = recipe_of(
        folder,
        name="weighted",
        task=task,
        variants=["alone"],
        injection=None,
        adaptation=balanced,
        teacher={"model": "teacher", **balanced, "epochs": 4, "dev_check": "warn"},
    )
    assert raykd(["run", str(recipe), "--out", str(folder / "weighted")]) == 0
    assert "gold labels   adaptation: class weights balanced; label smoothing 0.1" in (
        capfd.readouterr().err
    )
