"""All-reduce (mean) of gradients through shared memory, for workers on one machine.

gloo uses the loopback network even there, which takes three times as long (experiments/LOG.md).
"""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, distributed

# Shared memory of a machine (Linux).
_FOLDER = Path("/dev/shm")
# Numbers averaged at once. Shared memory holds two such parts per worker, 8 MB; containers usually
# have 64 MB of it.
_PART_NUMBERS = 1 << 20
_BYTES_PER_NUMBER = 4


class ShmAllreduce:
    """Mean of float32 numbers over all workers, bit-equal on every worker.

    Worker r averages the r-th share of each part, in the order of the workers, so that the result
    is the same at every repetition.

    Args:
        shared: (2, W, P) float32 memory, mapped by all W workers.
        worker_rank: rank of this worker.
    """

    def __init__(self, shared: Tensor, worker_rank: int) -> None:
        self._shared, self._worker_rank, self._half = shared, worker_rank, 0

    @classmethod
    def open(cls, worker_rank: int, size: int) -> Self | None:
        """Map memory shared by all workers, which all call this.

        Returns:
            None, on every worker, if they are on several machines or shared memory is insufficient.
        """
        num_bytes = 2 * size * _PART_NUMBERS * _BYTES_PER_NUMBER
        reserved = _reserve(num_bytes) if worker_rank == 0 else None
        try:
            named = [reserved]
            distributed.broadcast_object_list(named, 0)
            mapped = _map(named[0], num_bytes) if named[0] else None
            is_shared = torch.tensor(int(mapped is not None))
            distributed.all_reduce(is_shared, distributed.ReduceOp.MIN)
        finally:
            # The mapping remains valid without its name, until the last process unmaps it.
            if reserved:
                Path(reserved).unlink()
        if not is_shared or mapped is None:
            return None
        numbers = torch.frombuffer(mapped, dtype=torch.float32)
        return cls(numbers.view(2, size, _PART_NUMBERS), worker_rank)

    def average(self, numbers: Tensor) -> None:
        """Replace float32 numbers (N,) by their mean over the workers, which all call this."""
        size = self._shared.shape[1]
        for part in torch.split(numbers, _PART_NUMBERS):
            inputs = self._shared[self._half, :, : len(part)]
            # Alternate the halves: a slower worker may still read this one during the next part.
            self._half = 1 - self._half
            inputs[self._worker_rank].copy_(part)
            distributed.barrier()
            mean, *others = inputs.tensor_split(size, dim=1)[self._worker_rank]
            for other in others:
                mean.add_(other)
            mean.div_(size)
            distributed.barrier()
            part.copy_(inputs[0])


def average_bucket(
    allreduce: ShmAllreduce,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]  # missing in some torch builds
) -> torch.futures.Future[Tensor]:
    """Communication hook for DDP that averages a bucket of gradients in place."""
    gradients = bucket.buffer()
    allreduce.average(gradients)
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
