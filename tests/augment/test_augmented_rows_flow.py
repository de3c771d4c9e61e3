"""TinyBERT's second stage, end to end: `raykd augment` on pairs, and a run on its rows."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from known_models import save_bert
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.report.results import Results

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

WORDS = ("good", "bad", "slow", "film", "book", "plot")
PHASE = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "max_length": 16}
KD = {"objective": {"name": "vanilla_kd", "task_weight": 0}, **PHASE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with pairs of equal or different words and the output of `raykd augment` for them."""
    folder = tmp_path_factory.mktemp("rows")
    save_tiny_model(folder / "teacher")
    pairs = [(first, second) for first in WORDS for second in WORDS]
    for split in ("train", "dev"):
        rows = [
            {"a": f"the {first}", "b": f"a {second}", "label": "same" if a_is_b else "other"}
            for first, second in pairs
            if (a_is_b := first == second) or split == "dev" or first < second
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = save_bert(folder / "masked")
    command = ["augment", "--train", str(folder / "train.jsonl"), "--model", str(model)]
    command += ["--num-rounds", "2", "--sentence-columns", "a", "b", "--out"]
    assert raykd([*command, str(folder / "augmented")]) == 0
    return folder


def write_recipe(folder: Path, name: str, **changes) -> str:
    values = {
        "name": "rows",
        "seeds": [1],
        "variants": ["alone", "task", "task_da"],
        "task": {
            "name": "pairs",
            "train": "train.jsonl",
            "dev": "dev.jsonl",
            "sentence_columns": ["a", "b"],
        },
        "task_da": "augmented",
        "teacher": {"model": "teacher", **PHASE, "dev_check": "warn"},
        "student": {"num_layers": 1},
        "injection": KD,
        "adaptation": KD | {"rows": "task_da"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return str(path)


def num_rows(folder: Path) -> int:
    return json.loads((folder / "manifest.json").read_text())["counts"]["num_rows"]


@pytest.mark.slow
def test_variants_with_augmented_rows_adapt_on_these_and_others_on_the_train_split(
    folder, tmp_path
):
    out = tmp_path / "out"
    assert raykd(["run", write_recipe(folder, "run"), "--out", str(out)]) == 0
    num_train = len((folder / "train.jsonl").read_text().splitlines())
    num_augmented = pq.read_metadata(folder / "augmented" / "examples.parquet").num_rows
    assert num_augmented > num_train == 21
    students = out / "students"
    assert num_rows(students / "task_da-random-seed1" / "injected") == num_augmented
    adapted = {
        variant: num_rows(students / f"{variant}-random-seed1" / "adapted")
        for variant in ("alone", "task", "task_da")
    }
    assert adapted == {"alone": 21, "task": 21, "task_da": num_augmented}
    results = Results.model_validate_json((out / "results.json").read_text())
    assert {score.variant for score in results.scores} >= {"teacher", *adapted}


def test_tuning_on_variants_of_the_rows_that_trials_are_scored_on_is_refused(
    folder, tmp_path, capsys
):
    space = {"adaptation.learning_rate": {"choice": [1.0e-4, 1.0e-3]}}
    recipe = write_recipe(folder, "tune", tune={"space": space, "num_trials": 2})
    assert raykd(["tune", recipe, "--out", str(tmp_path / "out")]) == 2
    assert "text of task_da, which the variant 'task_da' learns from" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_augmented_rows_are_reported_before_work_starts(folder, tmp_path, capsys):
    less = tmp_path / "less"
    less.mkdir()
    shutil.copy(folder / "augmented" / "text.parquet", less)
    recipe = write_recipe(folder, "less", task_da=str(less))
    assert raykd(["run", recipe, "--out", str(tmp_path / "out")]) == 2
    assert f"task_da: no examples.parquet in {less}; run raykd augment" in capsys.readouterr().err
