"""Evaluation sets of a run: scores of all models, and what a resumed run repeats."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.operations.run_state import read_state
from raykd.report.results import Results
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.run import check_uploaded

CLASSES = ("bad", "fine", "good")
THINGS = ("film", "book", "plot", "actor")
# Two classes: praise, or not.
HARD = {
    "name": "hard",
    "path": "hard.csv",
    "labels": ["other", "praise"],
    "label_map": {"bad": "other", "fine": "other", "good": "praise"},
    "metrics": ["accuracy", "f1"],
}
SAME = {"name": "same", "path": "same.csv"}


def rows(num_rows, *, shift=0):
    return [
        (f"the {THINGS[row % 4]} is {CLASSES[(row + shift) % 3]}", CLASSES[(row + shift) % 3])
        for row in range(num_rows)
    ]


def write_csv(path: Path, lines: list[tuple[str, str]]) -> None:
    path.write_text("\n".join(["text,label", *map(",".join, lines)]) + "\n")


def write_recipe(folder: Path, *sets) -> Path:
    phase = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "max_length": 16}
    values = {
        "name": "tiny",
        "variants": ["tfidf", "embeddings", "alone"],
        "task": {
            "name": "reviews",
            "train": "train.csv",
            "dev": "dev.csv",
            "sentence_columns": ["text"],
        },
        "teacher": {"model": "teacher", **phase},
        "student": {"num_layers": 1},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase},
        "evaluation": {"sets": list(sets)},
        "workers": {"use_gpu": False},
    }
    if not sets:
        del values["evaluation"]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(folder: Path, *sets, out: str = "out") -> int:
    with serial_tasks():
        return raykd(["run", str(write_recipe(folder, *sets)), "--out", str(folder / out)])


def files_of(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def changed(folder: Path, before: dict[str, int]) -> set[str]:
    """Folders of outputs, and files of the run directory, that were written since."""
    names = {name for name, time in files_of(folder).items() if before.get(name) != time}
    return {"/".join(Path(name).parts[:2]) for name in names}


def results_of(out: Path) -> Results:
    return Results.model_validate_json((out / "results.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a complete run without sets in `plain`, and one with a set in `out`."""
    folder = tmp_path_factory.mktemp("sets")
    save_tiny_model(folder / "teacher", num_labels=3)
    extra = [("the scene is good", "good")] * 2
    write_csv(folder / "train.csv", rows(24) + extra)
    write_csv(folder / "dev.csv", rows(9, shift=1))
    hard = [("the ending is not bad", "praise"), *[(text, "other") for text, _ in rows(4)]]
    write_csv(folder / "hard.csv", hard)
    write_csv(folder / "same.csv", rows(6, shift=2))
    assert run(folder, out="plain") == 0
    shutil.copytree(folder / "plain", folder / "out")
    before = files_of(folder / "out")
    assert run(folder, HARD) == 0
    (folder / "changed.json").write_text(json.dumps(sorted(changed(folder / "out", before))))
    return folder


REPORT = {"report.html", "results.json", "recipe.yaml", "plan.json", "times.json"}
CARD = {f"student/{name}" for name in ("README.md", "manifest.json")}


def predictions_on(name: str) -> set[str]:
    models = ("teacher", "tfidf", "embeddings", "students-alone-random-seed1-adapted")
    return {f"predictions/{model}@{name}" for model in models}


def test_a_set_added_to_a_complete_run_is_all_that_is_predicted(folder):
    written = set(json.loads((folder / "changed.json").read_text()))
    rewritten = {name for name in written if name.startswith("student/")}
    assert written - rewritten == REPORT | predictions_on("hard") | {"evaluation_sets/hard"}
    assert rewritten >= CARD  # the copy of the student that was trained before
    manifests = [
        folder / out / "students/alone-random-seed1/adapted/manifest.json"
        for out in ("plain", "out")
    ]
    assert manifests[0].read_bytes() == manifests[1].read_bytes()


def test_a_second_set_and_a_changed_map_repeat_nothing_of_the_other_set(folder):
    out = folder / "second"
    shutil.copytree(folder / "out", out)
    before = files_of(out)
    assert run(folder, HARD, SAME, out="second") == 0
    written = changed(out, before)
    assert {name for name in written if "/" in name and not name.startswith("student/")} == (
        predictions_on("same") | {"evaluation_sets/same"}
    )
    assert [one.name for one in results_of(out).sets] == ["hard", "same"]

    before = files_of(out)
    harder = {"bad": "other", "fine": "praise", "good": "praise"}
    assert run(folder, HARD | {"label_map": harder}, SAME, out="second") == 0
    written = changed(out, before)
    assert {name for name in written if "/" in name and not name.startswith("student/")} == (
        predictions_on("hard") | {"evaluation_sets/hard"}
    )


