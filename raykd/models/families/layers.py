"""Access to layers and self-attention projections of each family."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from raykd.errors import InputError

# Families whose layers and projections are known; all are tested.
KNOWN_FAMILIES = (
    "BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, ELECTRA, MPNet, DeBERTa, DeBERTa-v2, "
    "ModernBERT or NomicBERT"
)
# Paths of the layers below the base model.
_BLOCK_PATHS = ("encoder.layer", "transformer.layer", "layers")
# Names of the self-attention projections in a layer.
_PROJECTION_NAMES = (
    ("query", "key", "value"),  # BERT, RoBERTa, ELECTRA, XLM-R, CamemBERT
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
    ("query_proj", "key_proj", "value_proj"),  # DeBERTa-v2, -v3
    ("q", "k", "v"),  # MPNet
    ("q_proj", "k_proj", "v_proj"),  # NomicBERT, EuroBERT
)
# Its output is the concatenation of query, key and value.
_FUSED_PROJECTION = "Wqkv"  # ModernBERT
# Its output is query, key and value of the first head, then of the second, and so on.
_PROJECTION_FUSED_BY_HEAD = "in_proj"  # DeBERTa (v1)


class RelationVectors(NamedTuple):
    """Query, key and value vectors of one layer, before the split into heads.

    For families with rotary positions (ModernBERT, NomicBERT), these are the vectors before
    rotation.
    """

    query: Tensor  # (B, L, d)
    key: Tensor  # (B, L, d)
    value: Tensor  # (B, L, d)


class Projections(NamedTuple):
    """Linear maps of a layer's self-attention, and the function from their outputs to vectors.

    Attributes:
        modules: three linear maps, or one fused map.
        vectors: function from the modules' outputs to relation vectors.
    """

    modules: list[nn.Module]
    vectors: Callable[[Sequence[Tensor]], RelationVectors]


def blocks_of(model: PreTrainedModel) -> nn.ModuleList:
    """Transformer layers of a model, first to last.

    Raises:
        InputError: the family's layers are not known.
    """
    for path in _BLOCK_PATHS:
        try:
            module = model.base_model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(module, nn.ModuleList):
            return module
    raise InputError(
        f"model type {model.config.model_type!r}: its layers cannot be read one by one; "
        f"use a {KNOWN_FAMILIES}, or an objective that reads only logits (vanilla_kd, "
        "annealing_kd, fine_tune)"
    )


def projections_of(model: PreTrainedModel, block: nn.Module) -> Projections:
    """Projections to query, key and value of a layer.

    Raises:
        InputError: they are not known, or have another width than the layer.
    """
    by_name = {name.rpartition(".")[2]: module for name, module in block.named_modules()}
    for names in _PROJECTION_NAMES:
        modules = [by_name[name] for name in names if name in by_name]
        if len(modules) == len(names) and _are_full_width(model, modules):
            return Projections(modules, lambda outputs: RelationVectors(*outputs))
    if _FUSED_PROJECTION in by_name:
        return Projections([by_name[_FUSED_PROJECTION]], _split)
    if _PROJECTION_FUSED_BY_HEAD in by_name:
        attention = _parent_of(block, by_name[_PROJECTION_FUSED_BY_HEAD])
        return Projections(
            [by_name[_PROJECTION_FUSED_BY_HEAD]],
            partial(_split_by_head, attention, int(model.config.num_attention_heads)),
        )
    raise InputError(
        f"model type {model.config.model_type!r}: its query, key and value vectors cannot be read, "
        f"or are not as wide as its hidden states; use a {KNOWN_FAMILIES}"
    )


def _are_full_width(model: PreTrainedModel, modules: Sequence[nn.Module]) -> bool:
    """False if heads share keys (Qwen2), or are wider in total than the model (Gemma)."""
    width = int(model.config.hidden_size)
    return all(getattr(module, "out_features", None) == width for module in modules)


def _split(outputs: Sequence[Tensor]) -> RelationVectors:
    (fused,) = outputs
    return RelationVectors(*fused.chunk(3, dim=-1))


def _split_by_head(
    attention: nn.Module, num_heads: int, outputs: Sequence[Tensor]
) -> RelationVectors:
    """Vectors of a fused projection with separate biases for query and value."""
    (fused,) = outputs
    heads = fused.view(*fused.shape[:-1], num_heads, 3, -1)
    query, key, value = (part.flatten(-2) for part in heads.unbind(-2))
    query_bias, value_bias = (attention.get_parameter(name) for name in ("q_bias", "v_bias"))
    return RelationVectors(query + query_bias, key, value + value_bias)


def _parent_of(block: nn.Module, module: nn.Module) -> nn.Module:
    return next(parent for parent in block.modules() if module in list(parent.children()))
