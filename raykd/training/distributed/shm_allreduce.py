"""Gradients of workers on one machine, averaged through its memory.

gloo sends them over the loopback network even there, which takes three times as long
(experiments/LOG.md).
"""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, distributed

# Memory that every process of a machine can map; Linux has it.
_FOLDER = Path("/dev/shm")
# Numbers that are exchanged at once. Two such parts a worker are held, 8 MB: containers have 64 MB
# of that memory as a rule.
_PART_NUMBERS = 1 << 20
_BYTES_PER_NUMBER = 4


class ShmAllreduce:
    """Averages numbers of all workers, on every worker alike.

    Worker r averages the r-th share of each part. The sum runs through the workers in their order,
    so that it is the same bits on each and at every repetition.

    Args:
        shared: (2, W, P) float32, mapped by all W workers.
        rank: this worker's.
    """

    def __init__(self, shared: Tensor, rank: int) -> None:
        self._shared, self._rank, self._half = shared, rank, 0

    @classmethod
    def open(cls, rank: int, size: int) -> Self | None:
        """Agree on memory with the other workers; all of them call it.

        Returns:
            None, on every worker, where they are on several machines or have no room there.
        """
        num_bytes = 2 * size * _PART_NUMBERS * _BYTES_PER_NUMBER
        reserved = _reserve(num_bytes) if rank == 0 else None
        try:
            named = [reserved]
            distributed.broadcast_object_list(named, 0)
            mapped = _map(named[0], num_bytes) if named[0] else None
            is_shared = torch.tensor(int(mapped is not None))
            distributed.all_reduce(is_shared, distributed.ReduceOp.MIN)
        finally:
            # What is mapped lives on without its name, and goes with the last process that maps it.
            if reserved:
                Path(reserved).unlink()
        if not is_shared or mapped is None:
            return None
        numbers = torch.frombuffer(mapped, dtype=torch.float32)
        return cls(numbers.view(2, size, _PART_NUMBERS), rank)

    def average(self, numbers: Tensor) -> None:
        """Replace float32 numbers (N,) by their mean over the workers; all of them call it."""
        size = self._shared.shape[1]
        for part in torch.split(numbers, _PART_NUMBERS):
            given = self._shared[self._half, :, : len(part)]
            # The other half next time: a slower worker may still read this one then.
            self._half = 1 - self._half
            given[self._rank].copy_(part)
            distributed.barrier()
            mean, *others = given.tensor_split(size, dim=1)[self._rank]
            for other in others:
                mean.add_(other)
            mean.div_(size)
            distributed.barrier()
            part.copy_(given[0])


def average_bucket(
    exchange: ShmAllreduce,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]  # not where torch lacks it
) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients in place: what DDP calls in place of its all-reduce."""
    gradients = bucket.buffer()
    exchange.average(gradients)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(gradients)
    return done


def _reserve(num_bytes: int) -> str | None:
    try:
        file, name = tempfile.mkstemp(prefix="raykd-", dir=_FOLDER)
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, num_bytes)
    except OSError:
        Path(name).unlink()
        return None
    finally:
        os.close(file)
    return name


def _map(name: str, num_bytes: int) -> mmap.mmap | None:
    try:
        with Path(name).open("r+b") as file:
            return mmap.mmap(file.fileno(), num_bytes)
    except OSError:
        return None
