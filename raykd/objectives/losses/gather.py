"""All-gather of a batch's rows from all workers.

Shapes: B rows of this worker, R rows of the largest share, W workers, u width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed


def rows_of_all_workers(row_ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the whole batch and their vectors, in the order of row ids.

    Shares may differ in size. A row on several workers (in a last batch with fewer rows than
    workers, with weight 0 on all but the first) is returned once. Gradients are sent back to the
    workers that the vectors came from.

    Args:
        row_ids: (B,) non-negative row ids of this worker.
        vectors: (B, u) vectors of the rows.
    """
    if distributed.is_available() and distributed.is_initialized():
        row_ids, vectors = _gathered(row_ids, vectors)
    row_ids, order = row_ids.sort(stable=True)
    is_first = row_ids.diff(prepend=row_ids.new_full((1,), -1)) > 0
    return row_ids[is_first], vectors[order][is_first]


def _gathered(row_ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """All workers' rows, (W R,) and (W R, u), padded to the largest share with row id -1."""
    largest = torch.tensor(len(row_ids), device=row_ids.device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    num_missing = int(largest) - len(row_ids)
    all_row_ids = _gather(F.pad(row_ids, (0, num_missing), value=-1))
    all_vectors = _Gather.apply(F.pad(vectors, (0, 0, 0, num_missing)))  # type: ignore[no-untyped-call]  # untyped in torch
    return all_row_ids.flatten(), all_vectors.flatten(0, 1)


def _gather(tensor: Tensor) -> Tensor:
    """All-gather (R, ...) to (W, R, ...)."""
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


class _Gather(torch.autograd.Function):
    """Differentiable `_gather`: gradients of all workers' losses are summed."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient[distributed.get_rank()]
