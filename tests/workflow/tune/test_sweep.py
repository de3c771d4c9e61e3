"""Records of ended trials: resumed, extended, and kept apart from those of other settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from raykd.report.tune.trials import Trial
from raykd.storage.checked_json import to_checked_json
from raykd.workflow.tune.sweep import Sweep


def trial(number: int, score: float | None, error: str | None = None) -> Trial:
    return Trial(number, {"adaptation.learning_rate": 0.1}, 2, score, True, error)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "tune"


def test_ended_trials_are_read_by_number_without_the_line_of_a_killed_process(folder):
    sweep = Sweep(folder, "a" * 64)
    assert sweep.open() is None
    sweep.append(trial(0, 0.5))
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"number": 0, "score": 0.9')
    sweep.append(trial(2, 0.7))
    sweep.append(trial(1, None, "out of memory"))
    again = Sweep(folder, "a" * 64)
    assert again.open() is None
    assert again.trials() == [trial(0, 0.5), trial(1, None, "out of memory"), trial(2, 0.7)]


def test_a_changed_line_is_left_out(folder):
    sweep = Sweep(folder, "a" * 64)
    sweep.open()
    sweep.append(trial(0, 0.5))
    sweep.append(trial(1, 0.6))
    file = folder / "trials.jsonl"
    file.write_text(file.read_text().replace("0.5", "0.7"))
    assert sweep.trials() == [trial(1, 0.6)]


def test_trials_of_other_settings_are_kept_aside(folder):
    first = Sweep(folder, "a" * 64)
    first.open()
    first.append(trial(0, 0.5))
    first.study_file.write_text("journal")
    (folder / "result").mkdir()
    second = Sweep(folder, "b" * 64)
    assert second.open() == folder / "previous" / "aaaaaaaaaaaa"
    assert second.trials() == []
    names = sorted(path.name for path in (folder / "previous" / "aaaaaaaaaaaa").iterdir())
    assert names == ["result", "study.journal", "trials.jsonl"]
    assert not (folder / "result").exists()


def test_a_sweep_without_any_score_is_begun_again(folder):
    sweep = Sweep(folder, "a" * 64)
    sweep.open()
    sweep.append(trial(0, None, "out of memory"))
    assert sweep.open() == folder / "previous" / "aaaaaaaaaaaa"
    assert sweep.trials() == []
    sweep.append(trial(0, None, "out of memory"))
    assert sweep.open() == folder / "previous" / "aaaaaaaaaaaa-2"


def test_a_record_of_an_older_version_is_read_without_scores_and_curve(folder):
    sweep = Sweep(folder, "a" * 64)
    sweep.open()
    values = {"number": 0, "values": {}, "epochs": 2, "score": 0.5, "whole": True, "error": None}
    (folder / "trials.jsonl").write_text(json.dumps(json.loads(to_checked_json(values))))
    (read,) = sweep.trials()
    assert (read.score, read.scores, read.curve, read.seconds) == (0.5, {}, [], None)


def test_all_values_of_a_record_are_read_as_written(folder):
    sweep = Sweep(folder, "a" * 64)
    sweep.open()
    written = replace(
        trial(0, 0.5),
        scores={"mcc": 0.5, "accuracy": 0.75},
        curve=[[1.0, 0.25], [2.0, 0.5]],
        seconds=12.5,
        num_cpus=2.0,
        num_gpus=0.5,
        num_parameters=900,
    )
    sweep.append(written)
    assert sweep.trials() == [written]
