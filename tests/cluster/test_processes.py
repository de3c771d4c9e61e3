"""Leftover processes of a killed driver are ended by the next start, and no others."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raykd.cluster import processes
from raykd.cluster.connection import SPIN_COUNT
from raykd.cluster.processes import end_leftovers, recorded, records_folder

_DRIVER = """
import sys, subprocess
from pathlib import Path
from raykd.cluster.processes import recorded
older = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
with recorded(Path(sys.argv[1])):
    started = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
print(older.pid, started.pid, flush=True)
sys.stdin.read()
"""


def is_running(process: int) -> bool:
    return processes._start_ticks(process) is not None


def wait_until_ended(processes: list[int], seconds: float) -> None:
    latest = time.monotonic() + seconds
    while any(map(is_running, processes)):
        assert time.monotonic() < latest, processes
        time.sleep(0.02)


@pytest.fixture
def driver(tmp_path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A driver, a process that it started before recording, and one that it recorded."""
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    older, started = map(int, process.stdout.readline().split())
    yield process, older, started
    process.kill()
    process.communicate()
    for pid in (older, started):
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def test_recorded_processes_of_a_killed_driver_are_ended_and_no_others(driver, tmp_path):
    process, older, started = driver
    assert end_leftovers(tmp_path) == 0  # the driver runs
    assert is_running(started)

    process.kill()
    process.wait()

    assert end_leftovers(tmp_path) == 1
    wait_until_ended([started], 10)
    assert is_running(older)
    assert list(tmp_path.glob("*.json")) == []


def test_a_process_that_reuses_a_recorded_id_is_never_ended(driver, tmp_path):
    process, _, started = driver
    process.kill()
    process.wait()
    (path,) = tmp_path.glob("*.json")
    values = json.loads(path.read_text())
    values["processes"] = [[pid, start - 1] for pid, start in values["processes"]]
    del values["checksum"]
    path.write_text(processes.to_checked_json(values))

    assert end_leftovers(tmp_path) == 0
    assert is_running(started)


@pytest.mark.parametrize("damage", ["boot", "bytes"])
def test_a_record_that_is_damaged_or_of_another_boot_ends_nothing(driver, tmp_path, damage):
    process, _, started = driver
    process.kill()
    process.wait()
    (path,) = tmp_path.glob("*.json")
    values = json.loads(path.read_text())
    if damage == "boot":
        del values["checksum"]
        path.write_text(processes.to_checked_json(values | {"boot": "another"}))
    else:
        values["processes"][0][0] += 1
        path.write_text(json.dumps(values))

    assert end_leftovers(tmp_path) == 0
    assert is_running(started)
    assert not path.exists()


def test_records_are_private_and_a_folder_others_can_read_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = records_folder()
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert records_folder() is None
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert records_folder() is None


def test_nothing_is_recorded_without_a_folder(tmp_path):
    with recorded(None):
        pass
    assert list(tmp_path.iterdir()) == []


_RAY_DRIVER = """
import os, sys
from raykd.cluster.connection import connect
connect()
import ray

@ray.remote
def spin_count():
    return os.environ.get("GOMP_SPINCOUNT")

if "TEST_SPIN_COUNT" in os.environ:
    print(ray.get(spin_count.remote()), flush=True)
print(ray._private.worker._global_node.get_logs_dir_path(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A short path for Ray's sockets: theirs are limited to 107 characters, `tmp_path` is long."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


def _start_ray_driver(
    folder: Path, ray_folder: Path, output: Path
) -> tuple[subprocess.Popen[str], Path]:
    with output.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _RAY_DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={
                **os.environ,
                "TMPDIR": str(folder),
                "RAY_TMPDIR": str(ray_folder),
                "RAY_ADDRESS": "local",
            },
            start_new_session=True,
        )
    assert process.stdout is not None
    logs = process.stdout.readline().strip()
    assert logs, output.read_text()
    return process, Path(logs)


@pytest.mark.ray
@pytest.mark.slow
def test_agents_of_a_killed_driver_have_ended_once_the_next_one_starts(tmp_path, ray_folder):
    process, _ = _start_ray_driver(tmp_path, ray_folder, tmp_path / "errors")
    (path,) = tmp_path.glob("raykd-*/*.json")
    processes = [pid for pid, _ in json.loads(path.read_text())["processes"]]
    process.kill()
    process.communicate()
    time.sleep(1)
    assert any(map(is_running, processes)), "Ray ends them itself: this file is not needed"

    again, _ = _start_ray_driver(tmp_path, ray_folder, tmp_path / "errors")
    try:
        assert not any(map(is_running, processes))
    finally:
        again.kill()
        again.communicate()
        end_leftovers(path.parent)


@pytest.mark.ray
@pytest.mark.slow
def test_a_terminated_driver_ends_without_a_crash_report_from_ray(tmp_path, ray_folder):
    process, logs = _start_ray_driver(tmp_path, ray_folder, tmp_path / "errors")
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    errors = (tmp_path / "errors").read_text()
    assert "autoscaler failed" not in output
    assert "*** SIGTERM" not in errors
    assert "KeyboardInterrupt" in errors
    assert logs.is_dir()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (None, None, SPIN_COUNT),
        ("GOMP_SPINCOUNT", "77", "77"),
        ("OMP_WAIT_POLICY", "ACTIVE", "None"),
    ],
)
def test_threads_of_tasks_spin_briefly_unless_the_user_set_it(
    tmp_path, ray_folder, monkeypatch, name, value, expected
):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("TEST_SPIN_COUNT", "1")
    if name is not None:
        monkeypatch.setenv(name, value)
    process, first_line = _start_ray_driver(tmp_path, ray_folder, tmp_path / "errors")
    try:
        assert str(first_line) == expected
    finally:
        process.communicate()
