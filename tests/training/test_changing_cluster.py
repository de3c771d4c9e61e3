"""Trainings on clusters that lose, gain and drain nodes continue with the available workers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from changing_cluster import EVENT_AT
from killed_training import NUM_STEPS, job_in
from safetensors.numpy import load_file

from raykd.training.logging.metrics_writer import STEPS_FILE
from raykd.training.phase.job import MODEL_FOLDER
from raykd.training.phase.run import run_phase
from raykd.training.trainers import Worker

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "changing_cluster.py"

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def train_while(event: str, folder: Path, *, num_workers: tuple[int, int], every_s: float) -> Any:
    """Run the script and return its output."""
    # It must not join a cluster of the user who runs the tests.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), event, *map(str, (*num_workers, every_s))],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    output = json.loads(ended.stdout.splitlines()[-1])
    assert output["failed"] == "[]"
    assert set(output["nodes_of_progress_actors"]) == {output["node_of_driver"]}
    return output


def step_of_last_resize(output: Any) -> int:
    """Return the step after which the group had its final size."""
    sizes = output["sizes"]
    return NUM_STEPS - sum(1 for _ in takewhile(lambda size: size == sizes[-1], reversed(sizes)))


def assert_equal_to_uninterrupted(event: str, folder: Path) -> None:
    uninterrupted = replace(job_in(folder, "vanilla_kd"), out=folder / "alone")
    run_phase(uninterrupted, Worker())
    steps = [
        [json.loads(line) for line in (folder / name / STEPS_FILE).read_text().splitlines()]
        for name in ("alone", event)
    ]
    assert [record["step"] for record in steps[1]] == list(range(1, NUM_STEPS + 1))
    for expected, record in zip(*steps, strict=True):
        assert record["losses"] == pytest.approx(expected["losses"], rel=1e-3, abs=1e-5)
    weights, changed_weights = (
        load_file(folder / name / MODEL_FOLDER / "model.safetensors") for name in ("alone", event)
    )
    for name, weight in weights.items():
        # The gradient of a key bias is 0 up to rounding, which AdamW scales up to full steps.
        if not name.endswith("key.bias"):
            assert changed_weights[name] == pytest.approx(weight, rel=1e-3, abs=1e-4), name


def test_a_group_continues_with_fewer_workers_when_a_node_is_lost(tmp_path):
    output = train_while("lose", tmp_path, num_workers=(1, 2), every_s=2)

    last = max(int(name.removeprefix("step-")) for name in output["checkpoints_before"])
    assert step_of_last_resize(output) >= last >= 5
    assert output["sizes"][0] == 2
    assert output["sizes"][-1] == 1
    assert_equal_to_uninterrupted("lose", tmp_path)


@pytest.mark.exhaustive
def test_a_group_continues_with_more_workers_when_a_node_joins(tmp_path):
    output = train_while("grow", tmp_path, num_workers=(1, 2), every_s=1)

    assert step_of_last_resize(output) >= EVENT_AT - 5
    assert output["sizes"][0] == 1
    assert output["sizes"][-1] == 2
    assert_equal_to_uninterrupted("grow", tmp_path)


@pytest.mark.parametrize("max_workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_one_checkpoint_is_written_immediately_when_a_workers_node_is_drained(
    tmp_path, max_workers
):
    output = train_while("drain", tmp_path, num_workers=(1, max_workers), every_s=3600)

    assert output["checkpoints_before"] == []
    [written_s] = output["checkpoints"].values()
    assert 0 < written_s - output["event_s"] < 10
    assert set(output["sizes"]) == {max_workers}
