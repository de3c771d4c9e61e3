"""On Ray: a worker that is killed is followed by one that goes on where it was."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from killed_training import KilledTraining, job_in, killed, kills_its_worker_once

from raykd.cluster import tasks
from raykd.errors import InputError
from raykd.training.batches import EpochBatches
from raykd.training.distributed.config import WorkersConfig
from raykd.training.logging.metrics_writer import CURVE_FILE, STEPS_FILE
from raykd.training.phases import MODEL_FOLDER
from raykd.training.pipeline import train_phases

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


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
    newest = job.unfinished / "step-000000044"
    shutil.copytree(max(job.unfinished.glob("step-*")), newest)
    (newest / "tensors.safetensors").write_bytes(b"")

    train_phases([job], WorkersConfig(), label="train", storage=tmp_path / "ray_train")

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"  vanilla_kd: {newest}: damaged; not used"
    assert re.fullmatch(r"  vanilla_kd: resumes after step \d+ of 45", lines[1])
    assert len((job.out / STEPS_FILE).read_text().splitlines()) == 45


# The checkpoint after step 10 is whole, and good if step 11 is.
@pytest.mark.parametrize(
    ("step", "num_workers", "good"),
    [
        (13, 1, "step-000000010"),
        (11, 1, None),
        pytest.param(13, 2, "step-000000010", marks=pytest.mark.slow),
    ],
)
def test_a_loss_that_is_not_finite_is_told_with_step_rows_and_the_last_good_checkpoint(
    tmp_path, step, num_workers, good
):
    job = job_in(tmp_path, "vanilla_kd")
    lengths = np.ones(60, dtype=np.int64)
    rows = sorted(EpochBatches(lengths, 4, bucket_batches=1, seed=1, epoch=1)[step - 1].tolist())
    logits = np.load(tmp_path / "logits.npy")
    logits[rows] = np.nan
    np.save(tmp_path / "logits.npy", logits)
    workers = WorkersConfig(num_workers=num_workers, checkpoint_every_s=0)

    with pytest.raises(InputError) as caught:
        train_phases([job], workers, label="train", storage=tmp_path / "ray_train")

    last = job.unfinished / good if good else "none"
    assert str(caught.value) == (
        f"vanilla_kd: step {step} (epoch 1): loss nan or its gradient is not finite; rows {rows}; "
        f"lower learning_rate; the last good checkpoint: {last}"
    )


def wants_a_petabyte() -> Callable[..., dict[str, float]]:
    """A score that no machine has the memory for."""

    def score(*_: object) -> dict[str, float]:
        import torch

        torch.empty(1 << 50, dtype=torch.uint8)
        return {"accuracy": 0.5}

    return score


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_memory_that_does_not_suffice_names_the_settings_that_need_less(tmp_path, num_workers):
    job = replace(job_in(tmp_path, "vanilla_kd"), score=wants_a_petabyte())
    workers = WorkersConfig(num_workers=num_workers)

    with pytest.raises(InputError) as caught:
        train_phases([job], workers, label="train", storage=tmp_path / "ray_train")

    assert str(caught.value) == (
        "vanilla_kd: out of memory (allocating 1125899906842624 bytes); set "
        "max_tokens_per_pass: 256 (smaller micro-batches), or lower batch_size (now 4), or "
        "lower max_length (now 128), or set precision: bfloat16"
    )


def ends_its_process() -> Callable[..., dict[str, float]]:
    """A score that no process outlives."""

    def score(*_: object) -> dict[str, float]:
        os._exit(1)

    return score


def test_a_job_whose_process_ends_each_time_is_named_with_the_settings_that_need_less(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks, "MAX_RETRIES", 0)
    job = replace(job_in(tmp_path, "codir"), score=ends_its_process())

    with pytest.raises(InputError, match="codir: its process was killed.*; lower batch_size"):
        train_phases([job], WorkersConfig(), label="train", storage=tmp_path / "ray_train")
