"""State of a cross-validation: folds that are done, running, begun and left."""

import json
import os
import platform
import time
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd
from raykd.operations.crossval_state import is_crossval, read_crossval_state
from raykd.storage.checked_json import to_checked_json
from raykd.storage.manifest import write_manifest

STAGES = {
    "task": ["task"],
    "teacher": ["teacher"],
    "adapt": ["students/direct-bottom-seed1/adapted", "students/direct-bottom-seed2/adapted"],
    "evaluate": ["costs"],
}


def begin(folder: Path, name: str, done: int) -> None:
    """Write the plan of a run, and the first of its outputs."""
    folder.mkdir(parents=True)
    plan = {"name": name, "stages": STAGES, "models_at_once": 1, "num_trials": None}
    (folder / "plan.json").write_text(json.dumps(plan | {"prices": None}))
    outputs = [output for outputs in STAGES.values() for output in outputs]
    for output in outputs[:done]:
        (folder / output).mkdir(parents=True)
        write_manifest(folder / output, "stage", {}, {}, {}, duration_s=1.0)


def write_times(folder: Path, stage: str | None = None) -> None:
    usage = {"task": {"wall_s": 90.0, "cpu_s": 5400.0, "gpu_s": 1800.0}}
    values: dict = {"task": 90.0, "teacher": 30.0, "usage": usage}
    if stage is not None:
        now_s = time.time()
        here = {"host": platform.node(), "pid": os.getpid(), "updated_s": now_s}
        values["running"] = {**here, "stage": stage, "started_s": now_s}
    (folder / "times.json").write_text(to_checked_json(values))


@pytest.fixture
def crossval(tmp_path) -> Path:
    begin(tmp_path / "few" / "folds" / "1-of-4", "few-fold-1", done=4)
    begin(tmp_path / "few" / "folds" / "2-of-4", "few-fold-2", done=3)
    begin(tmp_path / "few" / "folds" / "3-of-4", "few-fold-3", done=1)
    return tmp_path / "few"


def states(folder: Path) -> list[tuple[str, str, int, int]]:
    stages = read_crossval_state(folder).stages
    return [(one.name, one.state, one.num_done, one.num_outputs) for one in stages]


def test_folds_are_done_interrupted_or_left(crossval):
    assert is_crossval(crossval)
    assert states(crossval) == [
        ("fold 1 of 4", "done", 4, 4),
        ("fold 2 of 4", "interrupted", 3, 4),
        ("fold 3 of 4", "interrupted", 1, 4),
        ("fold 4 of 4", "left", 0, 1),
        ("all rows", "left", 0, 1),
        ("report", "left", 0, 1),
    ]


def test_begun_folds_are_running_while_one_reports(crossval):
    write_times(crossval / "folds" / "2-of-4", "adapt")
    found = [state for _, state, _, _ in states(crossval)]
    assert found == ["done", "running", "running", "left", "left", "left"]


def test_everything_is_done_at_the_end_and_hours_are_added(crossval, capsys):
    for number in (2, 3, 4):
        folder = crossval / "folds" / f"{number}-of-4"
        if number < 4:
            for output in STAGES["teacher"] + STAGES["adapt"]:
                if not (folder / output).exists():
                    (folder / output).mkdir(parents=True)
                    write_manifest(folder / output, "stage", {}, {}, {}, duration_s=1.0)
        else:
            begin(folder, "few-fold-4", done=4)
        write_times(folder)
    begin(crossval / "final", "few", done=4)
    (crossval / "results.json").write_text("{}")
    assert read_crossval_state(crossval).is_done

    assert raykd(["status", str(crossval)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"few: {crossval}"
    assert lines[2].split() == ["done", "fold", "2", "of", "4", "2", "min"]
    assert lines[-1] == "computing time: 4.50 CPU hours, 1.50 GPU hours"
