"""What modules take and return while a model runs, without changing how it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput


@contextmanager
def outputs_of(modules: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Collect, by position in `modules`, what each returns first while the block runs."""
    outputs: dict[int, Tensor] = {}

    def keep(index: int, module: nn.Module, inputs: Any, output: Any) -> None:
        # DeBERTa sends its relative positions through the same projections afterwards.
        is_several = isinstance(output, tuple | ModelOutput)
        outputs.setdefault(index, output[0] if is_several else output)

    with ExitStack() as stack:
        for at, module in enumerate(modules):
            handle = module.register_forward_hook(partial(keep, at))
            stack.callback(handle.remove)
        yield outputs


@contextmanager
def input_of(module: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Collect, as item 0, the first argument of the module's first call while the block runs."""
    inputs: dict[int, Tensor] = {}

    def keep(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs.setdefault(0, positional[0] if positional else named["hidden_states"])

    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield inputs
    finally:
        handle.remove()


class _Enough(Exception):  # noqa: N818  # it is no error
    """All that was wanted of a run is there."""


def first_outputs(modules: Sequence[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """What each of some modules returns first in a run, which is left as soon as all have."""
    waiting = set(range(len(modules)))

    def leave(index: int, module: nn.Module, inputs: Any, output: Any) -> None:
        waiting.discard(index)
        if not waiting:
            raise _Enough

    with ExitStack() as stack:
        outputs = stack.enter_context(outputs_of(modules))
        for at, module in enumerate(modules):
            stack.callback(module.register_forward_hook(partial(leave, at)).remove)
        with suppress(_Enough):
            run()
    return [outputs[at] for at in range(len(modules))]
