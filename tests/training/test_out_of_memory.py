"""Recognition of out-of-memory errors, and the settings that the error suggests."""

import errno

import pytest
import torch
from objective_settings import SETTINGS

from raykd.training.phase.config import PhaseConfig
from raykd.training.recovery import is_out_of_memory, remedies


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("Connection closed by peer"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_errors_are_distinguished_from_others(error, is_one):
    assert is_out_of_memory(error) == is_one


def test_torchs_out_of_memory_error_on_this_machine_is_recognized():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_the_suggested_settings_are_supported_by_the_objective():
    settings = {"batch_size": 8, "max_length": 64, "precision": "bfloat16"}

    def suggested(name: str, **changes) -> str:
        return remedies(PhaseConfig(objective=SETTINGS[name], **settings, **changes))

    rest = "lower batch_size (now 8), or lower max_length (now 64)"
    first = "set max_tokens_per_micro_batch: {} (smaller micro-batches), or "
    assert suggested("codir") == rest
    assert suggested("pkd") == first.format(256) + rest
    assert suggested("pkd", max_tokens_per_micro_batch=100) == first.format(50) + rest
