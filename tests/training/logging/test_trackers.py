"""`report_to`: real trackers, and the files that they write."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from event_handlers import calling
from killed_training import (
    NUM_STEPS,
    KilledTraining,
    job_in,
    killed,
    kills_its_worker_once,
)
from tracked_runs import (
    Series,
    TrackedRun,
    mlflow_runs,
    tensorboard_series,
    tensorboard_settings,
    wandb_runs,
)

from raykd.errors import InputError
from raykd.training.distributed.config import WorkersConfig
from raykd.training.logging import trackers, tracking
from raykd.training.logging.metrics_writer import CURVE_FILE, STEPS_FILE
from raykd.training.logging.records import Record, StepRecord
from raykd.training.logging.tracking import Tracking, tracked_metrics_writer
from raykd.training.phase.job import PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.pipeline import train_phases
from raykd.training.trainers import Worker

ALL = ("tensorboard", "wandb", "mlflow")


def tracked(job: PhaseJob, folder: Path, name: str = "adapt direct random seed 1") -> PhaseJob:
    return replace(job, name=name, tracking=Tracking(ALL, "reviews", folder))


def runs_of(folder: Path) -> list[list[TrackedRun]]:
    """Return the runs of each tracker, by name."""
    tensorboard_run = [
        TrackedRun(path.name, "", {}, "", tensorboard_series(path))
        for path in sorted((folder / "tensorboard").iterdir())
    ]
    return [tensorboard_run, wandb_runs(folder), mlflow_runs(folder)]


def expected_series(out: Path) -> Series:
    """Return the metrics of a completed job under the trackers' names."""
    series: Series = {}

    def add(step: int, name: str, value: float) -> None:
        series.setdefault(name, []).append((step, pytest.approx(value, rel=1e-5)))

    for line in (out / STEPS_FILE).read_text().splitlines():
        step = json.loads(line)
        for name in ("epoch", "learning_rate", "gradient_norm"):
            add(step["step"], f"train/{name}", step[name])
        for kind in ("losses", "measures"):
            for name, value in step[kind].items():
                add(step["step"], f"{kind}/{name}", value)
    for line in (out / CURVE_FILE).read_text().splitlines():
        record = json.loads(line)
        add(record["step"], "records/epoch", record["epoch"])
        for kind, section in (("losses", "mean_losses"), ("scores", "scores")):
            for name, value in record[kind].items():
                add(record["step"], f"{section}/{name}", value)
    return series


def test_each_tracker_receives_settings_steps_means_and_scores(tmp_path):
    losses = {"total": 0.75, "kd": 0.25}
    step = StepRecord(1, 1, "student", 0.5, losses, {"share": 2.0}, 4.0)
    turn = StepRecord(2, 1, "generator", 0.125, {"generator_total": -1.5}, {}, 8.0)
    record = Record(0.5, 2, 0.125, {"total": 0.75}, {"share": 2.0}, {"accuracy": 0.875})
    with tracked_metrics_writer(
        tmp_path / "unfinished",
        Tracking(ALL, "reviews", tmp_path),
        name="teacher",
        stage="teacher",
        key="k",
        settings={"phase": {"epochs": 3, "objective": {"name": "mate_kd"}}, "seed": 1},
        on_lost=lambda tracker, problem: pytest.fail(f"{tracker}: {problem}"),
    ) as metrics_writer:
        metrics_writer.truncate(0, {})
        metrics_writer.write_steps([step, turn])
        metrics_writer.write(record)

    series = {
        "train/epoch": [(1, 1.0), (2, 1.0)],
        "train/learning_rate": [(1, 0.5)],
        "train/gradient_norm": [(1, 4.0)],
        "train/generator_learning_rate": [(2, 0.125)],
        "train/generator_gradient_norm": [(2, 8.0)],
        "losses/total": [(1, 0.75)],
        "losses/kd": [(1, 0.25)],
        "losses/generator_total": [(2, -1.5)],
        "measures/share": [(1, 2.0)],
        "records/epoch": [(2, 0.5)],
        "mean_losses/total": [(2, 0.75)],
        "mean_measures/share": [(2, 2.0)],
        "scores/accuracy": [(2, 0.875)],
    }
    nested = {"phase": {"epochs": 3, "objective": {"name": "mate_kd"}}, "seed": 1}
    flat = {"phase.epochs": "3", "phase.objective.name": "mate_kd", "seed": "1"}
    assert tensorboard_series(tmp_path / "tensorboard" / "teacher") == series
    assert tensorboard_settings(tmp_path / "tensorboard" / "teacher") == nested
    (wandb_run,) = wandb_runs(tmp_path)
    assert wandb_run == ("teacher", "reviews", nested, "[0]", series)
    assert mlflow_runs(tmp_path) == [("teacher", "reviews", flat, "FINISHED", series)]


