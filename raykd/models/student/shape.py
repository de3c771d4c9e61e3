"""Sizes of a student in its family's configuration, whose names differ between families.

Sizes with a common alias (`num_hidden_layers`, `hidden_size`, `num_attention_heads`) are set by it.
"""

import math
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from raykd.errors import InputError
from raykd.models.families.layers import KNOWN_FAMILIES

# Feed-forward width: BERT and most others, DistilBERT, GPT-2, XLNet and Funnel, BART.
_INTERMEDIATE_NAMES = ("intermediate_size", "hidden_dim", "n_inner", "d_inner", "encoder_ffn_dim")
# Sizes of a decoder (BART), set to those of the encoder.
_DECODER_NAMES = {
    "num_hidden_layers": "decoder_layers",
    "num_attention_heads": "decoder_attention_heads",
    "encoder_ffn_dim": "decoder_ffn_dim",
}
# Width of a head in families where it is a separate size: Qwen2, EuroBERT; XLNet.
_HEAD_WIDTH_NAMES = ("head_dim", "d_head")


def shape_of_student(
    source: PreTrainedConfig,
    *,
    num_layers: int,
    hidden_size: int,
    num_heads: int,
    intermediate_size: int | None,
) -> dict[str, int]:
    """Sizes of a student by its family's names.

    Args:
        source: configuration with the family and default ratios of sizes.
        num_layers: number of layers of the student.
        hidden_size: width d.
        num_heads: attention heads per layer.
        intermediate_size: width of the feed-forward layers; None for the source's ratio to d.

    Raises:
        InputError: the family's feed-forward width cannot be set.
    """
    shape = {
        "num_hidden_layers": num_layers,
        "hidden_size": hidden_size,
        "num_attention_heads": num_heads,
    }
    name = next((name for name in _INTERMEDIATE_NAMES if hasattr(source, name)), None)
    own = None if name is None else getattr(source, name)
    if name is not None and own is not None:
        ratio = own / int(source.hidden_size)
        shape[name] = intermediate_size or round(ratio * hidden_size)
    elif intermediate_size is not None:
        if name is None:
            raise InputError(
                f"student.intermediate_size {intermediate_size}: a {source.model_type!r} has no "
                "such setting (it is 4 times the width); remove it"
            )
        shape[name] = intermediate_size
    shape |= {
        decoder: shape[encoder]
        for encoder, decoder in _DECODER_NAMES.items()
        if encoder in shape and hasattr(source, decoder)
    }
    source_heads = int(source.num_attention_heads)
    for name in _HEAD_WIDTH_NAMES:
        if getattr(source, name, None) == int(source.hidden_size) // source_heads:
            shape[name] = hidden_size // num_heads
    num_shared: int | None = getattr(source, "num_key_value_heads", None)
    if num_shared is not None:
        shape["num_key_value_heads"] = math.gcd(num_heads, max(1, num_shared))
        if num_shared == source_heads:
            shape["num_key_value_heads"] = num_heads
    return shape


def set_sizes(config: PreTrainedConfig, changes: Mapping[str, float | list[Any]]) -> None:
    """Write sizes, dropouts and per-layer settings into a configuration.

    Raises:
        InputError: the family derives a size from others (Funnel: its depth from its blocks).
    """
    for name, value in changes.items():
        try:
            setattr(config, name, value)
        except (NotImplementedError, AttributeError, TypeError, ValueError):
            raise cannot_be_shaped(config, f"its {name} cannot be set") from None
    if hasattr(config, "pooler_hidden_size"):  # DeBERTa
        config.pooler_hidden_size = config.hidden_size


def cannot_be_shaped(config: PreTrainedConfig, reason: str) -> InputError:
    """Error for a family whose students cannot be made by sizes."""
    return InputError(
        f"student: no {config.model_type!r} can be made by the sizes of student ({reason}); name a "
        f"pretrained student as student.model, or use a {KNOWN_FAMILIES}"
    )
