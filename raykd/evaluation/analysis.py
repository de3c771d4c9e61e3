"""Comparison of a student with its teacher, by logits and by hidden states, as in the papers.

Shapes: N rows, C classes (1: regression), m layers of the student, n of the teacher, d width.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy.special import log_softmax

from raykd.models.encoder import Encoder
from raykd.models.forward import run
from raykd.models.inference import token_batches
from raykd.models.pooling import pooled_layers
from raykd.models.tokenization.tokens import TokenizedRows, collate, to_device

# Lower edges of the divergence bins; the last bin is unbounded.
_LOWER_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Hidden states of all layers are in memory at once, so batches are small.
_BATCH_TOKENS = 2048


class Divergence(BaseModel):
    """Distribution of the divergence per row, in nats or squared units of the score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Literal["kl", "binary_kl", "squared_difference"]
    mean: FiniteFloat
    median: FiniteFloat
    percentile_90: FiniteFloat
    lower_edges: list[float]
    counts: list[int]  # rows from an edge up to the next one; the last bin is unbounded


class LayerSimilarity(BaseModel):
    """Similarity of layers: one row per student layer, one column per teacher layer, from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Literal["cosine", "linear_cka"]
    num_rows: int
    values: list[list[FiniteFloat]]


def divergence(
    student: NDArray[np.float64], teacher: NDArray[np.float64], *, multi_label: bool = False
) -> Divergence:
    """Distribution of `KL(teacher || student)` per row, or of the squared difference if C is 1.

    Of a multi-label task it is the mean over classes of the KL divergence of the two outcomes.

    Source: CILDA (arXiv:2204.07674), figure 2.

    Args:
        student: logits (N, C).
        teacher: logits (N, C).
        multi_label: whether rows have any number of classes.
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    measure: Literal["kl", "binary_kl", "squared_difference"] = "kl"
    if student.shape[1] == 1:
        measure, by_row = "squared_difference", np.square(student - teacher)[:, 0]
    elif multi_label:
        measure, by_row = "binary_kl", _binary_divergences(student, teacher)
    else:
        by_row = _kl_divergences(student, teacher)
    bins = np.searchsorted(_LOWER_EDGES, by_row, side="right") - 1
    return Divergence(
        measure=measure,
        mean=float(by_row.mean()),
        median=float(np.median(by_row)),
        percentile_90=float(np.quantile(by_row, 0.9)),
        lower_edges=list(_LOWER_EDGES),
        counts=np.bincount(bins, minlength=len(_LOWER_EDGES)).tolist(),
    )


def _kl_divergences(
    student: NDArray[np.float64], teacher: NDArray[np.float64]
) -> NDArray[np.float64]:
    teacher_log = log_softmax(teacher.astype(np.float64), axis=1)
    student_log = log_softmax(student.astype(np.float64), axis=1)
    by_row: NDArray[np.float64] = (np.exp(teacher_log) * (teacher_log - student_log)).sum(axis=1)
    # Rounding can give negative values for equal distributions.
    return by_row.clip(min=0)


def _binary_divergences(
    student: NDArray[np.float64], teacher: NDArray[np.float64]
) -> NDArray[np.float64]:
    # The outcomes of a class are the softmax of its logit and 0.
    outcomes = [
        np.stack([one, np.zeros_like(one)], axis=2).reshape(-1, 2) for one in (student, teacher)
    ]
    means: NDArray[np.float64] = _kl_divergences(*outcomes).reshape(student.shape).mean(axis=1)
    return means


def pooled_states(
    encoder: Encoder, rows: TokenizedRows, *, pad_id: int, device: torch.device
) -> NDArray[np.float32]:
    """Hidden states of all layers, mean over a row's tokens, (N, layers, d).

    Args:
        encoder: model in evaluation mode, on `device`.
        rows: N rows.
        pad_id: padding token.
        device: device of the model.

    Raises:
        InputError: the family's layers are not known.
    """
    assert not encoder.training
    numbers = range(1, encoder.num_layers + 1)
    states = np.empty((len(rows), len(numbers), encoder.hidden_size), np.float32)
    for indices in token_batches(rows.lengths, _BATCH_TOKENS):
        batch = to_device(collate(rows, indices, pad_id=pad_id, regression=False), device)
        with torch.inference_mode():
            hidden_states = run(encoder, batch, layers=numbers).hidden_states
            vectors = pooled_layers(hidden_states, numbers, batch["attention_mask"], "mean")
        states[indices] = vectors.cpu().numpy()
    return states


def layer_similarity(student: NDArray[np.float32], teacher: NDArray[np.float32]) -> LayerSimilarity:
    """Mean cosine of each pair of layers, or linear CKA if the widths differ.

    Source of the cosine: RAIL-KD (arXiv:2109.10164), figure 2.

    Args:
        student: pooled states (N, m, d_S).
        teacher: pooled states (N, n, d_T).
    """
    assert len(student) == len(teacher), (student.shape, teacher.shape)
    equally_wide = student.shape[2] == teacher.shape[2]
    values = (mean_cosines if equally_wide else linear_cka)(student, teacher)
    return LayerSimilarity(
        measure="cosine" if equally_wide else "linear_cka",
        num_rows=len(student),
        values=values.tolist(),
    )


def mean_cosines(student: NDArray[np.float32], teacher: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of all pairs of layers, mean over rows, (m, n); 0 for zero vectors.

    Args:
        student: (N, m, d).
        teacher: (N, n, d).
    """
    products = np.tensordot(_unit_vectors(student), _unit_vectors(teacher), axes=([0, 2], [0, 2]))
    cosines: NDArray[np.float64] = products / len(student)
    return cosines


def _unit_vectors(states: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(states.astype(np.float64), axis=2, keepdims=True)
    unit: NDArray[np.float64] = states / np.where(lengths > 0, lengths, 1)
    return unit


def linear_cka(student: NDArray[np.float32], teacher: NDArray[np.float32]) -> NDArray[np.float64]:
    """Linear centered kernel alignment of all pairs of layers, (m, n), 0 to 1.

    `|X^T Y|^2 / (|X^T X| |Y^T Y|)` in Frobenius norms, of states centered over the rows: 1 if one
    is a rotation and scaling of the other. With fewer rows than the width even unrelated states
    are near 1. It is 0 for a layer that is constant over the rows.

    Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited",
    section 3.

    Args:
        student: (N, m, d_S).
        teacher: (N, n, d_T).
    """
    student_layers, teacher_layers = _centered_layers(student), _centered_layers(teacher)
    norms = np.outer(
        [_alignment(x, x) for x in student_layers], [_alignment(y, y) for y in teacher_layers]
    )
    products = np.array([[_alignment(x, y) for y in teacher_layers] for x in student_layers])
    return products**2 / np.where(norms > 0, norms, 1)


def _centered_layers(states: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """Each layer's states minus their mean, (N, d); zeros if the difference is only rounding."""
    layers = []
    for states_of_layer in np.moveaxis(states.astype(np.float64), 1, 0):
        centered = states_of_layer - states_of_layer.mean(axis=0)
        smallest = np.finfo(np.float32).eps * np.linalg.norm(states_of_layer)
        layers.append(centered * (np.linalg.norm(centered) > smallest))
    return layers


def _alignment(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(x.T @ y))
