"""On Ray: a worker that is killed is followed by one that goes on where it was."""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from killed_training import KilledTraining, job_in, killed

from raykd.training.journal import CURVE_FILE, STEPS_FILE
from raykd.training.phases import MODEL_FOLDER, WorkersConfig
from raykd.training.pipeline import train_phases

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def kills_its_worker_once(mark: Path) -> Callable[..., dict[str, float]]:
    """A score that ends the process it is taken in, the second time."""

    # Ray's workers know raykd, not this module: a function in a function is sent whole.
    def score(*_: object) -> dict[str, float]:
        if not mark.exists():
            mark.write_text("once")
        elif mark.read_text() == "once":
            mark.write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return {"accuracy": 0.5}

    return score


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_job_whose_worker_is_killed_ends_as_one_left_alone(tmp_path, num_workers):
    alone = tmp_path / "alone"
    alone.write_text("killed")
    job = replace(job_in(tmp_path, "vanilla_kd"), score=kills_its_worker_once(alone))
    hit = replace(killed(job), score=kills_its_worker_once(tmp_path / "hit"))
    workers = WorkersConfig(num_workers=num_workers, checkpoint_every_s=0)

    train_phases([job, hit], workers, label="train", storage=tmp_path / "ray_train")

    assert (tmp_path / "hit").read_text() == "killed"
    for name in (STEPS_FILE, CURVE_FILE, f"{MODEL_FOLDER}/model.safetensors"):
        assert (hit.out / name).read_bytes() == (job.out / name).read_bytes()


def test_the_driver_tells_where_a_job_goes_on_and_which_checkpoint_is_damaged(tmp_path, capsys):
    job = job_in(tmp_path, "vanilla_kd")
    told = KilledTraining(job, 1).run_and_kill(30, 0.0)
    assert told >= 30
    newest = max(job.unfinished.glob("step-*"))
    (newest / "tensors.safetensors").write_bytes(b"")

    train_phases([job], WorkersConfig(), label="train", storage=tmp_path / "ray_train")

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"  vanilla_kd: {newest}: damaged; not used"
    assert re.fullmatch(r"  vanilla_kd: goes on after step \d+ of 45", lines[1])
    assert len((job.out / STEPS_FILE).read_text().splitlines()) == 45
