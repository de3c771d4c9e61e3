"""Layer maps of the papers, and refusal of impossible maps."""

import pytest
from tiny_models import tiny_encoder

from raykd.errors import InputError
from raykd.objectives.losses.layer_maps import resolve_layer_map


def resolved(layer_map, num_student: int, num_teacher: int, *, with_last: bool = False):
    student = tiny_encoder(num_layers=num_student, hidden_size=4)
    teacher = tiny_encoder(num_layers=num_teacher, hidden_size=4)
    return resolve_layer_map("pkd", layer_map, student, teacher, with_last=with_last)


@pytest.mark.parametrize(
    ("layer_map", "num_student", "num_teacher", "layers"),
    [
        ("skip", 6, 12, [2, 4, 6, 8, 10]),  # PKD
        ("last", 6, 12, [7, 8, 9, 10, 11]),
        ("skip", 6, 24, [4, 8, 12, 16, 20]),  # PKD, and RAIL-KD's best fixed choice
        ("skip", 3, 24, [8, 16]),
        ("last", 3, 12, [10, 11]),
        ("skip", 3, 6, [2, 4]),
    ],
)
def test_strategies_give_the_papers_layer_maps(layer_map, num_student, num_teacher, layers):
    resolved_map = resolved(layer_map, num_student, num_teacher)

    assert list(resolved_map) == list(range(1, num_student))
    assert list(resolved_map.values()) == layers


def test_the_last_layers_are_paired_if_included():
    assert resolved("skip", 3, 6, with_last=True) == {1: 2, 2: 4, 3: 6}
    assert resolved("last", 3, 6, with_last=True) == {1: 4, 2: 5, 3: 6}


def test_an_explicit_map_is_kept_and_sorted_by_student_layer():
    assert resolved({2: 1, 1: 6}, 3, 6) == {1: 6, 2: 1}


@pytest.mark.parametrize(
    ("layer_map", "num_student", "num_teacher", "message"),
    [
        ({4: 1}, 3, 6, "layer 4 of the student, which has 3; choose one from 1 to 3"),
        ({1: 7}, 3, 6, "layer 7 of the teacher, which has 6"),
        ({}, 3, 6, "layer_map is empty"),
        ("skip", 4, 3, "they have 3 and 4"),
        ("last", 1, 3, "a student of one layer"),
    ],
)
def test_an_impossible_map_is_refused(layer_map, num_student, num_teacher, message):
    with pytest.raises(InputError, match=message):
        resolved(layer_map, num_student, num_teacher)
