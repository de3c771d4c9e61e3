"""Times of stages: recorded if the stage did work, added up over interrupted attempts."""

import time

import pytest

from raykd.storage.checked_json import from_checked_json
from raykd.workflow import stage_times
from raykd.workflow.stage_times import timed

OUTPUTS = ("task/manifest.json",)


def write_output(folder):
    (folder / "task").mkdir()
    (folder / "task" / "manifest.json").write_text("{}")


def times_of(folder) -> dict:
    return from_checked_json((folder / "times.json").read_bytes())


def test_a_skipped_stage_is_not_recorded(tmp_path):
    write_output(tmp_path)
    with timed(tmp_path, "task", OUTPUTS):
        pass
    assert not (tmp_path / "times.json").exists()


def test_a_long_stage_reports_that_it_runs_and_attempts_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_times, "_SAMPLE_S", 0.02)
    monkeypatch.setattr(stage_times, "_WRITE_S", 0.04)
    monkeypatch.setattr(stage_times, "connected_resources", lambda: (4.0, 2.0))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), timed(tmp_path, "task", OUTPUTS):
            time.sleep(0.5)
            running = times_of(tmp_path)["running"]
            assert running["stage"] == "task"
            assert time.time() - running["updated_s"] < 10
            raise KeyboardInterrupt
        assert "running" not in times_of(tmp_path)
        assert "task" not in times_of(tmp_path)
    with timed(tmp_path, "task", OUTPUTS):
        time.sleep(0.2)
        write_output(tmp_path)
    times = times_of(tmp_path)
    usage = times["usage"]["task"]
    assert usage["wall_s"] >= 1.2
    assert 0.2 <= times["task"] <= usage["wall_s"] - 0.9
    assert usage["cpu_s"] == pytest.approx(4 * usage["wall_s"], rel=0.3)
    assert usage["gpu_s"] == pytest.approx(usage["cpu_s"] / 2, rel=0.1)
