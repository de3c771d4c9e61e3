"""Threads per training: they change rounding, so they depend only on recipe and machines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from event_handlers import calling
from killed_training import job_in, killed
from test_loop import rows_of
from tiny_models import tiny_encoder
from torch import Tensor, nn

from raykd.cluster import capacity
from raykd.models.threads import one_thread
from raykd.objectives import build
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.storage.manifest import read_manifest
from raykd.training.distributed.config import WorkersConfig
from raykd.training.distributed.placement import cpus_per_worker
from raykd.training.logging.metrics_writer import STEPS_FILE
from raykd.training.loop import train
from raykd.training.phase.job import MODEL_FOLDER, PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.pipeline import train_phases
from raykd.training.recovery import report_resume_point
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

_FILES = (STEPS_FILE, f"{MODEL_FOLDER}/model.safetensors")


def num_threads_of(job: PhaseJob) -> float:
    manifest = read_manifest(job.out)
    assert manifest is not None
    return manifest.counts["num_threads"]


@pytest.mark.slow
@pytest.mark.ray
def test_a_model_retrained_alone_keeps_its_number_of_threads(tmp_path, ray_cluster):
    first = job_in(tmp_path, "fine_tune")
    jobs = [first, replace(first, out=tmp_path / "other", seed=2)]
    workers = WorkersConfig(models_at_once=2)
    train_phases(jobs, workers, label="train", storage=tmp_path / "ray_train")
    retrained, only = (replace(first, out=tmp_path / name) for name in ("again", "only"))

    train_phases([jobs[1], retrained], workers, label="train", storage=tmp_path / "ray_train")
    train_phases([only], workers, label="t", storage=tmp_path / "ray_train", only_model=True)

    assert [num_threads_of(job) for job in (*jobs, retrained, only)] == [1, 1, 1, 2]
    for name in _FILES:
        assert (retrained.out / name).read_bytes() == (first.out / name).read_bytes()


def test_a_resumed_training_keeps_its_number_of_threads_and_reports_it(tmp_path, capsys):
    class StoppedError(Exception):
        pass

    def stop_at_30(step: int) -> None:
        if step == 30:
            raise StoppedError

    uninterrupted = job_in(tmp_path, "fine_tune")
    run_phase(uninterrupted, Worker(num_threads=2))
    job = killed(uninterrupted)
    with pytest.raises(StoppedError):
        run_phase(
            job, Worker(num_threads=2), checkpoint_every_s=0, events=calling(on_step=stop_at_30)
        )

    report_resume_point(job, num_threads=1)
    run_phase(job, Worker(num_threads=1), checkpoint_every_s=0)

    assert "keeps its 2 threads (a new training would have 1)" in capsys.readouterr().err
    assert num_threads_of(job) == num_threads_of(uninterrupted) == 2
    for name in _FILES:
        assert (job.out / name).read_bytes() == (uninterrupted.out / name).read_bytes()


def _threads_in_a_task(item: int) -> tuple[int, int]:
    torch.set_num_threads(2)  # as after an earlier training in the same process
    with one_thread():
        inside = torch.get_num_threads()
    return inside, torch.get_num_threads()


def test_one_thread_restores_the_previous_number():
    before = torch.get_num_threads()
    try:
        assert _threads_in_a_task(0) == (1, 2)
    finally:
        torch.set_num_threads(before)


def misaligned(tensor: Tensor, offset: int) -> Tensor:
    """Copy a tensor to an address `offset` elements after a multiple of 64 bytes."""
    memory = torch.empty(tensor.numel() + 64, dtype=tensor.dtype)
    size = tensor.element_size()
    start = (-memory.data_ptr() % 64) // size + offset
    moved = memory[start : start + tensor.numel()].view(tensor.shape)
    assert moved.data_ptr() % 64 == offset * size % 64
    return moved.copy_(tensor)


def _losses_and_weights(offset: int | None) -> tuple[list[float], list[Tensor]]:
    student = tiny_encoder(hidden_size=36, num_heads=2)
    if offset is not None:
        for number, parameter in enumerate(student.parameters()):
            parameter.data = misaligned(parameter.data, (offset + number) % 16)
    norms: list[float] = []
    train(
        build(FineTuneConfig(), student, None),
        rows_of(40),
        TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        events=calling(
            on_step_records=lambda records: norms.extend(record.gradient_norm for record in records)
        ),
    )
    return norms, [parameter.detach() for parameter in student.parameters()]


@pytest.mark.parametrize("offset", [1, 7])
def test_the_memory_alignment_of_weights_does_not_change_a_training(offset):
    norms, weights = _losses_and_weights(None)
    moved_norms, moved_weights = _losses_and_weights(offset)
    assert moved_norms == norms
    for weight, moved in zip(weights, moved_weights, strict=True):
        assert torch.equal(weight, moved)


def _sums(tensors: list[Tensor]) -> list[Tensor]:
    first, second, bias = tensors
    product = nn.functional.linear(first, second, bias)
    return [
        torch.linalg.vector_norm(first),
        torch.stack(torch._foreach_norm([first, second])),
        product,
        nn.functional.layer_norm(product, bias.shape, bias, bias),
        product.softmax(-1),
        first.sum(),
        first.sum(0),
        first.mean(1),
    ]


@pytest.mark.parametrize("shape", [(7, 31, 17), (32, 384, 64)])
def test_the_memory_alignment_of_tensors_does_not_change_their_sums(shape):
    rows, width, out = shape
    chance = torch.Generator().manual_seed(1)
    tensors = [
        torch.randn(size, generator=chance) for size in ((rows, width), (out, width), (out,))
    ]
    expected = _sums([misaligned(tensor, 0) for tensor in tensors])
    # PyTorch's tensors, and rows of a width that is a multiple of 4, begin at multiples of 16
    # bytes; without AVX-512, products of few rows do depend on smaller offsets.
    for offset in range(4, 20, 4):
        sums = _sums([misaligned(t, (12 * index + offset) % 16) for index, t in enumerate(tensors)])
        for actual, aligned in zip(sums, expected, strict=True):
            assert np.array_equal(actual.numpy(), aligned.numpy()), offset


@pytest.mark.parametrize(
    ("cpus_of_nodes", "only_model", "expected"),
    [
        ([4], False, 1.0),
        ([2], False, 0.5),
        ([2], True, 2.0),
        ([16, 8], False, 1.0),
        ([16, 8], True, 4.0),
        ([2, 2, 2], True, 2.0),  # no node has four
        ([0, 0], True, 1.0),  # autoscaling adds nodes on request
    ],
)
def test_cpus_per_worker_depend_only_on_recipe_and_machines(
    cpus_of_nodes, only_model, expected, monkeypatch
):
    monkeypatch.setattr(capacity, "num_nodes", lambda: len(cpus_of_nodes))
    monkeypatch.setattr(capacity, "total_cpus", lambda: sum(cpus_of_nodes))
    monkeypatch.setattr(capacity, "max_cpus_per_node", lambda: max(cpus_of_nodes))
    workers = WorkersConfig(models_at_once=4)
    assert cpus_per_worker(workers, only_model=only_model) == expected
