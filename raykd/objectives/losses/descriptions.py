"""How a plan tells the user what a loss term is made of."""

from collections.abc import Iterable


def of_labels() -> str:
    """A task loss."""
    return "student's logits, gold labels"


def of_logits(temperature: float, *, cached: bool) -> str:
    """A divergence of logits, those of the teacher from a cache or from the step itself."""
    source = "cached" if cached else "of the same step"
    return f"student's logits, teacher's logits {source}, temperature {temperature:g}"


def of_layers(layers: Iterable[int]) -> str:
    """Layers, counted from 1; 0 is the output of the embeddings."""
    return ", ".join(map(_name, layers))


def of_pairs(pairs: Iterable[tuple[int, int]]) -> str:
    """Layers of the student, each with the teacher's that it learns from."""
    return ", ".join(f"{_name(student)} <- {_name(teacher)}" for student, teacher in pairs)


def _name(layer: int) -> str:
    return "embeddings" if layer == 0 else str(layer)
