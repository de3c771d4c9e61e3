"""Combine-KD."""

from itertools import chain

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder
from torch.nn.functional import normalize

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.ckd import CkdConfig, combined_loss, grouped


@pytest.mark.parametrize(
    ("strategy", "groups"),
    [
        ("regular", [[1, 2, 3], [4, 5, 6]]),
        ("overlap", [[1, 2, 3, 4], [3, 4, 5, 6]]),
        ("skip_middle", [[1, 2], [5, 6]]),
        ("cross", [[1, 3], [4, 6]]),
        ("skip_comb", [[1, 3, 5], [2, 4, 6]]),
    ],
)
def test_two_layers_and_six_are_grouped_as_in_the_paper(strategy, groups):
    assert grouped(strategy, range(1, 7), 2) == groups


@pytest.mark.parametrize(
    ("strategy", "groups"),
    [
        ("regular", [[1, 2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]),
        ("overlap", [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, 10], [9, 10, 11]]),
        ("skip_middle", [[1, 2], [3, 4], [8, 9], [10], [11]]),
        ("cross", [[1, 3], [4], [6], [8], [10]]),
        ("skip_comb", [[1, 6, 11], [2, 7], [3, 8], [4, 9], [5, 10]]),
    ],
)
def test_the_intermediate_layers_of_twelve_in_five_groups(strategy, groups):
    assert grouped(strategy, range(1, 12), 5) == groups


@pytest.mark.parametrize("num_layers", range(1, 25))
@pytest.mark.parametrize("num_groups", range(1, 7))
def test_groups_partition_the_layers_evenly_for_all_sizes(num_layers, num_groups):
    layers = range(1, num_layers + 1)

    for strategy in ("regular", "skip_comb"):
        groups = grouped(strategy, layers, num_groups)
        assert len(groups) == num_groups
        assert sorted(chain(*groups)) == list(layers)
        assert max(map(len, groups)) - min(map(len, groups)) <= 1
    without_middle = list(chain(*grouped("skip_middle", layers, num_groups)))
    assert len(without_middle) == num_layers - num_layers // 3
    assert without_middle == sorted(set(without_middle))
    regular = grouped("regular", layers, num_groups)
    for run, wider, thinner in zip(
        regular,
        grouped("overlap", layers, num_groups),
        grouped("cross", layers, num_groups),
        strict=True,
    ):
        assert set(thinner) <= set(run) <= set(wider) <= set(layers)
        assert len(wider) <= len(run) + 2


STUDENT = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[2.0, 0.0], [8.0, 8.0]]])
TEACHER = torch.tensor([[[0.0, 5.0], [0.0, 3.0]], [[-1.0, 0.0], [7.0, 0.0]]])
MASK = torch.tensor([[1, 1], [1, 0]])


def test_the_combined_loss_by_hand():
    # First row: 0.4 for (0.6, 0.8) and (0, 1), 2 for (1, 0) and (0, 1); second: opposite, 4.
    assert combined_loss(STUDENT, TEACHER, MASK).item() == pytest.approx((1.2 + 4) / 2, rel=1e-6)


def test_the_combined_loss_ignores_padding_and_vector_norms():
    other, long = STUDENT.clone(), 9 * STUDENT
    other[1, 1] = torch.tensor([-100.0, 3.0])
    expected = combined_loss(STUDENT, TEACHER, MASK)

    assert torch.equal(combined_loss(other, TEACHER, MASK), expected)
    torch.testing.assert_close(combined_loss(long, TEACHER, MASK), expected)


def test_the_gradient_of_the_combined_loss():
    student = STUDENT.double().requires_grad_(True)

    assert torch.autograd.gradcheck(
        lambda vectors: combined_loss(vectors, TEACHER.double(), MASK), student
    )


@pytest.mark.parametrize("tokens", ["all", "cls"])
@pytest.mark.parametrize(
    ("grouping", "include_last", "groups"),
    [
        ("regular", False, {1: [1, 2], 2: [3, 4]}),
        ("regular", True, {1: [1, 2], 2: [3, 4], 3: [5]}),
        ({2: (4, 1), 1: (5,)}, False, {1: [5], 2: [4, 1]}),
    ],
)
def test_each_layer_is_projected_to_its_group_and_compared(tokens, grouping, include_last, groups):
    student = tiny_encoder(num_layers=3, hidden_size=12, seed=1)
    teacher = tiny_encoder(num_layers=5, hidden_size=24, seed=2).eval()
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student_states = student(*inputs, layers=range(1, 4)).hidden_states
    teacher_states = teacher(*inputs, layers=range(1, 6)).hidden_states
    config = CkdConfig(grouping=grouping, include_last=include_last, tokens=tokens)

    objective = build(config, student, teacher)

    expected = 0.0
    for projection, (layer, group) in zip(objective.projections, groups.items(), strict=True):
        assert (projection.in_features, projection.out_features) == (12, 24 * len(group))
        for row, mask in enumerate(batch["attention_mask"]):
            num_tokens = 1 if tokens == "cls" else int(mask.sum())
            for token in range(num_tokens):
                target = torch.cat([teacher_states[source][row, token] for source in group])
                ours, theirs = projection(student_states[layer][row, token]), target
                distance = normalize(ours, dim=0) - normalize(theirs, dim=0)
                expected += (distance @ distance).item() / num_tokens / 4
    assert objective(batch).parts["layers"].item() == pytest.approx(expected, rel=1e-5)
    assert objective.student_layers == list(groups)
    assert objective.teacher_layers == sorted(chain(*groups.values()))


@pytest.mark.parametrize(
    ("grouping", "message"),
    [
        ("regular", "ckd: grouping 'regular' cannot give each of 3 student layers one"),
        ({4: (1,), 5: (1,)}, "ckd: grouping names layer 5 of the student, which has 4"),
        ({1: (1, 4)}, "ckd: grouping names layer 4 of the teacher, which has 3"),
        ({}, "ckd: grouping is empty"),
    ],
)
def test_impossible_groups_are_refused(grouping, message):
    student, teacher = tiny_encoder(num_layers=4), tiny_encoder(num_layers=3)

    with pytest.raises(InputError, match=message):
        build(CkdConfig(grouping=grouping), student, teacher)


def test_equal_layers_are_equal_at_first_unless_maps_are_random():
    teacher, same = (tiny_encoder(num_layers=3, seed=1).eval() for _ in range(2))

    def first_loss(first_maps):
        config = CkdConfig(grouping={1: (1,), 2: (2,)}, first_maps=first_maps)
        return build(config, same, teacher).eval()(tiny_batch()).parts["layers"].item()

    assert first_loss("equal") == pytest.approx(0, abs=1e-9)
    assert first_loss("random") > 0.5
    # Each part of a longer group begins as the student's vector.
    objective = build(CkdConfig(grouping={1: (1, 2)}), same, teacher)
    (projection,) = objective.projections
    vector = torch.arange(projection.in_features, dtype=torch.float32)
    torch.testing.assert_close(projection(vector), torch.cat([vector, vector]))
