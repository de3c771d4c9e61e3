"""On clusters that lose, gain and drain nodes: a training goes on with what there is."""

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
from raykd.training.phases import MODEL_FOLDER, run_phase
from raykd.training.trainers import Worker

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "changing_cluster.py"

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def train_while(event: str, folder: Path, *, num_workers: tuple[int, int], every_s: float) -> Any:
    """What the script saw."""
    # Its cluster must not be that of whoever runs the tests.
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
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["failed"] == "[]"
    assert set(answer["nodes_of_progress_actors"]) == {answer["node_of_driver"]}
    return answer


def step_it_went_on_after(answer: Any) -> int:
    """The last change of size was followed by all steps that were left."""
    sizes = answer["sizes"]
    return NUM_STEPS - sum(1 for _ in takewhile(lambda size: size == sizes[-1], reversed(sizes)))


def assert_ends_as_one_left_alone(event: str, folder: Path) -> None:
    alone = replace(job_in(folder, "vanilla_kd"), out=folder / "alone")
    run_phase(alone, Worker())
    steps = [
        [json.loads(line) for line in (folder / name / STEPS_FILE).read_text().splitlines()]
        for name in ("alone", event)
    ]
    assert [told["step"] for told in steps[1]] == list(range(1, NUM_STEPS + 1))
    for one, other in zip(*steps, strict=True):
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-3, abs=1e-5)
    weights, others = (
        load_file(folder / name / MODEL_FOLDER / "model.safetensors") for name in ("alone", event)
    )
    for name, weight in weights.items():
        # A bias of keys has no gradient but for rounding, of which AdamW makes whole steps.
        if not name.endswith("key.bias"):
            assert others[name] == pytest.approx(weight, rel=1e-3, abs=1e-4), name


def test_a_group_goes_on_with_fewer_workers_when_a_node_is_lost(tmp_path):
    answer = train_while("lose", tmp_path, num_workers=(1, 2), every_s=2)

    last = max(int(name.removeprefix("step-")) for name in answer["checkpoints_before"])
    assert step_it_went_on_after(answer) >= last >= 5
    assert answer["sizes"][0] == 2
    assert answer["sizes"][-1] == 1
    assert_ends_as_one_left_alone("lose", tmp_path)


def test_a_group_goes_on_with_more_workers_when_a_node_comes(tmp_path):
    answer = train_while("grow", tmp_path, num_workers=(1, 2), every_s=1)

    assert step_it_went_on_after(answer) >= EVENT_AT - 5
    assert answer["sizes"][0] == 1
    assert answer["sizes"][-1] == 2
    assert_ends_as_one_left_alone("grow", tmp_path)


@pytest.mark.parametrize("most", [1, 2])
def test_one_checkpoint_is_written_at_once_when_the_node_of_a_worker_is_to_go(tmp_path, most):
    answer = train_while("drain", tmp_path, num_workers=(1, most), every_s=3600)

    assert answer["checkpoints_before"] == []
    [written_s] = answer["checkpoints"].values()
    assert 0 < written_s - answer["event_s"] < 10
    assert set(answer["sizes"]) == {most}
