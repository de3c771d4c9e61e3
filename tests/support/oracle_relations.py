"""Naive implementation of MiniLMv2's relation loss: one row, head and token at a time."""

import math

import torch
from torch import Tensor


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, num_heads: int) -> float:
    """Compute the loss with each row cropped to its length; (B, L, d_S), (B, L, d_T), (B, L)."""
    rows = []
    for row in range(len(mask)):
        is_token = mask[row].bool()
        kl = 0.0
        for head in range(num_heads):
            p = _relation(teacher[row, is_token], num_heads, head)
            q = _relation(student[row, is_token], num_heads, head)
            for token in range(int(is_token.sum())):
                kl += float((p[token] * (p[token] / q[token]).log()).sum())
        rows.append(kl / num_heads / int(is_token.sum()))
    return sum(rows) / len(rows)


def _relation(vectors: Tensor, num_heads: int, head: int) -> Tensor:
    width = vectors.size(-1) // num_heads
    part = vectors[:, head * width : (head + 1) * width].double()
    return torch.softmax(part @ part.T / math.sqrt(width), dim=-1)
