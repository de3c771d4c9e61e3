"""What in-batch contrastive losses need: to find a row's own vector among those of the batch.

Shapes: B rows of this worker, K candidates, u width, W workers, R rows of the largest share.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed


def info_nce(anchors: Tensor, candidates: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """`-log softmax(cos(anchor, candidates) / T)` of each anchor's own candidate, mean over rows.

    A single candidate costs nothing. Computed in float32 even under autocast.
    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding",
    equation 4; with cosines as in CILDA.

    Args:
        anchors: (B, u).
        candidates: (K, u).
        targets: (B,) int64, the place of each anchor's own among the candidates.
        temperature: T > 0.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        dtype = torch.promote_types(anchors.dtype, torch.float32)
        unit_anchors = F.normalize(anchors.to(dtype), dim=-1)
        unit_candidates = F.normalize(candidates.to(dtype), dim=-1)
        return F.cross_entropy(unit_anchors @ unit_candidates.T / temperature, targets)


def own_candidates(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors of this worker's rows as candidates, (B, u), and each row's place, (B,)."""
    return vectors, torch.arange(len(vectors), device=vectors.device)


def gathered_candidates(vectors: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors of all workers' rows as candidates, and the places of this worker's among them.

    Gradients go back to the workers that the vectors came from. A row of several workers (without
    weight but on the first, in a last batch with fewer rows than workers) is there once.

    Args:
        vectors: (B, u), where B may differ between workers.
        row_ids: (B,), not negative.

    Returns:
        (K, u) and (B,).
    """
    if not distributed.is_initialized():
        return own_candidates(vectors)
    largest = torch.tensor(len(vectors), device=vectors.device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    num_missing = int(largest) - len(vectors)
    ids = _gather(F.pad(row_ids, (0, num_missing), value=-1)).flatten()
    padded = F.pad(vectors, (0, 0, 0, num_missing))
    all_vectors: Tensor = _Gather.apply(padded).flatten(0, 1)  # type: ignore[no-untyped-call]  # untyped in torch
    first = (ids[:, None] == ids).int().argmax(dim=1)
    is_candidate = (first == torch.arange(len(ids), device=ids.device)) & (ids >= 0)
    places = (row_ids[:, None] == ids[is_candidate]).int().argmax(dim=1)
    return all_vectors[is_candidate], places


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
