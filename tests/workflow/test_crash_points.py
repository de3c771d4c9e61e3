"""Runs that fail at any change of a file or folder: the same command completes the same outputs."""

import json
import subprocess
import sys
from pathlib import Path

import crash_sweep
import pytest
from serial_tasks import serial_tasks


@pytest.mark.slow
def test_errors_at_every_change_of_an_ingest_are_clear_and_resumed(tmp_path, capsys):
    sweep = crash_sweep.Sweep(tmp_path, ["ingest"], ["error"], num_processes=1)
    with serial_tasks():
        sweep.prepare()
        result = sweep.run(0)
    assert result["problems"] == []
    assert result["counts"]["ingest error"] > 40


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_errors_and_kills_at_every_change_of_a_run_are_resumed_with_equal_outputs(tmp_path):
    sweep = subprocess.run(
        [sys.executable, crash_sweep.__file__, str(tmp_path)],
        cwd=Path(crash_sweep.__file__).parent,
        capture_output=True,
        text=True,
    )
    assert sweep.returncode == 0, sweep.stderr[-3000:]
    result = json.loads(sweep.stdout)
    assert result["problems"] == []
    # Each step was reached, in both ways.
    assert sorted(result["counts"]) == sorted(
        f"{step} {fault}" for step in crash_sweep.STEPS for fault in ("error", "kill")
    )
    assert sum(result["counts"].values()) > 900