def test_other_metrics_of_a_set_need_no_new_predictions(folder):
    out = folder / "metrics"
    shutil.copytree(folder / "out", out)
    before = files_of(out)
    assert run(folder, HARD | {"metrics": ["matthews"]}, out="metrics") == 0
    assert not {name for name in changed(out, before) if name.startswith(("pred", "eval"))}
    assert list(results_of(out).scores[0].sets["hard"]) == ["matthews"]


def test_scores_on_a_set_are_those_of_summed_probabilities(folder):
    texts = [line.split(",")[0] for line in (folder / "hard.csv").read_text().splitlines()[1:]]
    scores = {score.variant: score for score in results_of(folder / "out").scores}
    assert list(scores) == ["majority", "tfidf", "embeddings", "teacher", "alone"]
    for variant, model in (
        ("teacher", "teacher"),
        ("alone", "students/alone-random-seed1/adapted"),
    ):
        reference = str(folder / "out" / model / "model")
        tokenizer = AutoTokenizer.from_pretrained(reference)
        classifier = AutoModelForSequenceClassification.from_pretrained(reference).eval()
        with torch.inference_mode():
            logits = classifier(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        bad, fine, good = logits.double().softmax(dim=1).numpy().T
        name = f"{model.replace('/', '-')}@hard"
        table = pq.read_table(folder / "out" / "predictions" / name / "predictions.parquet")
        assert table["label"].to_pylist() == [1.0, 0.0, 0.0, 0.0, 0.0]
        merged = torch.tensor(table["logits"].to_pylist()).double().softmax(dim=1).numpy()
        assert merged == pytest.approx(np.stack([bad + fine, good], axis=1), abs=1e-5)
        is_right = (good > bad + fine) == [True, False, False, False, False]
        assert scores[variant].sets["hard"]["accuracy"] == pytest.approx(is_right.mean())
    # 10 of 26 training rows are good, 16 are not; of the five rows of the set, one is praise.
    assert scores["majority"].metrics["accuracy"] == pytest.approx(3 / 9)
    assert scores["majority"].sets["hard"] == {"accuracy": 0.8, "f1": 0.0}


def test_results_and_card_have_the_set(folder):
    results = results_of(folder / "out")
    [facts] = results.sets
    assert (facts.num_rows, facts.labels) == (5, ["other", "praise"])
    assert facts.content == "other 4 (80%), praise 1 (20%)"
    assert facts.num_in_train == 4
    [remark] = facts.remarks
    assert remark.startswith("4 of 5 rows have the text of a training row (first: row ")
    of_student = [one for one in results.set_summaries if one.variant == "alone"]
    assert [(one.evaluation_set, one.metric) for one in of_student] == [
        ("hard", "accuracy"),
        ("hard", "f1"),
    ]
    assert of_student[0].mean == results.scores[4].sets["hard"]["accuracy"]
    card = (folder / "out" / "student" / "README.md").read_text()
    assert "of the dev split, and on the evaluation sets `hard` (5 rows):" in card
    assert "| | accuracy | hard: accuracy | hard: F1 |\n|---|---|---|---|\n" in card
    assert "| Majority class | 33.3 | 80.0 | 0.0 |" in card
    assert read_state(folder / "out").is_done


def test_a_wrong_row_ends_the_run_before_any_training(folder, capsys):
    write_csv(folder / "wrong.csv", [("the film is good", "praise"), ("the plot is bad", "bad")])
    assert run(folder, HARD | {"path": "wrong.csv"}, out="wrong") == 2
    error = capsys.readouterr().err
    assert "wrong.csv, row 1 (counted from 0): label 'bad' is none of the set's: other" in error
    made = {path.name for path in (folder / "wrong").iterdir() if path.is_dir()}
    assert made == {"task", "evaluation_sets"}
    assert not any((folder / "wrong" / "evaluation_sets").iterdir())


def test_paths_of_sets_are_relative_to_the_recipe_and_must_be_in_a_jobs_copy(
    folder, monkeypatch, tmp_path
):
    recipe = load_recipe(write_recipe(folder, HARD, SAME | {"path": "hf://datasets/o/n@v/x.csv"}))
    assert [one.path for one in recipe.evaluation.sets] == [
        str(folder / "hard.csv"),
        "hf://datasets/o/n@v/x.csv",
    ]
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    copy.mkdir(parents=True)
    for name in ("train.csv", "dev.csv"):
        shutil.copy(folder / name, copy)
    monkeypatch.chdir(copy)
    with pytest.raises(InputError, match=r"hard.csv: no such file"):
        check_uploaded(load_recipe(write_recipe(copy, HARD)))
