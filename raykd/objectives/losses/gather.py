"""The rows of a batch that the workers share among them.

Shapes: B rows of this worker, R of the largest share, W workers, u width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed


def rows_of_all_workers(row_ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the whole batch and their vectors, in the order of their numbers.

    Shares may differ in size. A row of several workers (without weight but on the first, in a last
    batch with fewer rows than workers) is there once. Gradients go back to the workers that the
    vectors came from.

    Args:
        row_ids: (B,) of this worker, not negative.
        vectors: (B, u).
    """
    if distributed.is_available() and distributed.is_initialized():
        row_ids, vectors = _gathered(row_ids, vectors)
    row_ids, order = row_ids.sort(stable=True)
    is_first = row_ids.diff(prepend=row_ids.new_full((1,), -1)) > 0
    return row_ids[is_first], vectors[order][is_first]


def _gathered(row_ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Every worker's rows, filled up to the largest share with rows -1; (W R,) and (W R, u)."""
    largest = torch.tensor(len(row_ids), device=row_ids.device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    num_missing = int(largest) - len(row_ids)
    all_row_ids = _gather(F.pad(row_ids, (0, num_missing), value=-1))
    all_vectors = _Gather.apply(F.pad(vectors, (0, 0, 0, num_missing)))  # type: ignore[no-untyped-call]  # untyped in torch
    return all_row_ids.flatten(), all_vectors.flatten(0, 1)


def _gather(tensor: Tensor) -> Tensor:
    """(R, ...) of every worker, (W, R, ...)."""
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


class _Gather(torch.autograd.Function):
    """`_gather`, through which every worker's loss reaches every worker's vectors."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient[distributed.get_rank()]
