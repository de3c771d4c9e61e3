"""The calibration of a run's student, from its dev rows to its predictions."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code
from raykd.evaluation.calibration.temperature import fit_temperature
from raykd.models.calibration import CALIBRATION_FILE, read_calibration
from raykd.report.results import Results

CLASSES = ("bad", "fine", "good")
THINGS = ("film", "book", "plot", "actor", "scene", "story", "music", "voice")
# Written by each run, or informative; every other file must be in a manifest.
WITHOUT_MANIFEST = {"plan.json", "recipe.yaml", "results.json", "report.html", "times.json"}
STUDENT = "students-alone-random-seed1-adapted"


def raykd(*arguments) -> int:
    with serial_tasks():
        return _exit_code([str(one) for one in arguments])


def write_rows(path: Path, num_rows: int, seed: int) -> None:
    """Write rows of which every fifth has a label drawn at random."""
    chance = random.Random(seed)
    lines = ["text,label"]
    for _ in range(num_rows):
        name = chance.choice(CLASSES)
        label = chance.choice(CLASSES) if chance.random() < 0.2 else name
        lines.append(f"the {chance.choice(THINGS)} and {chance.choice(THINGS)} is {name},{label}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a recipe, and its complete run in `out`."""
    folder = tmp_path_factory.mktemp("calibrated")
    save_tiny_model(folder / "teacher", num_labels=3)
    for split, num_rows in (("train", 96), ("dev", 90), ("test", 60)):
        write_rows(folder / f"{split}.csv", num_rows, len(split))
    phase = {"batch_size": 8, "learning_rate": 5e-3, "max_length": 16}
    values = {
        "name": "tiny",
        "variants": ["alone"],
        "task": {
            "name": "reviews",
            **{split: f"{split}.csv" for split in ("train", "dev", "test")},
            "sentence_columns": ["text"],
        },
        "teacher": {"model": "teacher", "epochs": 1, **phase},
        "student": {"num_layers": 1},
        "adaptation": {"objective": {"name": "vanilla_kd"}, "epochs": 4, **phase},
        "workers": {"use_gpu": False},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert raykd("run", folder / "recipe.yaml", "--out", folder / "out") == 0
    return folder


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def outputs(out: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(out / "predictions" / name / "predictions.parquet")
    labels = table["label"].to_numpy().astype(int)
    return np.array(table["logits"].to_pylist(), np.float64), labels


def test_the_student_keeps_the_temperature_of_its_dev_rows(folder):
    out = folder / "out"
    kept = read_calibration(out / "student")
    logits, labels = outputs(out, f"{STUDENT}-dev")
    fit = fit_temperature(logits, labels)
    assert fit.problem is None
    assert (kept.temperature, kept.num_rows, kept.labels) == (fit.temperature, 90, CLASSES)
    facts = Results.model_validate_json((out / "results.json").read_text()).calibration
    assert (facts.variant, facts.init, facts.seed) == ("alone", "random", 1)
    assert facts.temperature == fit.temperature
    dev, test = facts.measured
    logits, labels = outputs(out, STUDENT)
    assert (dev.split, test.split, test.num_rows) == ("dev", "test", 60)
    assert test.error == pytest.approx((logits.argmax(axis=1) != labels).mean())
    assert "Confidence of the student" in (out / "report.html").read_text()
    card = " ".join((out / "student" / "README.md").read_text().split())
    assert f"temperature T = {fit.temperature:.4g}, fitted on 90 dev rows" in card


def test_a_second_run_changes_nothing_and_every_file_is_checked(folder):
    out = folder / "out"
    before = contents(out)
    assert raykd("run", folder / "recipe.yaml", "--out", out) == 0
    assert contents(out) == before
    assert raykd("check", out) == 0
    checked = set(WITHOUT_MANIFEST)
    for path in out.rglob("manifest.json"):
        place = path.parent.relative_to(out)
        names = (path.name, *json.loads(path.read_text())["outputs"])
        checked |= {str(place / name) for name in names}
    assert set(before) == checked | {".lock"}
    assert f"student/{CALIBRATION_FILE}" in checked


def test_a_damaged_calibration_is_found_and_written_again(folder, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    path = out / "student" / CALIBRATION_FILE
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"temperature", b"temperatune"))
    assert raykd("check", out) == 1
    assert f"student/{CALIBRATION_FILE}" in capsys.readouterr().out
    assert raykd("predict", out, "--data", folder / "dev.csv", "--out", tmp_path / "new") == 2
    assert f"{CALIBRATION_FILE}: not as raykd wrote it" in capsys.readouterr().err
    assert raykd("run", folder / "recipe.yaml", "--out", out) == 0
    assert path.read_bytes() == whole


def test_a_precision_answers_the_rows_above_its_threshold(folder, tmp_path, capsys):
    out = folder / "out"
    command = ("predict", out, "--data", folder / "dev.csv", "--device", "cpu", "--out")
    assert raykd(*command, tmp_path / "new", "--precision", "0.6") == 0
    found = read_calibration(out / "student").threshold_for(0.6)
    assert f"precision 0.6: threshold {found.threshold:.4g}; of held" in capsys.readouterr().err
    table = pq.read_table(tmp_path / "new" / "part-00000.parquet")
    answered = ~np.array(table["is_uncertain"].to_pylist())
    right = np.array(table["prediction"].to_pylist()) == np.array(table["label"].to_pylist())
    assert right[answered].mean() >= 0.6
    logits, _ = outputs(out, f"{STUDENT}-dev")
    scaled = logits / read_calibration(out / "student").temperature
    shares = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    assert table["probability"].to_pylist() == pytest.approx(shares.max(axis=1), abs=1e-5)


def test_the_student_of_an_older_run_is_predicted_without_a_calibration(folder, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    for name in (CALIBRATION_FILE, "manifest.json"):
        (out / "student" / name).unlink()
    command = ("predict", out, "--data", folder / "dev.csv", "--device", "cpu", "--out")
    assert raykd(*command, tmp_path / "new") == 0
    assert "probabilities are not calibrated" in capsys.readouterr().err
    assert raykd(*command, tmp_path / "new", "--precision", "0.6") == 2
    assert "has no calibration, so the threshold is unknown" in capsys.readouterr().err
    assert raykd("run", folder / "recipe.yaml", "--out", out) == 2  # files without a manifest
    shutil.rmtree(out / "student")
    assert raykd("run", folder / "recipe.yaml", "--out", out) == 0
    assert contents(out / "student").keys() == contents(folder / "out" / "student").keys()
