"""Averaging of gradients through shared memory of one machine."""

import random
import time
from pathlib import Path

import pytest
import torch
from torch import distributed

from raykd.training.distributed import shm_allreduce
from raykd.training.distributed.shm_allreduce import ShmAllreduce


def _meet(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", size)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    shm_allreduce._FOLDER = Path(folder) / "memory"


def numbers_of(rank: int, call: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * rank + call)
    return torch.randn(1 + 97 * call, generator=generator)


def _average(rank: int, size: int, folder: str) -> None:
    _meet(rank, size, folder)
    shm_allreduce._PART_NUMBERS = 64
    shared = ShmAllreduce.open(rank, size)
    assert shared is not None
    pauses = random.Random(rank)
    means = []
    for call in range(20):
        numbers = numbers_of(rank, call)
        time.sleep(pauses.choice([0, 0, 0.002]))
        shared.average(numbers)
        means.append(numbers)
    torch.save(means, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_all_workers_get_bitwise_equal_means_summed_in_worker_order(
    tmp_path: Path, size: int
) -> None:
    (tmp_path / "memory").mkdir()
    torch.multiprocessing.spawn(_average, (size, str(tmp_path)), nprocs=size)
    for call in range(20):
        total = numbers_of(0, call)
        for rank in range(1, size):
            total = total + numbers_of(rank, call)
        for rank in range(size):
            average = torch.load(tmp_path / f"{rank}.pt", weights_only=True)[call]
            assert torch.equal(average, total / size)
    assert list((tmp_path / "memory").iterdir()) == []


def _open_apart(rank: int, folder: str, obstacle: str) -> None:
    _meet(rank, 2, folder)
    if obstacle == "no room":
        shm_allreduce._PART_NUMBERS = 1 << 46
    elif obstacle == "no such folder":
        shm_allreduce._FOLDER = Path(folder) / "missing"
    elif rank == 1:  # as on another machine, without the file
        shm_allreduce._map = lambda name, num_bytes: None
    average = ShmAllreduce.open(rank, 2)
    Path(f"{folder}/{rank}").write_text(repr(average))
    distributed.destroy_process_group()


@pytest.mark.parametrize("obstacle", ["no room", "no such folder", "another machine"])
def test_workers_without_shared_memory_all_fall_back(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "memory").mkdir()
    torch.multiprocessing.spawn(_open_apart, (str(tmp_path), obstacle), nprocs=2)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["None", "None"]
    assert list((tmp_path / "memory").iterdir()) == []
