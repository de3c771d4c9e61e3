"""Number of CPU threads: torch's affects the rounding of sums, that of tokenizers the speed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Context manager that computes with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_tokenizer_thread() -> Iterator[None]:
    """Context manager that tokenizes with one thread; a batch otherwise takes every core."""
    # The package tokenizers reads it in every call.
    name = "TOKENIZERS_PARALLELISM"  # word list: ok
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
