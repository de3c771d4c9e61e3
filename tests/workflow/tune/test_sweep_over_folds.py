"""A sweep whose trials are scored by cross-validation: a kill, the scores, and what follows."""

import json
from pathlib import Path

import pytest
import yaml
from chaos import Command
from noisy_reviews import noisy_reviews
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.workflow.tune.study_result import read_result

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

RATE = "adaptation.learning_rate"


def write_rows(path: Path, num_rows: int) -> None:
    path.write_text("\n".join(noisy_reviews(num_rows)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    save_tiny_model(folder / "teacher")
    write_rows(folder / "train.jsonl", 40)
    write_rows(folder / "dev.jsonl", 10)
    return folder


def write_recipe(folder: Path, name: str, task: dict, tune: dict, *, epochs: int = 5) -> str:
    phase = {"batch_size": 8, "learning_rate": 3e-3, "max_length": 16, "keep": "best"}
    values = {
        "name": name,
        "variants": ["direct"],
        "task": {
            "name": "reviews",
            "train": "train.jsonl",
            "sentence_columns": ["sentence"],
            **task,
        },
        "teacher": {"model": "teacher", **phase, "epochs": 4},
        "student": {"num_layers": 1, "inits": ["bottom"]},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase, "epochs": epochs},
        "tune": {"sampler": "grid", "enqueue": False, "max_concurrent_trials": 1, **tune},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def trials_in(out: Path) -> list[dict]:
    file = out / "tune" / "trials.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line]


def mtimes(out: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(pattern)}


@pytest.mark.timeout(1200)
def test_a_killed_sweep_resumes_and_each_trial_has_the_pooled_score_of_a_cross_validation(
    folder, capsys
):
    rates = [3e-3, 1e-4, 3e-2]
    recipe = write_recipe(
        folder, "few", {"folds": 3}, {"folds": 3, "space": {RATE: {"choice": rates}}}
    )
    out = folder / "out"
    command = ["tune", recipe, "--out", str(out)]
    first = Command(folder, ["-m", "raykd", *command])
    assert first.wait_until(lambda: len(trials_in(out)) >= 1)
    first.kill()
    ended, teachers = trials_in(out), mtimes(out, "tune/**/teacher/manifest.json")
    assert len(list(out.glob("tune/folds/*-of-3/teacher/manifest.json"))) == 3
    assert 1 <= len(ended) < 3

    assert raykd(command) == 0

    trials = trials_in(out)
    assert trials[: len(ended)] == ended
    assert sorted(trial["values"][RATE] for trial in trials) == sorted(rates)
    assert mtimes(out, "tune/**/teacher/manifest.json") == teachers
    assert not (out / "tune" / "trials").exists()
    assert all(trial["whole"] and trial["epochs"] == 5 for trial in trials)
    assert all([point[0] for point in trial["curve"]] == [1, 2, 3, 4, 5] for trial in trials)

    # The oracle: separate cross-validations with each trial's values.
    assert raykd(["best", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy on the 40 held-out rows of 3 folds of train, seed 1" in printed
    assert f"raykd crossval {out / 'best.yaml'}" in printed
    by_fold = []
    for trial in trials:
        values = yaml.safe_load((out / "best.yaml").read_text())
        values["adaptation"]["learning_rate"] = trial["values"][RATE]
        path = folder / f"trial-{trial['number']}.yaml"
        path.write_text(yaml.safe_dump(values))
        alone = folder / f"crossval-{trial['number']}"
        assert raykd(["crossval", str(path), "--out", str(alone)]) == 0
        results = json.loads((alone / "results.json").read_text())
        [score] = [s for s in results["scores"] if s["variant"] == "direct"]
        assert trial["score"] == pytest.approx(score["metrics"]["accuracy"])
        by_fold += next(
            choice["by_fold"]
            for choice in results["crossval"]["epochs"]
            if choice["variant"] == "direct"
        )
    # Some students were trained for fewer than all epochs, and others for all.
    assert min(by_fold) < max(by_fold) == 5
    page = (out / "tune.html").read_text()
    assert "on the 40 held-out rows of 3 folds of train" in page

    capsys.readouterr()
    assert raykd(["best", str(out), "--rerun"]) == 0
    assert ": the same; " in capsys.readouterr().err
    assert raykd(["best", str(out), "--export", str(folder / "student")]) == 2
    assert f"raykd crossval {out / 'best.yaml'}" in capsys.readouterr().err


@pytest.mark.timeout(600)
def test_folds_of_a_task_with_dev_rows_leave_those_out_and_confirm_with_new_seeds(folder, capsys):
    tune = {
        "folds": 2,
        "space": {"student.num_layers": {"choice": [1, 2]}},
        "targets": ["accuracy"],
        "confirm": {"top": 2, "seeds": 2},
    }
    recipe, out = write_recipe(folder, "own", {"dev": "dev.jsonl"}, tune, epochs=2), folder / "own"
    assert raykd(["tune", recipe, "--out", str(out)]) == 0

    result = read_result(out / "tune" / "result", str(out))
    assert result.validation == "the 40 held-out rows of 2 folds of train"
    assert [len(one["scores"]) for one in result.confirmation["repeated"]] == [2, 2]
    assert result.winner.number == result.confirmation["winner"]
    sizes = {trial.values["student.num_layers"]: trial.num_parameters for trial in result.trials}
    assert sizes[1] < sizes[2]
    capsys.readouterr()
    assert raykd(["best", str(out)]) == 0
    assert f"raykd run {out / 'best.yaml'}" in capsys.readouterr().out
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best["task"]["dev"].endswith("dev.jsonl")
    assert best["student"]["num_layers"] == result.winner.values["student.num_layers"]
    assert best["teacher"]["keep"] == best["adaptation"]["keep"] == "best"
