"""Sweeps on Ray with tiny models: grids, failed trials, lost processes, other schedulers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.slow, pytest.mark.ray]
RATE = "adaptation.learning_rate"
OBJECTIVE = "adaptation.objective"
LIMIT_S = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a teacher and a task."""
    folder = tmp_path_factory.mktemp("sweeps")
    save_tiny_model(folder / "teacher")
    for split, num_rows in (("train", 48), ("dev", 30), ("test", 30)):
        rows = [
            {"sentence": f"the place was {('good', 'bad')[row % 2]}", "label": row % 2}
            for row in range(num_rows)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def recipe_in(folder: Path, name: str, space: dict, *, epochs: int = 2, **tune) -> Path:
    values = {
        "name": "tiny",
        "variants": ["direct"],
        "task": {
            "name": "reviews",
            **{split: f"{split}.jsonl" for split in ("train", "dev", "test")},
            "sentence_columns": ["sentence"],
        },
        "teacher": {"model": "teacher", "epochs": 2, "max_length": 24},
        "student": {"num_layers": 2},
        "adaptation": {"epochs": epochs, "max_length": 24, "learning_rate": 1e-3},
        "tune": {"space": space, **tune},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def trials_in(out: Path) -> list[dict]:
    lines = (out / "tune" / "trials.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line]


def study_in(out: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(out / "tune" / "study.journal")))
    return optuna.load_study(study_name="tiny", storage=storage).trials


def states_in(out: Path) -> list[str]:
    return [trial.state.name for trial in study_in(out)]


def descendants(ancestor: int) -> list[tuple[int, str]]:
    """Process ids and command lines of all processes below one."""
    found = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in found.stdout.splitlines()[1:]]
    below = {ancestor}
    while more := {int(pid) for pid, parent, _ in rows if int(parent) in below} - below:
        below |= more
    return [(int(pid), name) for pid, _, name in rows if int(pid) in below - {ancestor}]


def test_a_grid_over_methods_trains_each_point_once_and_is_not_repeated(folder, ray_cluster):
    space = {
        OBJECTIVE: {"choice": ["fine_tune", "pkd"]},
        f"{OBJECTIVE}.layer_map": {
            "choice": ["skip", {"1": 1}],
            "when": {OBJECTIVE: "pkd"},
        },
        "adaptation.batch_size": {"choice": [8, 16]},
    }
    path, out = recipe_in(folder, "grid", space, sampler="grid"), folder / "grid"
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    values = [trial["values"] for trial in trials_in(out)]
    assert len(values) == len({json.dumps(point) for point in values}) == 6
    maps = [point.get(f"{OBJECTIVE}.layer_map") for point in values]
    assert maps.count({"1": 1}) == maps.count("skip") == 2
    assert maps.count(None) == 2
    assert set(states_in(out)) <= {"COMPLETE", "PRUNED"}
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    assert len(trials_in(out)) == 6
    assert raykd(["best", str(out)]) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheduler", ["median", "none"])
def test_other_schedulers_score_every_trial(folder, ray_cluster, scheduler):
    space = {RATE: {"float": [1e-4, 1e-2], "log": True}}
    path = recipe_in(folder, scheduler, space, epochs=3, num_trials=5, scheduler=scheduler)
    out = folder / scheduler
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    trials = trials_in(out)
    assert len(trials) == 5
    assert all(trial["score"] is not None for trial in trials)
    if scheduler == "none":
        assert all(trial["epochs"] == 3 for trial in trials)
    assert 1e-3 in [trial["values"][RATE] for trial in trials]


def test_trials_are_compared_and_stopped_after_equally_many_steps(folder, ray_cluster):
    space = {RATE: {"choice": [1e-2, 1e-6, 2e-6, 3e-6]}, "adaptation.batch_size": {"choice": [16]}}
    keys = {"sampler": "grid", "enqueue": False, "max_concurrent_trials": 1, "grace_steps": 2}
    path, out = recipe_in(folder, "steps", space, epochs=6, **keys), folder / "steps"
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    # 6 epochs of 3 batches; rungs after 2 and 8 steps.
    steps = {trial.state.name: list(trial.intermediate_values) for trial in study_in(out)}
    assert steps["COMPLETE"] == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert steps["PRUNED"] in ([2], [2, 4, 6, 8])
    stopped = [trial for trial in trials_in(out) if not trial["whole"]]
    assert stopped
    assert all(trial["curve"][0][0] == pytest.approx(2 / 3) for trial in stopped)


def test_diverged_trials_are_recorded_once_and_too_many_stop_the_sweep(folder, ray_cluster, capsys):
    space = {
        RATE: {"choice": [1e-3, 1e35, 1e36, 1e37]},
        "adaptation.batch_size": {"choice": [8, 16]},
    }
    keys = {"sampler": "grid", "enqueue": False, "max_concurrent_trials": 1, "seed": 2}
    path, out = recipe_in(folder, "diverging", space, **keys), folder / "diverging"
    assert raykd(["tune", str(path), "--out", str(out)]) == 2
    printed = capsys.readouterr().err
    assert "trials failed, which is more than tune.max_failed_share (0.5)" in printed
    assert "Traceback" not in printed
    trials = trials_in(out)
    assert 4 <= len(trials) < 8
    failed = [trial for trial in trials if trial["error"]]
    assert len(failed) > len(trials) / 2
    assert all("loss" in trial["error"] for trial in failed)
    assert states_in(out).count("FAIL") >= len(failed)

    tolerant = path.read_text().replace("tune:", "tune:\n  max_failed_share: 1")
    path.write_text(tolerant)
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    again = trials_in(out)
    assert again[: len(trials)] == trials
    assert len({json.dumps(trial["values"]) for trial in again}) == len(again) == 8


def test_two_workers_per_trial_have_the_scores_of_one_and_are_made_again(
    folder, ray_cluster, capsys
):
    space = {RATE: {"choice": [1e-2, 1e-6, 1e35]}}
    keys = {"sampler": "grid", "scheduler": "none", "enqueue": False, "max_concurrent_trials": 1}
    scores = {}
    for workers in (1, 2):
        keys["workers_per_trial"] = workers
        path, out = recipe_in(folder, f"workers{workers}", space, **keys), folder / f"w{workers}"
        assert raykd(["tune", str(path), "--out", str(out)]) == 0
        trials = trials_in(out)
        assert [(trial["num_workers"], trial["num_cpus"]) for trial in trials] == [
            (workers, float(workers))
        ] * 3
        assert [trial["values"][RATE] for trial in trials if trial["error"]] == [1e35]
        scores[workers] = {trial["values"][RATE]: trial["curve"] for trial in trials}
    # A worker's rounding is that of its rows.
    assert scores[1][1e-6] == scores[2][1e-6]
    assert scores[1][1e-2][-1][1] == pytest.approx(scores[2][1e-2][-1][1], abs=0.05)
    capsys.readouterr()
    assert raykd(["best", str(out), "--rerun"]) == 0
    assert ": the same; " in capsys.readouterr().err


def test_trials_of_two_workers_are_stopped_early(folder, ray_cluster):
    space = {RATE: {"choice": [1e-2, 1e-6, 2e-6, 3e-6]}}
    keys = {"sampler": "grid", "enqueue": False, "max_concurrent_trials": 1}
    path = recipe_in(folder, "group", space, epochs=6, workers_per_trial=2, **keys)
    out = folder / "group"
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    states = states_in(out)
    assert len(states) == 4
    assert "PRUNED" in states
    assert "FAIL" not in states


@pytest.mark.parametrize("lost", ["ImplicitFunc", "_Companion"])
def test_a_trial_that_loses_a_process_is_trained_again_once(folder, lost):
    space = {RATE: {"choice": [1e-3, 2e-3]}}
    keys = {"sampler": "grid", "scheduler": "none", "max_concurrent_trials": 1}
    keys["workers_per_trial"] = 2 if lost == "_Companion" else 1
    path, out = recipe_in(folder, f"lost{lost}", space, epochs=120, **keys), folder / f"lost-{lost}"
    command = [sys.executable, "-m", "raykd", "tune", str(path), "--out", str(out)]
    driver = subprocess.Popen(
        command,
        env=os.environ | {"RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    victims: list[int] = []
    deadline_s = time.monotonic() + LIMIT_S
    while driver.poll() is None and len(victims) < 1 and time.monotonic() < deadline_s:
        time.sleep(0.2)
        started = list((out / "tune" / "trials").glob("*.unfinished/metrics.jsonl"))
        if started and started[0].read_text().count("\n") > 3:
            victims = [pid for pid, name in descendants(driver.pid) if lost in name]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
    output, _ = driver.communicate(timeout=LIMIT_S)
    assert victims
    assert driver.returncode == 0, output
    trials = trials_in(out)
    assert [(trial["epochs"], trial["error"]) for trial in trials] == [(120, None), (120, None)]
    assert [len(trial["curve"]) for trial in trials] == [120, 120]
    assert states_in(out) == ["COMPLETE", "COMPLETE"]


@pytest.mark.exhaustive
def test_two_targets_make_a_front_whose_students_are_picked_and_made_again(
    folder, ray_cluster, tmp_path, capsys
):
    space = {"student.num_layers": {"choice": [1, 2]}, RATE: {"choice": [1e-3, 1e-2, 1e35]}}
    keys = {"targets": ["accuracy", "flops", "latency_ms"], "sampler": "grid", "num_trials": 3}
    path, out = recipe_in(folder, "targets", space, **keys), folder / "targets"
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    first = trials_in(out)
    path.write_text(path.read_text().replace("num_trials: 3", "num_trials: 6"))
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    trials = trials_in(out)
    assert trials[:3] == first
    assert len({json.dumps(trial["values"]) for trial in trials}) == len(trials) == 6
    whole = [trial for trial in trials if not trial["error"]]
    assert len(whole) == 4
    assert all("loss" in trial["error"] for trial in trials if trial["error"])
    costs = {
        layers: {
            tuple(trial["costs"].items())
            for trial in whole
            if trial["values"]["student.num_layers"] == layers
        }
        for layers in (1, 2)
    }
    assert [len(values) for values in costs.values()] == [1, 1]
    small, large = (dict(next(iter(values))) for values in costs.values())
    assert small["flops"] < large["flops"]

    storage = JournalStorage(JournalFileBackend(str(out / "tune" / "study.journal")))
    study = optuna.load_study(study_name="tiny", storage=storage)
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    noted = {tuple(t.values) for t in study.trials if t.state.name == "COMPLETE"}
    assert noted == {
        (trial["score"], trial["costs"]["flops"], trial["costs"]["latency_ms"]) for trial in whole
    }
    capsys.readouterr()
    limit = f"flops <= {small['flops']:.0f}"
    picked = ["best", str(out), "--pick", limit]
    assert raykd([*picked, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    kept = {folder.name for folder in (out / "tune" / "best").iterdir()}
    assert kept == {str(trial["number"]) for trial in values["front"]}
    assert values["winner"]["values"]["student.num_layers"] == 1
    assert raykd([*picked, "--rerun", "--export", str(tmp_path / "student")]) == 0
    assert ": the same; " in capsys.readouterr().err
    assert json.loads((tmp_path / "student" / "config.json").read_text())["num_hidden_layers"] == 1
    assert "num_layers: 1" in (out / "best.yaml").read_text()
    assert '<div class="charts" id="front">' in (out / "tune.html").read_text()
    assert not list((out / "tune" / "result").glob("**/*.partial*"))

    path.write_text(path.read_text().replace("tune:", "tune:\n  pick: flops <= 1"))
    assert raykd(["tune", str(path), "--out", str(out)]) == 2
    assert "no trial meets 'flops <= 1'; the nearest is trial" in capsys.readouterr().err
    assert len(trials_in(out)) == 6
    assert raykd([*picked, "--json"]) == 0
