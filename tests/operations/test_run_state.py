"""State of unfinished runs: stages, shards, trials, remaining time, cost."""

import json
import os
import platform
import time
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.operations.run_state import StageState, read_state
from raykd.storage.checked_json import to_checked_json
from raykd.storage.manifest import write_manifest

PLAN = {
    "name": "reviews",
    "stages": {
        "task": ["task"],
        "ingest": ["units"],
        "retrieve": ["queries", "hits"],
        "adapt": [f"students/alone-random-seed{seed}/adapted" for seed in (1, 2, 3, 4, 5)],
    },
    "models_at_once": 2,
    "num_trials": 8,
    "prices": None,
}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    write_plan(folder)
    return folder


def write_plan(folder: Path, **changes) -> None:
    (folder / "plan.json").write_text(json.dumps(PLAN | changes))


def complete(folder: Path, duration_s: float = 1.0) -> None:
    folder.mkdir(parents=True)
    (folder / "result.txt").write_text("result")
    write_manifest(folder, "stage", {}, {}, {}, duration_s=duration_s)


def write_times(run: Path, **running) -> None:
    usage = {"task": {"wall_s": 90.0, "cpu_s": 5400.0, "gpu_s": 1800.0}}
    values: dict = {"task": 90.0, "usage": usage}
    if running:
        here = {"host": platform.node(), "pid": os.getpid(), "updated_s": time.time()}
        values["running"] = here | running
    (run / "times.json").write_text(to_checked_json(values))


def stage_of(run: Path, name: str) -> StageState:
    return next(stage for stage in read_state(run).stages if stage.name == name)


def test_stages_are_done_interrupted_or_left(run):
    complete(run / "task")
    complete(run / "units" / "shard-00000")
    complete(run / "units" / "shard-00001")
    (run / "units" / "shard-00002").mkdir()
    write_times(run)
    state = read_state(run)
    assert [stage.state for stage in state.stages] == ["done", "interrupted", "left", "left"]
    assert state.stages[0].time_s == 90.0
    assert state.stages[1].progress == "2 shards so far"
    assert not state.is_done


def test_a_stage_runs_while_its_process_reports(run):
    complete(run / "task")
    (run / "units").mkdir()
    started = {"stage": "ingest", "started_s": time.time() - 60}
    write_times(run, **started)
    assert stage_of(run, "ingest").state == "running"
    assert read_state(run).runs_on == f"{platform.node()}, process {os.getpid()}"
    write_times(run, **started, updated_s=time.time() - 600)
    assert stage_of(run, "ingest").state == "interrupted"
    write_times(run, **started, pid=2**22 + 1)
    assert stage_of(run, "ingest").state == "interrupted"
    # The process of another machine cannot be checked: its reports count.
    write_times(run, **started, host="elsewhere", pid=2**22 + 1)
    assert stage_of(run, "ingest").state == "running"


def test_the_time_left_of_a_search_follows_from_its_shards(run):
    for number in range(8):
        shard = run / "units" / f"shard-0000{number}"
        shard.mkdir(parents=True)
        (shard / "units-00000.parquet").touch()
        (shard / "quarantine.parquet").touch()
    write_manifest(run / "units", "ingest", {}, {}, {}, duration_s=1.0)
    complete(run / "queries")
    parts = run / ".hits.parts"
    complete(parts / "merged-0123-000001-00000")
    # One shard as a whole, one by two tasks.
    complete(parts / "hits-aaaa")
    complete(parts / "hits-bbbb-00000-00001")
    complete(parts / "hits-bbbb-00001-00002")
    write_times(run, stage="retrieve", started_s=time.time() - 30)
    stage = stage_of(run, "retrieve")
    assert (stage.num_done, stage.num_outputs, stage.state) == (1, 2, "running")
    assert stage.progress == "about 3 of 8 shards"
    assert stage.left_s == pytest.approx(50, abs=2)


def test_the_time_left_of_trainings_follows_from_the_finished_ones(run):
    assert stage_of(run, "adapt").left_s is None
    complete(run / PLAN["stages"]["adapt"][0], duration_s=100)
    complete(run / PLAN["stages"]["adapt"][1], duration_s=140)
    stage = stage_of(run, "adapt")
    # Three are left, two at a time.
    assert (stage.num_done, stage.left_s) == (2, 240)
    (run / PLAN["stages"]["adapt"][0] / "manifest.json").write_text("{")
    assert stage_of(run, "adapt").num_done == 1


def test_hours_have_a_cost_if_the_recipe_has_prices(run):
    assert read_state(run).hours is None
    write_times(run)
    hours = read_state(run).hours
    assert (hours.cpu_hours, hours.gpu_hours, hours.cost) == (1.5, 0.5, None)
    write_plan(run, prices={"cpu_hour": 0.04, "gpu_hour": 1.2, "currency": "EUR"})
    hours = read_state(run).hours
    assert hours.cost == pytest.approx(0.66)
    assert hours.currency == "EUR"


def test_trials_are_counted_while_a_study_runs_and_after_it(run):
    assert read_state(run).trials is None
    study = run / "tune" / "study.journal"
    study.parent.mkdir()
    entries = [
        {"op_code": 0, "study_name": "reviews"},
        *({"op_code": 4, "study_id": 0} for _ in range(4)),
        {"op_code": 6, "trial_id": 0, "state": 1, "values": [0.5]},
        {"op_code": 6, "trial_id": 2, "state": 3, "values": None},
    ]
    text = "\n".join(map(json.dumps, entries))
    study.write_text(f'{text}\n{{"op_code": 6, "tri')  # a line that is being written
    ended = [{"error": None, "score": 0.5}, {"error": "out of memory", "score": None}]
    lines = [json.dumps(json.loads(to_checked_json(trial))) for trial in ended]
    (study.parent / "trials.jsonl").write_text("\n".join([*lines, lines[0][:20]]))
    trials = read_state(run).trials
    assert (trials.num_ended, trials.num_failed) == (2, 1)
    assert (trials.num_running, trials.num_trials) == (2, 8)
    (run / "tune" / "result").mkdir()
    (run / "tune" / "result" / "trials.json").write_text(json.dumps({"trials": ended}))
    trials = read_state(run).trials
    assert (trials.num_ended, trials.num_failed, trials.num_running) == (2, 1, 0)


def test_the_command_prints_text_or_json(run, capsys):
    complete(run / "task")
    write_times(run)
    assert raykd(["status", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"reviews: {run}",
        "  done         task           2 min",
        "  left         ingest",
        "  left         retrieve       0 of 2 outputs",
        "  left         adapt          0 of 5 outputs",
        "computing time: 1.50 CPU hours, 0.50 GPU hours",
    ]
    assert raykd(["status", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["state"] == "done"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "not a run directory .*; give the run directory"),
        ("{", "plan.json: damaged"),
        ("[]", "plan.json: damaged"),
        ('{"stages": 3}', "plan.json: damaged"),
        (json.dumps(PLAN | {"stages": {"task": [1]}}), "plan.json: damaged"),
        (json.dumps(PLAN | {"stages": ["task"]}), "plan.json: damaged"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        read_state(tmp_path)
    with pytest.raises(InputError, match="no such directory"):
        read_state(tmp_path / "absent")


def test_a_run_of_an_earlier_version_is_refused_with_the_command_that_updates_it(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: reviews\n")
    with pytest.raises(InputError, match="not a run directory of this version .* raykd run RECIPE"):
        read_state(tmp_path)
