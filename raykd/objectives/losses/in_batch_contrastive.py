"""What in-batch contrastive losses need: to find a row's own vector among those of the batch.

Shapes: B rows of this worker, K candidates, u width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from raykd.objectives.losses.gather import rows_of_all_workers


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


def in_batch_loss(
    anchors: Tensor, vectors: Tensor, row_ids: Tensor, temperature: float, *, gather: bool
) -> tuple[Tensor, Tensor]:
    """`info_nce` of each anchor against the batch's vectors, and the number of candidates.

    Args:
        anchors: (B, u).
        vectors: (B, u), each anchor's own in its place.
        row_ids: (B,), not negative.
        temperature: T > 0.
        gather: whether the rows of all workers are candidates, or those of this one.
    """
    candidates, places = (
        gathered_candidates(vectors.float(), row_ids) if gather else own_candidates(vectors.float())
    )
    loss = info_nce(anchors, candidates, places, temperature)
    return loss, anchors.new_tensor(float(len(candidates)))


def own_candidates(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors of this worker's rows as candidates, (B, u), and each row's place, (B,)."""
    return vectors, torch.arange(len(vectors), device=vectors.device)


def gathered_candidates(vectors: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors of all workers' rows as candidates, and the places of this worker's among them.

    Args:
        vectors: (B, u), where B may differ between workers.
        row_ids: (B,), not negative.

    Returns:
        (K, u), see `rows_of_all_workers`, and (B,).
    """
    all_row_ids, candidates = rows_of_all_workers(row_ids, vectors)
    return candidates, torch.searchsorted(all_row_ids, row_ids)
