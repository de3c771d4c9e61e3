"""In what precision losses are computed."""

from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """At least float32, whatever autocast made of it."""
    return tensor if tensor.element_size() >= 4 else tensor.float()