def test_points_are_flushed_before_a_trial_may_be_stopped(tmp_path):
    with tracked_metrics_writer(
        tmp_path / "unfinished",
        Tracking(("tensorboard",), "reviews", tmp_path, waits=True),
        name="trial",
        stage="adapt",
        key="k",
        settings={},
        on_lost=lambda tracker, problem: pytest.fail(f"{tracker}: {problem}"),
    ) as metrics_writer:
        metrics_writer.truncate(0, {})
        metrics_writer.write(Record(1.0, 2, 0.1, {"total": 0.75}, {}, {"accuracy": 0.875}))
        series = tensorboard_series(tmp_path / "tensorboard" / "trial")

    assert series["scores/accuracy"] == [(2, 0.875)]


def test_a_process_that_trains_several_models_writes_one_run_per_model(tmp_path):
    job = replace(job_in(tmp_path, "vanilla_kd"), score=lambda *_: {"accuracy": 0.5})
    names = ("adapt direct random seed 1", "adapt direct random seed 2")
    for number, name in enumerate(names):
        job_of_model = replace(job, seed=number, out=tmp_path / str(number))
        run_phase(tracked(job_of_model, tmp_path, name), Worker())

    for runs in runs_of(tmp_path):
        assert tuple(run.name for run in runs) == names
        for number, run in enumerate(runs):
            assert run.series == expected_series(tmp_path / str(number))
            assert len(run.series["losses/total"]) == NUM_STEPS == 45
            assert run.series["scores/accuracy"] == [(15, 0.5), (30, 0.5), (45, 0.5)]


def test_an_interrupted_training_continues_its_run_with_each_step_once(tmp_path):
    job = tracked(job_in(tmp_path, "vanilla_kd"), tmp_path)
    for last in (4, 27):  # before the first checkpoint, and between two

        def on_step(step: int, last: int = last) -> None:
            if step == last:
                raise RuntimeError("the node is gone")

        with pytest.raises(RuntimeError, match="the node is gone"):
            run_phase(job, Worker(), checkpoint_every_s=0, events=calling(on_step=on_step))
    run_phase(job, Worker(), checkpoint_every_s=0)

    (tensorboard_run,), (wandb_run,), (mlflow_run,) = runs_of(tmp_path)
    for run in (tensorboard_run, wandb_run, mlflow_run):
        assert [step for step, _ in run.series["losses/total"]] == list(range(1, 46))
        assert run.series == expected_series(job.out)
    assert (wandb_run.status, mlflow_run.status) == ("[0]", "FINISHED")


def test_a_job_trained_from_scratch_is_a_new_run_and_replaces_its_event_files(tmp_path):
    job = tracked(job_in(tmp_path, "vanilla_kd"), tmp_path)
    for seed in (1, 2):
        run_phase(replace(job, seed=seed), Worker())

    tensorboard_run, wandb_run, mlflow_run = runs_of(tmp_path)
    assert (len(tensorboard_run), len(wandb_run), len(mlflow_run)) == (1, 2, 2)
    assert tensorboard_run[0].series == expected_series(job.out)


@pytest.mark.slow
def test_only_the_first_of_two_workers_logs(tmp_path):
    job = tracked(job_in(tmp_path, "vanilla_kd"), tmp_path)
    KilledTraining(job, 2).run_to_the_end()

    assert len(list((tmp_path / "tensorboard").rglob("events.*"))) == 1
    for (run,) in runs_of(tmp_path):
        assert run.series == expected_series(job.out)


