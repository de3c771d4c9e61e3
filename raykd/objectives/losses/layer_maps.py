"""Which layers of the teacher teach which of the student; blocks are counted from 1."""

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field

from raykd.errors import InputError
from raykd.models.encoder import Encoder

Layer = Annotated[int, Field(ge=1)]
LayerMap = Literal["skip", "last"] | dict[Layer, Layer]


def resolve_layer_map(
    method: str, wanted: LayerMap, student: Encoder, teacher: Encoder, *, with_last: bool
) -> dict[int, int]:
    """The teacher's layer for each of the student's.

    With m layers of the student and n of the teacher, "skip" gives student layer i the teacher's
    i n / m (rounded down), "last" n - m + i; for i from 1 to m - 1, or to m.

    Args:
        method: the objective's name, for messages.
        wanted: a strategy, or the map itself, which may leave layers of the student out.
        student: of m layers.
        teacher: of n layers.
        with_last: whether a strategy gives the student's last layer one as well.

    Raises:
        InputError: the map names a layer that is not there, or the strategy needs more layers.
    """
    num_student, num_teacher = student.num_layers, teacher.num_layers
    if isinstance(wanted, Mapping):
        check_layers(method, "layer_map", wanted.items(), student, teacher)
        return dict(sorted(wanted.items()))
    if num_teacher < num_student:
        raise InputError(
            f"{method}: layer_map {wanted!r} needs a teacher with at least as many layers as the "
            f"student; they have {num_teacher} and {num_student}: give the map itself, "
            "student: teacher"
        )
    last = num_student if with_last else num_student - 1
    if last == 0:
        raise InputError(
            f"{method}: a student of one layer has no intermediate layer; give it two layers or "
            "more, or the map itself: layer_map: {1: LAYER}"
        )
    if wanted == "skip":
        return {layer: layer * num_teacher // num_student for layer in range(1, last + 1)}
    return {layer: num_teacher - num_student + layer for layer in range(1, last + 1)}


def check_layers(
    method: str, key: str, pairs: Collection[tuple[int, int]], student: Encoder, teacher: Encoder
) -> None:
    """Refuse a map that is empty or names layers that are not there.

    Args:
        method: the objective's name, for messages.
        key: the map's.
        pairs: (student, teacher).
        student: of m layers.
        teacher: of n layers.

    Raises:
        InputError: says which.
    """
    if not pairs:
        raise InputError(f"{method}: {key} is empty; give it one pair, student: teacher")
    for pair in pairs:
        for role, encoder, layer in zip(
            ("student", "teacher"), (student, teacher), pair, strict=True
        ):
            if layer > encoder.num_layers:
                raise InputError(
                    f"{method}: {key} names layer {layer} of the {role}, which has "
                    f"{encoder.num_layers}; choose one from 1 to {encoder.num_layers}"
                )


def layers_taking_part(
    method: str, role: str, encoder: Encoder, *, include_last: bool
) -> list[int]:
    """All layers, or all but the last.

    Raises:
        InputError: there is none but the last.
    """
    last = encoder.num_layers if include_last else encoder.num_layers - 1
    if last == 0:
        raise InputError(
            f"{method}: a {role} of one layer has no intermediate layer; give it two or more"
        )
    return list(range(1, last + 1))
