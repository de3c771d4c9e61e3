"""Copy of a model's layers to a smaller model of the same family."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn
from transformers import PreTrainedConfig

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.student.shape import set_sizes

# Local or global attention (ModernBERT), width of the attention window (Longformer).
_LISTS_BY_LAYER = ("layer_types", "attention_window")

LayerChoice = Literal["skip", "top", "bottom"]


def choose_layers(choice: LayerChoice, num_layers: int, num_source_layers: int) -> list[int]:
    """Layers of the source, from 1, to copy to the student, first to last.

    For m of n layers, `skip` selects 1 + floor(i n / m) for i = 0, ..., m - 1: the first layer and
    evenly spaced ones after it, as in the papers (1, 3, ..., 11 for 12 to 6); `bottom` selects the
    first m layers, `top` the last m.

    Raises:
        InputError: the student has more layers than the source.
    """
    if num_layers > num_source_layers:
        raise InputError(
            f"student.num_layers {num_layers}: init {choice!r} copies layers of a model which has "
            f"{num_source_layers}; take at most as many, or init 'random'"
        )
    if choice == "bottom":
        return list(range(1, num_layers + 1))
    if choice == "top":
        return list(range(num_source_layers - num_layers + 1, num_source_layers + 1))
    return [1 + i * num_source_layers // num_layers for i in range(num_layers)]


def check_layers(layers: Sequence[int], num_source_layers: int) -> None:
    """Refuse a list with a layer that the source does not have.

    Raises:
        InputError: names the layer.
    """
    if (last := max(layers)) > num_source_layers:
        raise InputError(
            f"student.layers {list(layers)}: there is no layer {last} in a model of "
            f"{num_source_layers} layers; choose from 1 to {num_source_layers}"
        )


def shares_layers(config: PreTrainedConfig) -> bool:
    """True if all layers of a model share one set of weights (ALBERT).

    Raises:
        InputError: groups of layers share several sets of weights.
    """
    num_groups: int | None = getattr(config, "num_hidden_groups", None)
    if num_groups is not None and num_groups > 1:
        raise InputError(
            f"model type {config.model_type!r} with num_hidden_groups {num_groups}: its layers "
            "share weights in groups and cannot be copied one by one; use init 'random'"
        )
    return num_groups is not None


def set_layer_types(config: PreTrainedConfig, layers: Sequence[int]) -> None:
    """Set per-layer settings in a configuration to those of the chosen layers.

    Args:
        config: configuration of the student, with as many layers as `layers` unless that is empty.
        layers: layers of the source whose settings the student's layers keep.

    Raises:
        InputError: the family derives the settings from others (Jamba), which do not give these.
    """
    chosen = layers or range(1, config.num_hidden_layers + 1)
    for name in _LISTS_BY_LAYER:
        values = getattr(config, name, None)
        if not (isinstance(values, list | tuple) and values):
            continue
        of_chosen = [values[(layer - 1) % len(values)] for layer in chosen]
        if list(values) != of_chosen:
            set_sizes(config, {name: of_chosen})


def copy_weights(
    source: Encoder, student: Encoder, layers: Sequence[int], *, with_classifier: bool
) -> None:
    """Copy layers, embeddings and other weights of the encoder, such as the pooler.

    Args:
        source: model to copy from.
        student: model of the same sizes, except for the number of layers.
        layers: layers of the source, from 1, one per student layer.
        with_classifier: whether to copy the classifier as well.

    Raises:
        InputError: a layer's weights do not match those of the student's layer.
    """
    pairs = _pairs(source, student, layers)
    in_layers = {id(tensor) for layer, _ in pairs for tensor in _tensors(layer)}
    body = {id(tensor) for tensor in _tensors(student.model.base_model)}
    source_state = source.state_dict()
    outside_layers = {
        name: source_state[name]
        for name, tensor in student.state_dict(keep_vars=True).items()
        if id(tensor) not in in_layers and (with_classifier or id(tensor) in body)
    }
    unexpected = student.load_state_dict(outside_layers, strict=False).unexpected_keys
    assert not unexpected, unexpected
    for own, layer in pairs:
        shapes, layer_state = _shapes(own), layer.state_dict()
        own_shapes = _shapes(layer)
        if wrong := [name for name in shapes if shapes[name] != own_shapes.get(name)]:
            raise InputError(
                f"student: layers {list(layers)} of a {source.model.config.model_type} do not fit: "
                f"the student's layer has a weight {wrong[0]} of shape {list(shapes[wrong[0]])}, "
                "which the source's layer lacks; choose other layers"
            )
        own.load_state_dict({name: layer_state[name] for name in shapes})


def weights_left_out(source: Encoder, student: Encoder, layers: Sequence[int]) -> dict[int, str]:
    """Modules of the chosen layers that the student lacks, by layer of the source.

    Only the first layer of a ModernBERT has no norm before its attention, so that another layer
    copied to its position loses this norm.
    """
    modules = {}
    for (own, layer), number in zip(_pairs(source, student, layers), layers, strict=False):
        names = _shapes(layer).keys() - _shapes(own).keys()
        if names:
            modules[number] = ", ".join(sorted({name.rpartition(".")[0] for name in names}))
    return modules


def check_increasing(layers: Sequence[int]) -> None:
    """Refuse a list of layers that is not strictly increasing."""
    if any(first >= second for first, second in pairwise(layers)):
        raise ValueError(f"layers {list(layers)}: list them in increasing order, each only once")


def _pairs(
    source: Encoder, student: Encoder, layers: Sequence[int]
) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of a student layer and the source layer that it copies."""
    if shares_layers(source.model.config):
        return []
    of_source = source.blocks()
    chosen = [of_source[number - 1] for number in layers]
    return list(zip(student.blocks(), chosen, strict=True))


def _tensors(module: nn.Module) -> list[object]:
    return list(module.state_dict(keep_vars=True).values())


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
