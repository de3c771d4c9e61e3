"""`raykd crossval` on tiny models: folds, choices, pooled scores, final student, and a kill."""

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from chaos import Command
from noisy_reviews import noisy_reviews
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def write_rows(path: Path, num_rows: int) -> None:
    rows = noisy_reviews(num_rows)
    # A text that is there twice.
    path.write_text("\n".join([*rows, rows[1], rows[1]]))


def recipe_values() -> dict:
    phase = {"batch_size": 8, "learning_rate": 3e-3, "max_length": 16, "keep": "best"}
    return {
        "name": "few",
        "seeds": [1, 2],
        "variants": ["tfidf", "direct"],
        "task": {"name": "reviews", "train": "train.jsonl", "sentence_columns": ["sentence"]},
        "teacher": {"model": "teacher", **phase, "epochs": 4},
        "student": {"num_layers": 1, "inits": ["bottom"]},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase, "epochs": 5},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crossval")
    save_tiny_model(folder / "teacher")
    write_rows(folder / "train.jsonl", 40)
    return folder


def write_recipe(folder: Path, stem: str = "few", /, **changes) -> str:
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(recipe_values() | changes, sort_keys=False))
    return str(path)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def mtimes(out: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(pattern)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_cross_validation_resumes_and_leaves_scores_page_and_student(folder, capsys):
    out = folder / "out"
    command = ["crossval", write_recipe(folder), "--folds", "3", "--out", str(out)]
    teachers = "choices/*/teacher/manifest.json"
    first = Command(folder, ["-m", "raykd", *command])
    assert first.wait_until(lambda: len(list(out.glob("folds/*/teacher/manifest.json"))) >= 2)
    first.kill()
    trained = mtimes(out, teachers)
    assert len(trained) == 3

    assert raykd(command) == 0

    assert mtimes(out, teachers) == trained
    printed = capsys.readouterr().out
    results = read(out / "results.json")
    crossval = results["crossval"]

    # Every row is held out once, and the rows with the same text together.
    held_out = [pq.read_table(f) for f in sorted(out.glob("folds/*/task/dev.parquet"))]
    assert [table.num_rows for table in held_out] == [f["num_held_out"] for f in crossval["folds"]]
    texts = [set(table["sentence1"].to_pylist()) for table in held_out]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 40
    ids = np.concatenate([table["row_id"].to_numpy() for table in held_out])
    assert sorted(ids.tolist()) == list(range(42))

    # The pooled metric is that of all predictions, computed by hand.
    for score in results["scores"]:
        name = score["variant"]
        if name == "direct":
            name = f"students-direct-bottom-seed{score['seed']}-adapted"
        if score["variant"] != "majority":
            files = sorted(out.glob(f"folds/*/predictions/{name}/predictions.parquet"))
            rows = [row for file in files for row in pq.read_table(file).to_pylist()]
            assert len(rows) == 42
            hits = fmean(row["label"] == row["prediction"] for row in rows)
            assert score["metrics"]["accuracy"] == pytest.approx(hits)
    assert {(s["variant"], s["seed"]) for s in results["scores"]} == {
        ("majority", None),
        ("tfidf", None),
        ("teacher", None),
        ("direct", 1),
        ("direct", 2),
    }
    for one in crossval["intervals"]:
        own = [
            s["metrics"]["accuracy"] for s in results["scores"] if s["variant"] == one["variant"]
        ]
        assert one["score"] == pytest.approx(fmean(own))
        assert one["low"] <= one["score"] <= one["high"]
    assert {one["other"] for one in results["differences"]} >= {"teacher", "tfidf", "majority"}

    # Each choice is the best epoch of the mean of the curves, here read again.
    for choice in crossval["epochs"]:
        where = "teacher"
        if choice["variant"] != "teacher":
            where = f"students/{choice['variant']}-bottom-seed*/adapted"
        curves = [
            {
                r["epoch"]: r["scores"]["accuracy"]
                for r in map(json.loads, f.read_text().splitlines())
            }
            for f in out.glob(f"choices/*/{where}/metrics.jsonl")
        ]
        means = [fmean(curve[epoch] for curve in curves) for epoch in curves[0]]
        assert choice["best"] == 1 + int(np.argmax(np.round(means, 9)))
        assert choice["chosen"] in (choice["best"], choice["num_epochs"])
        assert len(means) == choice["num_epochs"] == (4 if where == "teacher" else 5)

    # The final student: all 42 rows, batches of 8, the chosen epochs of direct.
    manifest = read(out / "final" / "students" / "direct-bottom-seed1" / "adapted/manifest.json")
    chosen = next(c["chosen"] for c in crossval["epochs"] if c["variant"] == "direct")
    assert manifest["counts"]["num_rows"] == 42
    assert manifest["counts"]["num_steps"] == 6 * chosen
    assert read(out / "final/teacher/manifest.json")["counts"]["num_rows"] == 42
    assert not (out / "final/task/dev.parquet").exists()
    card = (out / "student" / "README.md").read_text()
    for text in (printed, card, (out / "report.html").read_text()):
        assert "about 2/3 of the 42 labeled rows" in text
        assert "was trained on all 42 rows" in text
    assert (out / "student" / "model.safetensors").is_file()

    # The next rows to label.
    (folder / "texts.txt").write_text("a good plot\na poor film\nthe music was fine\n")
    options = ["--corpus", str(folder / "texts.txt"), "--rows", "2"]
    assert raykd(["suggest", str(out), "--out", str(folder / "next.jsonl"), *options]) == 0
    assert len((folder / "next.jsonl").read_text().splitlines()) == 2

    # Nothing is trained a second time.
    everything = mtimes(out, "**/manifest.json")
    assert raykd(command) == 0
    assert mtimes(out, "**/manifest.json") == everything


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_last_state_is_kept_where_the_recipe_makes_no_choice(folder, capsys):
    values = recipe_values()
    for section in ("teacher", "adaptation"):
        values[section] |= {"keep": "last", "epochs": 1}
    path = write_recipe(folder, "fixed", **values | {"variants": ["alone"], "seeds": [1]})

    assert raykd(["crossval", path, "--folds", "2", "--out", str(folder / "fixed")]) == 0

    assert read(folder / "fixed" / "results.json")["crossval"]["epochs"] == []
    assert not (folder / "fixed" / "choices").exists()
    assert (folder / "fixed" / "student" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, ["--folds", "1"], "--folds 1: give at least 2"),
        ({}, ["--folds", "30"], "cannot be divided into 30 folds; use at most "),
        ({"task": {"dev": "train.jsonl"}}, [], "remove 'dev'"),
        ({"task": {"dev_fraction": 0.2}}, [], "remove 'dev_fraction'"),
        ({"task": {"test": "train.jsonl"}}, [], "task.test: "),
        ({"task": {"folds": 3, "fold": 1}}, [], "task.fold: "),
        ({"adaptation": {"num_steps": 9}}, [], "adaptation.num_steps: "),
        ({"teacher": {"num_steps": 9}}, [], "teacher.num_steps: "),
    ],
)
def test_what_does_not_suit_is_refused_before_work(folder, capsys, changes, options, message):
    values = recipe_values()
    for section, keys in changes.items():
        values[section] |= keys
    path = write_recipe(folder, "refused", **values)

    assert raykd(["crossval", path, *options, "--out", str(folder / "refused")]) == 2

    assert message in capsys.readouterr().err
    assert not (folder / "refused").exists()


def test_a_run_of_a_recipe_for_cross_validation_is_refused_with_the_command(folder, capsys):
    values = recipe_values()
    path = write_recipe(folder, "folded", **values | {"task": {**values["task"], "folds": 3}})

    assert raykd(["run", path, "--out", str(folder / "folded")]) == 2

    assert f"use raykd crossval {path}" in capsys.readouterr().err