@pytest.mark.exhaustive
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_parallel_workers_write_one_run_per_model_even_if_one_is_killed(tmp_path, capsys):
    job = job_in(tmp_path, "vanilla_kd")
    hit = replace(killed(job), score=kills_its_worker_once(tmp_path / "mark", delay_s=2))
    jobs = [tracked(job, tmp_path, "alone"), tracked(hit, tmp_path, "hit")]

    workers = WorkersConfig(models_at_once=2, checkpoint_every_s=0)
    train_phases(jobs, workers, label="train", storage=tmp_path / "ray_train")

    assert (tmp_path / "mark").read_text() == "killed"
    for runs in runs_of(tmp_path):
        assert [run.name for run in runs] == ["alone", "hit"]
        assert runs[0].series == expected_series(job.out)
        assert runs[1].series == expected_series(hit.out)
    assert "report_to" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_failing_trackers_stop_no_training_and_are_reported_once(tmp_path, capsys):
    (tmp_path / "mlflow").write_text("in the way")
    (tmp_path / "tensorboard").write_text("in the way")
    job = job_in(tmp_path, "vanilla_kd")
    jobs = [tracked(replace(job, seed=s, out=tmp_path / str(s)), tmp_path, f"{s}") for s in (1, 2)]

    train_phases(jobs, WorkersConfig(), label="train", storage=tmp_path / "ray_train")

    lines = [line for line in capsys.readouterr().err.splitlines() if "report_to" in line]
    assert sorted(line.split(":")[1] for line in lines) == [" mlflow", " tensorboard"]
    assert all(line.endswith("; the training continues without it") for line in lines)
    assert [run.name for run in wandb_runs(tmp_path)] == ["1", "2"]
    assert all(job.finished() for job in jobs)


class FailsAtTheSecondCall:
    """Tracker that loses its network connection."""

    def __init__(self) -> None:
        self.num_calls = 0

    def open(self, model, start):
        pass

    def log(self, points):
        self.num_calls += 1
        if self.num_calls == 2:
            raise ConnectionError("no route to host\nand more")

    def close(self, *, failed):
        raise AssertionError("it was left off")


class Hangs(FailsAtTheSecondCall):
    """Tracker that never responds."""

    def open(self, model, start):
        threading.Event().wait()


@pytest.mark.parametrize(
    ("tracker", "problem"),
    [
        (FailsAtTheSecondCall, "ConnectionError: no route to host"),
        (Hangs, "did not process all points in 1 s"),
    ],
)
def test_a_tracker_that_fails_or_hangs_is_disabled(tmp_path, monkeypatch, tracker, problem):
    monkeypatch.setitem(trackers.TRACKERS, "wandb", tracker)
    monkeypatch.setattr(tracking, "_LAST_WAIT_S", 1.0)
    job, lost = tracked(job_in(tmp_path, "vanilla_kd"), tmp_path), []
    job = replace(job, tracking=replace(job.tracking, report_to=("tensorboard", "wandb")))

    run_phase(job, Worker(), events=calling(on_tracker_lost=lambda *what: lost.append(what)))

    assert lost == [("wandb", problem)]
    assert job.finished()
    assert tensorboard_series(tmp_path / "tensorboard" / job.name) == expected_series(job.out)


def test_trackers_do_not_change_the_result(tmp_path):
    job = job_in(tmp_path, "vanilla_kd")

    assert tracked(job, tmp_path, job.name).key() == job.key()


def test_a_missing_tracker_package_is_refused_with_the_install_command(monkeypatch):
    find, hidden = tracking.find_spec, {"mlflow"}
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name in hidden else find(name))

    tracking.check_trackers(("tensorboard", "wandb"))
    with pytest.raises(InputError, match=r'report_to: mlflow not.*pip install "\.\[tracking\]"'):
        tracking.check_trackers(ALL)


def test_a_folder_named_like_a_tracker_is_not_an_installed_package(monkeypatch, tmp_path):
    (tmp_path / "left_by_a_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InputError, match="report_to: left_by_a_tracker not installed"):
        tracking.check_trackers(("left_by_a_tracker",))


def test_wandb_without_a_key_is_refused_unless_it_is_offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    tracking.check_trackers(("wandb",))
    monkeypatch.setenv("WANDB_MODE", "online")

    with pytest.raises(InputError, match="report_to: wandb has no API key; set WANDB_API_KEY"):
        tracking.check_trackers(("wandb",))
