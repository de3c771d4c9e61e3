"""Recovery on Ray: a killed worker is replaced by one that resumes."""

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
from raykd.training.phase.job import MODEL_FOLDER
from raykd.training.pipeline import train_phases

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_job_with_a_killed_worker_equals_an_uninterrupted_one(tmp_path, num_workers):
    uninterrupted = tmp_path / "alone"
    uninterrupted.write_text("killed")
    job = replace(job_in(tmp_path, "vanilla_kd"), score=kills_its_worker_once(uninterrupted))
    hit = replace(killed(job), score=kills_its_worker_once(tmp_path / "hit"))
    workers = WorkersConfig(num_workers=num_workers, checkpoint_every_s=0)

    train_phases([job, hit], workers, label="train", storage=tmp_path / "ray_train")

    assert (tmp_path / "hit").read_text() == "killed"
    for name in (STEPS_FILE, CURVE_FILE, f"{MODEL_FOLDER}/model.safetensors"):
        assert (hit.out / name).read_bytes() == (job.out / name).read_bytes()


@pytest.mark.exhaustive
def test_ray_train_trains_the_model_that_a_task_trains(tmp_path):
    by_task = job_in(tmp_path, "vanilla_kd")
    by_train = replace(by_task, out=tmp_path / "by_train")
    for job, engine in ((by_task, "task"), (by_train, "train")):
        workers = WorkersConfig(engine=engine)
        train_phases([job], workers, label="train", storage=tmp_path / "ray_train")
    for name in (STEPS_FILE, f"{MODEL_FOLDER}/model.safetensors"):
        assert (by_train.out / name).read_bytes() == (by_task.out / name).read_bytes()


@pytest.mark.slow
def test_the_driver_reports_the_resumed_step_and_damaged_checkpoints(tmp_path, capsys):
    job = job_in(tmp_path, "vanilla_kd")
    logged_step = KilledTraining(job, 1).run_and_kill(30, 0.0)
    assert logged_step >= 30
    newest = job.unfinished / "step-000000044"
    shutil.copytree(max(job.unfinished.glob("step-*")), newest)
    (newest / "tensors.safetensors").write_bytes(b"")

    train_phases([job], WorkersConfig(), label="train", storage=tmp_path / "ray_train")

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"  vanilla_kd: {newest}: damaged; not used"
    assert re.fullmatch(r"  vanilla_kd: resumes after step \d+ of 45", lines[1])
    assert len((job.out / STEPS_FILE).read_text().splitlines()) == 45


# The checkpoint after step 10 is intact, and it is good if step 11 is.
@pytest.mark.parametrize(
    ("step", "num_workers", "good"),
    [
        (13, 1, "step-000000010"),
        (11, 1, None),
        pytest.param(13, 2, "step-000000010", marks=pytest.mark.exhaustive),
    ],
)
def test_a_non_finite_loss_is_reported_with_step_rows_and_the_last_good_checkpoint(
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


def allocates_one_petabyte() -> Callable[..., dict[str, float]]:
    """Return a score function that no machine has enough memory for."""

    def score(*_: object) -> dict[str, float]:
        import torch

        torch.empty(1 << 50, dtype=torch.uint8)
        return {"accuracy": 0.5}

    return score


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_out_of_memory_errors_suggest_settings_that_need_less(tmp_path, num_workers):
    job = replace(job_in(tmp_path, "vanilla_kd"), score=allocates_one_petabyte())
    workers = WorkersConfig(num_workers=num_workers)

    with pytest.raises(InputError) as caught:
        train_phases([job], workers, label="train", storage=tmp_path / "ray_train")

    assert str(caught.value) == (
        "vanilla_kd: out of memory (allocating 1125899906842624 bytes); set "
        "max_tokens_per_micro_batch: 256 (smaller micro-batches), or lower batch_size (now 4), or "
        "lower max_length (now 128), or set precision: bfloat16"
    )


def kills_its_process() -> Callable[..., dict[str, float]]:
    """Return a score function that kills its process."""

    def score(*_: object) -> dict[str, float]:
        os._exit(1)

    return score


def test_a_job_killed_at_each_attempt_is_reported_with_settings_that_need_less(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks, "MAX_RETRIES", 0)
    job = replace(job_in(tmp_path, "codir"), score=kills_its_process())

    with pytest.raises(InputError, match="codir: its process was killed.*; lower batch_size"):
        train_phases([job], WorkersConfig(), label="train", storage=tmp_path / "ray_train")
