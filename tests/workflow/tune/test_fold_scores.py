"""Trials on folds without Ray: their scores are those of separate cross-validations."""

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml
from noisy_reviews import noisy_reviews
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model

from raykd.training.trainers import Worker
from raykd.workflow.crossval.crossvalidation import crossvalidate
from raykd.workflow.run import open_run
from raykd.workflow.tune.choice.training import (
    ChosenStudent,
    final_scores,
    shared_inputs,
    train_students,
    workers_like_trials,
)
from raykd.workflow.tune.trial.events import AdaptationEvents
from raykd.workflow.tune.trial.setting import Setting
from raykd.workflow.tune.trial.training import train_trial
from raykd.workflow.tune.tuning import prepare

RATE = "adaptation.learning_rate"


def write_rows(path: Path, num_rows: int) -> None:
    path.write_text("\n".join(noisy_reviews(num_rows)))


def write_recipe(folder: Path, *, rate: float = 3e-3) -> Path:
    phase = {"batch_size": 8, "max_length": 16, "keep": "best"}
    values = {
        "name": "few",
        "variants": ["direct"],
        "task": {
            "name": "reviews",
            "train": "train.jsonl",
            "sentence_columns": ["sentence"],
            "folds": 3,
            "dev_seed": 4,
        },
        "teacher": {"model": "teacher", **phase, "learning_rate": 3e-3, "epochs": 3},
        "student": {"num_layers": 1, "inits": ["bottom"]},
        "adaptation": {
            "objective": {"name": "vanilla_kd"},
            **phase,
            "learning_rate": rate,
            "epochs": 4,
        },
        "tune": {"folds": 3, "space": {RATE: {"float": [1e-5, 1.0]}}},
    }
    path = folder / f"rate-{rate}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def mtimes(out: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(pattern)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fold_scores")
    save_tiny_model(folder / "teacher")
    write_rows(folder / "train.jsonl", 36)
    return folder


@pytest.fixture(scope="module")
def setting(folder) -> Setting:
    """Setting of a sweep, whose teachers are trained."""
    with serial_tasks():
        return prepare(open_run(write_recipe(folder), folder / "out", needs_dev=False))


def run_trial(setting: Setting, rate: float, name: str) -> tuple[AdaptationEvents, list[dict]]:
    reports: list[dict] = []
    events = AdaptationEvents("accuracy", reports.append)
    train_trial({RATE: rate}, name, setting, None, Worker(), events)
    return events, reports


@pytest.mark.parametrize(("rate", "stops_early"), [(3e-3, True), (5e-2, False)])
def test_the_score_of_a_trial_is_that_of_a_cross_validation_with_its_values(
    folder, setting, rate, stops_early
):
    with serial_tasks():
        events, reports = run_trial(setting, rate, f"rate-{rate}")
        results = crossvalidate(write_recipe(folder, rate=rate), folder / f"crossval-{rate}")

    [score] = [one for one in results.scores if one.variant == "direct"]
    assert events.last["accuracy"] == score.metrics["accuracy"]
    assert (events.last["epoch"], events.last["whole"]) == (4, 1)
    # Progress without a score while folds are trained, then the mean curve.
    scores = [report["accuracy"] for report in reports]
    assert [math.isnan(score) for score in scores] == [True] * 3 + [False] * 3
    assert [report["epoch"] for report in reports[3:]] == [1, 2, 3]
    curve = next(one for one in results.curves if one.variant == "direct").points
    assert scores[3:] == pytest.approx([point.metrics["accuracy"] for point in curve[:3]])
    # The students that the cross-validation trained for fewer epochs are those of the trial.
    [choice] = [one for one in results.crossval.epochs if one.variant == "direct"]
    stopped = {fold for fold, epochs in enumerate(choice.by_fold, 1) if epochs < 4}
    assert bool(stopped) == stops_early
    trained = setting.trained(f"rate-{rate}")
    names = {path.name for path in trained.iterdir() if not path.name.endswith(".unfinished")}
    assert names == {f"fold-{fold}" for fold in (1, 2, 3)} | {
        f"fold-{fold}-stopped" for fold in stopped
    }


def test_teachers_never_saw_the_rows_of_their_fold_and_are_made_once(folder, setting):
    pattern = "out/tune/folds/*/teacher/manifest.json"
    trained = mtimes(folder, pattern)
    assert len(trained) == 3
    for run in setting.folds:
        manifest = json.loads((run.teacher / "manifest.json").read_text())
        task = run.task()
        assert manifest["counts"]["num_rows"] == task.train.num_rows == 36 - task.dev.num_rows
        assert not set(task.train["row_id"].to_pylist()) & set(task.dev["row_id"].to_pylist())
    inputs = shared_inputs(setting)
    with serial_tasks():
        again = prepare(open_run(write_recipe(folder), folder / "out", needs_dev=False))
    assert mtimes(folder, pattern) == trained
    assert shared_inputs(again) == inputs
    assert len({inputs[f"teacher of fold {fold}"] for fold in (1, 2, 3)}) == 3


def test_a_trial_that_is_started_again_keeps_its_completed_folds(setting):
    with serial_tasks():
        first, _ = run_trial(setting, 1e-2, "again")
        trained = setting.trained("again")
        shutil.rmtree(trained / "fold-3")
        before = mtimes(trained, "fold-[12]/manifest.json")
        second, _ = run_trial(setting, 1e-2, "again")
    assert mtimes(trained, "fold-[12]/manifest.json") == before
    assert second.last == first.last


def test_a_student_made_again_on_all_folds_has_the_score_of_its_trial(setting, tmp_path):
    with serial_tasks():
        events, _ = run_trial(setting, 2e-2, "made")
        workers = workers_like_trials(setting, 1, 1.0, 0.0)
        student = ChosenStudent({RATE: 2e-2}, 1, tmp_path / "student")
        train_students(setting, [student], workers, "rerun")
    assert final_scores(setting, student)["accuracy"] == events.last["accuracy"]
