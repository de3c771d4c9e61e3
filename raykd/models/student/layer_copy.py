"""Layers of a model that become the layers of a smaller one of the same family."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn
from transformers import PreTrainedConfig

from raykd.errors import InputError
from raykd.models.encoder import Encoder

# Local or global attention (ModernBERT), width of the attention window (Longformer).
_LISTS_BY_LAYER = ("layer_types", "attention_window")

LayerChoice = Literal["skip", "top", "bottom"]


def choose_layers(choice: LayerChoice, num_layers: int, num_source_layers: int) -> list[int]:
    """Layers of the source, counted from 1, that become the student's, first to last.

    With m layers of n, `skip` takes 1 + floor(i n / m) for i = 0, ..., m - 1: the first layer and
    from there evenly spaced ones, as in the papers 1, 3, ..., 11 for 12 to 6; `bottom` takes the
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
    """Refuse a list of layers that names one the source does not have.

    Raises:
        InputError: names the layer.
    """
    if (last := max(layers)) > num_source_layers:
        raise InputError(
            f"student.layers {list(layers)}: there is no layer {last} in a model of "
            f"{num_source_layers} layers; choose from 1 to {num_source_layers}"
        )


def shares_layers(config: PreTrainedConfig) -> bool:
    """True if one set of weights is all layers of a model (ALBERT).

    Raises:
        InputError: several sets are shared by groups of layers.
    """
    num_groups: int | None = getattr(config, "num_hidden_groups", None)
    if num_groups is not None and num_groups > 1:
        raise InputError(
            f"model type {config.model_type!r} with num_hidden_groups {num_groups}: its layers "
            "share weights in groups and cannot be copied one by one; use init 'random'"
        )
    return num_groups is not None


def set_layer_types(config: PreTrainedConfig, layers: Sequence[int]) -> None:
    """List the kinds of the chosen layers in a configuration that lists them.

    Args:
        config: of a student with as many layers as `layers`, or as it wants if that is empty.
        layers: of the source, whose kinds the student's layers keep.
    """
    chosen = layers or range(1, config.num_hidden_layers + 1)
    for name in _LISTS_BY_LAYER:
        values = getattr(config, name, None)
        if isinstance(values, list | tuple) and values:
            setattr(config, name, [values[(layer - 1) % len(values)] for layer in chosen])


def copy_weights(
    source: Encoder, student: Encoder, layers: Sequence[int], *, with_classifier: bool
) -> None:
    """Copy layers, embeddings and what else is in the body of a model, its pooler for instance.

    Args:
        source: stays as it is.
        student: of the same sizes, except for the number of layers.
        layers: of the source, counted from 1, one for each of the student's.
        with_classifier: copy also what is outside of the body.

    Raises:
        InputError: a layer has weights of another kind than the student's layer in its place.
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
        found = _shapes(layer)
        if wrong := [name for name in shapes if shapes[name] != found.get(name)]:
            raise InputError(
                f"student: layers {list(layers)} of a {source.model.config.model_type} do not fit: "
                f"the student's layer has a weight {wrong[0]} of shape {list(shapes[wrong[0]])}, "
                "which the source's has not; choose other layers"
            )
        own.load_state_dict({name: layer_state[name] for name in shapes})


def weights_left_out(source: Encoder, student: Encoder, layers: Sequence[int]) -> dict[int, str]:
    """Modules of the chosen layers without a place in the student, by layer of the source.

    The first layer of a ModernBERT alone has no norm before its attention, so that another layer
    in its place loses this norm.
    """
    found = {}
    for (own, layer), number in zip(_pairs(source, student, layers), layers, strict=False):
        names = _shapes(layer).keys() - _shapes(own).keys()
        if names:
            found[number] = ", ".join(sorted({name.rpartition(".")[0] for name in names}))
    return found


def check_increasing(layers: Sequence[int]) -> None:
    """Refuse a list of layers that is not in the source's order, or names a layer twice."""
    if any(first >= second for first, second in pairwise(layers)):
        raise ValueError(
            f"layers {list(layers)}: list them from first to last, each only once, so that every "
            "layer follows one that came before it in the source"
        )


def _pairs(
    source: Encoder, student: Encoder, layers: Sequence[int]
) -> list[tuple[nn.Module, nn.Module]]:
    """The student's layers, each with that of the source which it copies."""
    if shares_layers(source.model.config):
        return []
    of_source = source.blocks()
    chosen = [of_source[number - 1] for number in layers]
    return list(zip(student.blocks(), chosen, strict=True))


def _tensors(module: nn.Module) -> list[object]:
    return list(module.state_dict(keep_vars=True).values())


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
