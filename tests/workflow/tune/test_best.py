"""Outcome of a study: winner, rivals, failures, importance, cost, and the winner's student."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from test_tuning import recipe_with
from tune_studies import RATE, trials_of

from raykd.cli.best import best
from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.report.tune.importance import importances
from raykd.report.tune.study import keys_of
from raykd.report.tune.trials import Trial
from raykd.storage.manifest import Draft, write_once
from raykd.workflow.tune.best import show_best
from raykd.workflow.tune.choice.exported import export_student
from raykd.workflow.tune.choice.students import KeptStudents, kept_student
from raykd.workflow.tune.study_result import (
    BEST_RECIPE_FILE,
    RECIPE_FILE,
    STUDENT_FOLDER,
    TRIALS_FILE,
    StudyResult,
)


def result_of(trials: list[Trial], **changes) -> StudyResult:
    importance = importances(trials, keys_of(trials, [RATE]))
    values = {"importance": [asdict(one) for one in importance], "name": "cola"}
    return StudyResult("accuracy", "dev", 1, trials, **(values | changes))


def write_study(
    run: Path, result: StudyResult, *, student: bool = True, files: Mapping[str, str] | None = None
) -> None:
    """Write the result of a study to a run directory, with further files by their names."""

    def write(draft: Draft) -> None:
        (draft.directory / TRIALS_FILE).write_text(result.to_json())
        (draft.directory / RECIPE_FILE).write_text(dump_yaml(recipe_with("alone")))
        (draft.directory / BEST_RECIPE_FILE).write_text("name: best\n")
        if student:
            (draft.directory / STUDENT_FOLDER).mkdir()
            (draft.directory / STUDENT_FOLDER / "config.json").write_text("{}")
        for name, text in (files or {}).items():
            path = draft.directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    write_once(run / "tune" / "result", "tune", {}, {}, write)


@pytest.fixture
def run(tmp_path) -> Path:
    run = tmp_path / "run"
    write_study(run, result_of(trials_of(40)))
    return run


def test_the_outcome_names_winner_rivals_stopped_and_failed_trials(run, capsys):
    trials = trials_of(40)
    show_best(run)
    lines = capsys.readouterr().out.splitlines()
    ranked = sorted((t for t in trials if t.whole), key=lambda t: -(t.score or 0))
    assert lines[0] == "accuracy on dev, seed 1"
    assert lines[1].startswith(
        f"winner: {ranked[0].score:.4f}  trial {ranked[0].number}, 10 epochs, 66,000,000 parameters"
    )
    assert lines[2] == "rivals, best first:"
    assert f"trial {ranked[1].number}," in lines[3]
    assert "  and 14 more; --json shows all" in lines
    assert "stopped early: 12 trials, with scores from fewer epochs:" in lines
    assert "3 of 40 trials ended without a score:" in lines
    assert sum("out of memory" in line for line in lines) == 3
    assert "importance of the keys (PED-ANOVA, 37 trials):" in lines
    assert any(f"%  {RATE}: the best quarter has " in line for line in lines)
    assert any(line.startswith("cost: 0.8 core-hours and 0.2 GPU-hours") for line in lines)
    assert lines[-1] == f"best trial's recipe: {run / 'best.yaml'}"
    assert (run / "best.yaml").read_text() == "name: best\n"


def test_json_has_every_trial_and_only_numbers(run, capsys):
    assert best(run, as_json=True) == 0
    values = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert len(values["rivals"]) == 24
    assert len(values["stopped"]) == 12
    assert [trial["error"] for trial in values["failed"]] == ["out of memory"] * 3
    assert values["winner"]["curve"][-1][0] == 10
    assert values["cost"]["core_hours"] == pytest.approx(0.8)
    assert values["importance"][0]["key"] == RATE
    assert values["recipe"] == str(run / "best.yaml")


def test_trials_with_the_winners_score_are_counted(tmp_path, capsys):
    trials = [Trial(number, {RATE: 0.1 * number}, 2, 0.5, True) for number in range(4)]
    write_study(tmp_path, result_of(trials))
    show_best(tmp_path)
    assert "  3 other trials have the same score" in capsys.readouterr().out.splitlines()


def test_a_confirmed_winner_is_shown_instead_of_the_best_trial(tmp_path):
    trials = [Trial(0, {RATE: 0.1}, 2, 0.5, True), Trial(1, {RATE: 0.2}, 2, 0.4, True)]
    assert result_of(trials).winner.number == 0
    assert result_of(trials, confirmation={"winner": 1}).winner.number == 1


def test_the_outcome_is_shown_without_importing_torch_ray_or_pyarrow(run):
    script = (
        "import sys; from pathlib import Path; from raykd.cli.app import app; "
        f"app(['best', {str(run)!r}]); "
        "found = {'torch', 'ray', 'pyarrow', 'optuna'} & sys.modules.keys(); "
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "winner: " in done.stdout


def test_the_student_is_copied_to_a_new_folder_only(run, tmp_path):
    target = tmp_path / "exported" / "student"
    export_student(run, target)
    assert [path.name for path in target.iterdir()] == ["config.json"]
    assert [path.name for path in target.parent.iterdir()] == ["student"]
    with pytest.raises(InputError, match="student: exists already; give --export a new folder"):
        export_student(run, target)


def test_an_empty_folder_is_a_new_one(run, tmp_path):
    (tmp_path / "empty").mkdir()
    export_student(run, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_study_without_a_student_names_the_remedy_or_gives_the_one_made_again(tmp_path):
    run = tmp_path / "run"
    trials = trials_of(40)
    write_study(run, result_of(trials), student=False)
    with pytest.raises(InputError, match=r"no student of trial \d+; make it with .* --rerun"):
        export_student(run, tmp_path / "student")
    assert not (tmp_path / "student").exists()
    number = result_of(trials).winner.number
    made = run / "tune" / "rerun" / f"trial-{number}" / "adapted" / "model"
    made.mkdir(parents=True)
    (made / "again.json").write_text("{}")
    export_student(run, tmp_path / "student")
    assert (tmp_path / "student" / "again.json").is_file()


def test_json_excludes_actions(run):
    with pytest.raises(InputError, match="--json prints the outcome only"):
        best(run, as_json=True, rerun=True)


def end(folder: Path, watcher: KeptStudents, number: int, score: float | None, **changes) -> None:
    trained = folder / "trials" / f"id{number}"
    trained.mkdir(parents=True)
    (trained / "model").write_text(str(number))
    (folder / "trials" / f"id{number}.unfinished").mkdir()
    trial = replace(Trial(number, {}, 1, score, True), **changes)
    watcher.on_end(trial, f"id{number}")


def test_only_the_student_of_the_best_complete_trial_is_kept(tmp_path):
    watcher = KeptStudents(tmp_path, [], ["accuracy"])
    end(tmp_path, watcher, 0, 0.5)
    end(tmp_path, watcher, 1, 0.9, whole=False)
    end(tmp_path, watcher, 2, None, error="out of memory")
    end(tmp_path, watcher, 3, 0.5)
    kept = kept_student(tmp_path, 0)
    assert kept is not None
    assert (kept / "model").read_text() == "0"
    end(tmp_path, watcher, 4, 0.6)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["4"]
    assert list((tmp_path / "trials").iterdir()) == []
    assert kept_student(tmp_path, 0) is None


def test_a_resumed_sweep_keeps_the_student_of_its_best_trial(tmp_path):
    end(tmp_path, KeptStudents(tmp_path, [], ["accuracy"]), 0, 0.5)
    resumed = KeptStudents(tmp_path, [Trial(0, {}, 1, 0.5, True)], ["accuracy"])
    end(tmp_path, resumed, 1, 0.4)
    assert kept_student(tmp_path, 0) is not None
    assert kept_student(tmp_path, 1) is None
