"""Descriptions of loss terms for a run's description."""

from collections.abc import Iterable

from raykd.models.pooling import Pooling


def of_labels() -> str:
    """Description of a task loss."""
    return "student's logits, gold labels"


def of_logits(temperature: float, *, cached: bool) -> str:
    """Description of a logit loss, with the teacher's logits from a cache or from the step."""
    source = "cached" if cached else "of the same step"
    return f"student's logits, teacher's logits {source}, temperature {temperature:g}"


def of_pooling(pooling: Pooling) -> str:
    """Vectors of layers, as pooled over tokens."""
    return "tokens' mean vectors" if pooling == "mean" else "first token's vectors"


def of_layers(layers: Iterable[int]) -> str:
    """Layer numbers, from 1; 0 is the embedding output."""
    return ", ".join(map(_name, layers))


def of_pairs(pairs: Iterable[tuple[int, int]]) -> str:
    """Student layers, each with the teacher layer that it learns from."""
    return ", ".join(f"{_name(student)} <- {_name(teacher)}" for student, teacher in pairs)


def _name(layer: int) -> str:
    return "embeddings" if layer == 0 else str(layer)
