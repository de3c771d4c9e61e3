"""Maps from student layers to teacher layers; layers count from 1."""

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field

from raykd.errors import InputError
from raykd.models.encoder import Encoder

Layer = Annotated[int, Field(ge=1)]
LayerMap = Literal["skip", "last"] | dict[Layer, Layer]


def resolve_layer_map(
    name: str, layer_map: LayerMap, student: Encoder, teacher: Encoder, *, with_last: bool
) -> dict[int, int]:
    """Teacher layer per student layer.

    With m student and n teacher layers, "skip" maps student layer i to teacher layer i n / m
    (rounded down), "last" to n - m + i; for i from 1 to m - 1, or to m.

    Args:
        name: the objective's name, for messages.
        layer_map: strategy, or an explicit map, which may omit student layers.
        student: model with m layers.
        teacher: model with n layers.
        with_last: whether a strategy also maps the student's last layer.

    Raises:
        InputError: the map names a layer that does not exist, or the strategy needs more layers.
    """
    num_student, num_teacher = student.num_layers, teacher.num_layers
    if isinstance(layer_map, Mapping):
        check_layers(name, "layer_map", layer_map.items(), student, teacher)
        return dict(sorted(layer_map.items()))
    if num_teacher < num_student:
        raise InputError(
            f"{name}: layer_map {layer_map!r} needs a teacher with at least as many layers as "
            f"the student; they have {num_teacher} and {num_student}: give the map itself, "
            "student: teacher"
        )
    last = num_student if with_last else num_student - 1
    if last == 0:
        raise InputError(
            f"{name}: a student of one layer has no intermediate layer; give it two layers or "
            "more, or the map itself: layer_map: {1: LAYER}"
        )
    if layer_map == "skip":
        return {layer: layer * num_teacher // num_student for layer in range(1, last + 1)}
    return {layer: num_teacher - num_student + layer for layer in range(1, last + 1)}


def check_layers(
    name: str, key: str, pairs: Collection[tuple[int, int]], student: Encoder, teacher: Encoder
) -> None:
    """Refuse a map that is empty or names layers that do not exist.

    Args:
        name: the objective's name, for messages.
        key: key of the map in the recipe.
        pairs: (student, teacher) layers.
        student: model with m layers.
        teacher: model with n layers.

    Raises:
        InputError: names the layer.
    """
    if not pairs:
        raise InputError(f"{name}: {key} is empty; give it one pair, student: teacher")
    for pair in pairs:
        for role, encoder, layer in zip(
            ("student", "teacher"), (student, teacher), pair, strict=True
        ):
            if layer > encoder.num_layers:
                raise InputError(
                    f"{name}: {key} names layer {layer} of the {role}, which has "
                    f"{encoder.num_layers}; choose one from 1 to {encoder.num_layers}"
                )


def layers_taking_part(name: str, role: str, encoder: Encoder, *, include_last: bool) -> list[int]:
    """All layers, or all except the last.

    Raises:
        InputError: no layer is left.
    """
    last = encoder.num_layers if include_last else encoder.num_layers - 1
    if last == 0:
        raise InputError(
            f"{name}: a {role} of one layer has no intermediate layer; give it two or more"
        )
    return list(range(1, last + 1))
