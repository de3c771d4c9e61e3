"""In-batch contrastive loss: identify a row's own vector among those of the batch.

Shapes: B rows of this worker, K candidates, u width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from raykd.objectives.losses.gather import rows_of_all_workers


def info_nce(anchors: Tensor, candidates: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """`-log softmax(cos(anchor, candidates) / T)` of each anchor's own candidate, mean over rows.

    The loss is 0 for a single candidate. It is computed in float32 even under autocast.
    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"
    (arXiv:1807.03748), equation 4; with cosines as in CILDA.

    Args:
        anchors: (B, u).
        candidates: (K, u).
        targets: (B,) int64, index of each anchor's positive among the candidates.
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
    """`info_nce` of each anchor with the batch's vectors, and the number of candidates.

    Args:
        anchors: (B, u).
        vectors: (B, u), positives in the order of the anchors.
        row_ids: (B,) non-negative row ids.
        temperature: T > 0.
        gather: whether candidates are the rows of all workers, or of this one only.
    """
    candidates, places = (
        gathered_candidates(vectors.float(), row_ids) if gather else own_candidates(vectors.float())
    )
    loss = info_nce(anchors, candidates, places, temperature)
    return loss, anchors.new_tensor(float(len(candidates)))


def own_candidates(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates (B, u) of this worker, and the index (B,) of each row among them."""
    return vectors, torch.arange(len(vectors), device=vectors.device)


def gathered_candidates(vectors: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates of all workers, and the index of each of this worker's rows among them.

    Args:
        vectors: (B, u), where B may differ between workers.
        row_ids: (B,) non-negative row ids.

    Returns:
        Candidates (K, u), see `rows_of_all_workers`, and indices (B,).
    """
    all_row_ids, candidates = rows_of_all_workers(row_ids, vectors)
    return candidates, torch.searchsorted(all_row_ids, row_ids)
