"""Detection of the output layer of a classifier by what the logits depend on.

Families name it differently (`classifier`, `out_proj`, `score`, `logits_proj`), and modules are not
listed in the order in which they run (XLM-RoBERTa lists a map of the layers last). Therefore the
model is run with the output of each candidate replaced by known numbers: the output layer is the
one for which the logits become those numbers.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from raykd.errors import InputError


def reorder_classes(model: PreTrainedModel, order: Sequence[int]) -> None:
    """Permute a classifier's weights so that class order[i] becomes class i; keep the names.

    Raises:
        InputError: the output layer cannot be found.
    """
    assert sorted(order) == list(range(int(model.config.num_labels or 0))), order
    if list(order) == sorted(order):
        return
    last_map = last_map_of(model)
    before = _logits(model)
    with torch.no_grad():
        for parameter in last_map.parameters():
            parameter.copy_(parameter[list(order)].clone())
    torch.testing.assert_close(_logits(model), before[:, list(order)])


def last_map_of(model: PreTrainedModel) -> nn.Linear:
    """Linear map whose outputs are the logits, one per class.

    Raises:
        InputError: there is no such map.
    """
    num_labels = int(model.config.num_labels or 0)
    candidates: list[nn.Linear] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        assert isinstance(module, nn.Linear)
        candidates.append(module)

    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == num_labels
    ]
    try:
        _logits(model)
    finally:
        for hook in hooks:
            hook.remove()
    for candidate in reversed(candidates):
        if _makes_the_logits(model, candidate, num_labels):
            return candidate
    raise InputError(
        f"model type {model.config.model_type!r}: the weights that make its logits cannot be "
        "found, and its classes are in another order than the task's; list the task's labels in "
        "the model's order"
    )


def _makes_the_logits(model: PreTrainedModel, candidate: nn.Linear, num_labels: int) -> bool:
    known = torch.arange(1.0, num_labels + 1)

    def replace(known: Tensor, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return known.to(output).expand_as(output)

    hook = candidate.register_forward_hook(partial(replace, known))
    try:
        logits = _logits(model)
    finally:
        hook.remove()
    return torch.equal(logits.float().cpu(), known.expand_as(logits))


def _logits(model: PreTrainedModel) -> Tensor:
    """Logits (1, C) of a short text that all families accept, without dropout."""
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            logits: Tensor = model(**short_text(model), return_dict=True).logits
    finally:
        model.train(was_training)
    return logits


def short_text(model: PreTrainedModel) -> dict[str, Tensor]:
    """Three non-padding tokens (1, 3), the last one the end-of-text token if there is one.

    BART and its relatives classify from the end-of-text token.
    """
    config, table = model.config, model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    num_tokens = len(table)
    ends = getattr(config, "eos_token_id", None)
    end = ends[0] if isinstance(ends, list | tuple) else ends
    marks = {config.pad_token_id, end}
    word = next(token for token in range(num_tokens) if token not in marks)
    last = end if isinstance(end, int) and 0 <= end < num_tokens else word
    ids = torch.tensor([[word, word, last]], device=table.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
