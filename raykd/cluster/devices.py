"""Device that Ray has given to a task or trial."""

import ray
import torch


def assigned_device() -> torch.device:
    """The GPU of this task if it has one, or a share of one; otherwise the CPU."""
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")
