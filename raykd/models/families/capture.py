"""Capture of modules' inputs and outputs during a forward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput


@contextmanager
def outputs_of(modules: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Context manager that collects each module's first output, by position in `modules`."""
    outputs: dict[int, Tensor] = {}

    def keep(index: int, module: nn.Module, inputs: Any, output: Any) -> None:
        # DeBERTa also applies the same projections to its relative positions, afterwards.
        is_several = isinstance(output, tuple | ModelOutput)
        outputs.setdefault(index, output[0] if is_several else output)

    with ExitStack() as stack:
        for at, module in enumerate(modules):
            handle = module.register_forward_hook(partial(keep, at))
            stack.callback(handle.remove)
        yield outputs


@contextmanager
def input_of(module: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Context manager that collects, as item 0, the first argument of the module's first call."""
    inputs: dict[int, Tensor] = {}

    def keep(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs.setdefault(0, positional[0] if positional else named["hidden_states"])

    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield inputs
    finally:
        handle.remove()


class _AllCaptured(Exception):  # noqa: N818  # no error
    """Signal that all requested outputs are captured."""


def first_outputs(modules: Sequence[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """First output of each module in a run, which ends as soon as all are captured."""
    waiting = set(range(len(modules)))

    def leave(index: int, module: nn.Module, inputs: Any, output: Any) -> None:
        waiting.discard(index)
        if not waiting:
            raise _AllCaptured

    with ExitStack() as stack:
        outputs = stack.enter_context(outputs_of(modules))
        for index, module in enumerate(modules):
            stack.callback(module.register_forward_hook(partial(leave, index)).remove)
        with suppress(_AllCaptured):
            run()
    return [outputs[index] for index in range(len(modules))]
