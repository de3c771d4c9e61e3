"""`raykd reproduce` on a table of two runs of tiny models."""

import json
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from chaos import Command
from noisy_reviews import noisy_reviews
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def write_split(path: Path, num_rows: int) -> None:
    path.write_text("\n".join(noisy_reviews(num_rows, num_films=7)))


def table_values() -> dict:
    phase = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "max_length": 16}
    return {
        "name": "tiny",
        "title": "Tiny students",
        "paper": {"title": "A paper", "url": "https://example.org", "part": "Table 4"},
        "columns": {"reviews": {"title": "Reviews"}},
        "runs": {
            "plain": {"adaptation": {"objective": {"name": "fine_tune"}}},
            "kd": {"adaptation": {"objective": {"name": "vanilla_kd"}}},
        },
        "rows": {
            "teacher": {"title": "Teacher", "run": "plain", "variant": "teacher"},
            "random": {"title": "Random", "run": "plain", "variant": "direct", "init": "random"},
            "kd": {
                "title": "KD",
                "run": "kd",
                "variant": "direct",
                "init": "bottom",
                "compared_with": ["random", "teacher"],
            },
        },
        "profiles": {
            "small": {
                "seeds": [1, 2],
                "recipe": {
                    "task": {
                        "name": "reviews",
                        "train": "train.jsonl",
                        "dev": "dev.jsonl",
                        "sentence_columns": ["sentence"],
                    },
                    "teacher": {"model": "teacher", **phase, "epochs": 4},
                    "student": {"num_layers": 1},
                    "adaptation": {"objective": {"name": "fine_tune"}, **phase},
                },
                "columns": {"reviews": {}},
            }
        },
        "paper_values": {"kd": {"reviews": 81.5}},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    save_tiny_model(folder / "teacher")
    write_split(folder / "train.jsonl", 48)
    write_split(folder / "dev.jsonl", 30)
    return folder


def write_table(folder: Path, **changes) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(table_values() | changes, sort_keys=False))
    return str(path)


@pytest.mark.timeout(600)
def test_a_killed_reproduction_resumes_and_runs_share_the_teacher(folder, capsys):
    command, out = ["reproduce", write_table(folder), "--out", str(folder / "out")], folder / "out"
    plain, kd = out / "reviews" / "plain", out / "reviews" / "kd"
    first = Command(folder, ["-m", "raykd", *command])
    assert first.wait_until(lambda: (plain / "teacher" / "manifest.json").exists())
    first.kill()
    trained = (plain / "teacher" / "manifest.json").stat().st_mtime_ns

    assert raykd(command) == 0

    printed = capsys.readouterr().out
    assert "| KD | " in printed
    assert "(81.5)" in printed
    assert (plain / "teacher" / "manifest.json").stat().st_mtime_ns == trained
    assert (kd / "teacher" / "manifest.json").samefile(plain / "teacher" / "manifest.json")
    table = json.loads((out / "table.json").read_text())
    cells = {row["name"]: row["cells"][0] for row in table["rows"]}
    for run, row, variant in (("plain", "random", "direct"), ("kd", "kd", "direct")):
        scores = json.loads((out / "reviews" / run / "results.json").read_text())["scores"]
        found = [s["metrics"]["accuracy"] for s in scores if s["variant"] == variant]
        assert len(found) == 2
        assert cells[row]["mean"] == pytest.approx(100 * fmean(found))
        assert cells[row]["num_seeds"] == 2
        assert cells[row]["training_s"] > 0
    assert cells["kd"]["paper"] == 81.5
    assert list(cells["kd"]["differences"]) == ["random", "teacher"]
    for other, difference in cells["kd"]["differences"].items():
        assert difference["mean"] == pytest.approx(cells["kd"]["mean"] - cells[other]["mean"])
        assert difference["low"] <= difference["mean"] <= difference["high"]
    assert cells["random"]["differences"] == {}
    assert "| KD - Random | " in printed
    assert "| KD - Teacher | " in printed
    assert cells["teacher"]["mean"] is not None

    # Another table of the same task next to it takes the teacher over.
    other = write_table(folder, name="other")
    assert raykd(["reproduce", other, "--only", "kd", "--out", str(folder / "out2")]) == 0
    taken = folder / "out2" / "reviews" / "kd"
    for file in ("teacher/manifest.json", "students/direct-bottom-seed1/adapted/manifest.json"):
        assert (taken / file).samefile(kd / file)
    capsys.readouterr()

    # An earlier value far away, and one that is met.
    mean = cells["kd"]["mean"]
    for value, code, state in ((mean - 3.0, 1, "off"), (mean - 1.5, 1, "near"), (mean, 0, "OK")):
        expected = {
            "date": "2026-11-01",
            "commit": "abc",
            "device": "CPU",
            "num_seeds": 2,
            "tolerance": 1.0,
            "values": {"kd": {"reviews": value}},
        }
        write_table(folder, expected={"small": expected})
        assert raykd([*command, "--show", "--check"]) == code
        assert f" {state} |" in capsys.readouterr().out


@pytest.mark.timeout(600)
def test_a_run_that_fails_is_a_failed_cell_and_the_others_are_made(folder, capsys):
    changes = table_values()
    changes["runs"]["kd"] = {"student": {"model": "missing-model"}}
    path = write_table(folder, runs=changes["runs"])
    command = ["reproduce", path, "--out", str(folder / "failing"), "--seeds", "1"]

    assert raykd(command) == 1

    printed = capsys.readouterr().out
    assert "Failed: KD, reviews: " in printed
    assert "missing-model" in printed
    cells = {
        row["name"]: row["cells"][0]
        for row in json.loads((folder / "failing" / "table.json").read_text())["rows"]
    }
    assert cells["kd"]["state"] == "failed"
    assert cells["random"]["mean"] is not None
    assert cells["random"]["deviation"] is None
