"""RAIL-KD."""

from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_models import tiny_batch, tiny_encoder
from torch.nn.functional import normalize

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.base import Epoch
from raykd.objectives.losses.projections import Projection
from raykd.objectives.losses.similarity import mean_pairwise_cosine
from raykd.objectives.rail_kd import (
    RailKdConfig,
    draw_layers,
    rail_loss,
)


def make(config=None, *, num_layers: int = 3, num_teacher_layers: int = 7):
    student = tiny_encoder(num_layers=num_layers, hidden_size=12, seed=1)
    teacher = tiny_encoder(num_layers=num_teacher_layers, hidden_size=24, seed=2)
    torch.manual_seed(4)
    objective = build(config or RailKdConfig(projection_size=6), student, teacher).train()
    objective.start_epoch(Epoch(seed=1, number=1, total=9))
    return objective


@pytest.mark.parametrize(("num_drawn", "num_layers"), [(5, 11), (5, 23), (2, 2), (1, 1)])
def test_drawn_layers_are_distinct_intermediate_layers_in_order(num_drawn, num_layers):
    for number in range(1, 100):
        drawn = draw_layers(Epoch(seed=3, number=number, total=99), num_drawn, num_layers)
        assert len(drawn) == num_drawn
        assert drawn == sorted(set(drawn))
        assert set(drawn) <= set(range(1, num_layers + 1))


def test_draws_differ_across_epochs_and_seeds():
    def draws(seed):
        return [draw_layers(Epoch(seed, number, 20), 5, 11) for number in range(1, 21)]

    assert len({tuple(drawn) for drawn in draws(1)}) > 15
    assert draws(1) != draws(2)


def test_every_set_of_layers_is_drawn_equally_often():
    num_epochs = 6000
    counts = Counter(
        tuple(draw_layers(Epoch(0, number, num_epochs), 2, 4))
        for number in range(1, num_epochs + 1)
    )

    # Six pairs of four layers: 1000 times each, standard deviation 29.
    assert len(counts) == 6
    assert all(abs(count - 1000) < 120 for count in counts.values())


def test_the_draw_is_the_same_on_all_workers_and_after_a_resume():
    first_worker, second_worker = make(), make()
    drawn = []
    for number in range(1, 8):
        first_worker.start_epoch(Epoch(seed=5, number=number, total=9))
        drawn.append(first_worker.teacher_layers)
        # Another worker with its own random state that starts at this epoch.
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        second_worker.start_epoch(Epoch(seed=5, number=number, total=9))
        assert second_worker.teacher_layers == first_worker.teacher_layers
    resumed = make()
    resumed.start_epoch(Epoch(seed=5, number=7, total=9))
    assert resumed.teacher_layers == drawn[-1]
    assert len({tuple(layers) for layers in drawn}) > 1


def test_the_drawn_layers_are_logged():
    objective = make()

    measures = objective(tiny_batch()).measures

    assert [measures[f"teacher_layer_{layer}"].item() for layer in (1, 2)] == list(
        objective.teacher_layers
    )


def test_the_loss_by_hand():
    # Cosine 0.8: 2 - 1.6; opposite: 4; the same direction: 0; right angle: 2.
    student = torch.tensor([[[3.0, 4.0], [2.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]]])
    teacher = torch.tensor([[[0.0, 5.0], [-1.0, 0.0]], [[3.0, 3.0], [0.0, 7.0]]])

    ones = torch.ones(2)
    assert rail_loss(student, teacher, ones).item() == pytest.approx((4.4 + 2) / 2, rel=1e-6)
    weights = torch.tensor([3.0, 0.5])
    expected = (3 * 0.4 + 0.5 * 4 + 0.5 * 2) / 2
    assert rail_loss(student, teacher, weights).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 2, 4, dtype=torch.float64, generator=generator)

    weights = torch.tensor([1.0, 0.3], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        rail_loss, (student.requires_grad_(True), teacher.requires_grad_(True), weights)
    )


@pytest.mark.parametrize(
    ("variant", "projections"),
    [("layer_wise", "shared"), ("layer_wise", "per_slot"), ("concatenated", "shared")],
)
def test_the_loss_of_two_models_equals_a_loop_over_rows(variant, projections):
    config = RailKdConfig(variant=variant, projections=projections, projection_size=6)
    objective, batch = make(config), tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student_states = objective.student(*inputs, layers=[1, 2]).hidden_states
    teacher_states = objective.teacher(*inputs, layers=objective.teacher_layers).hidden_states
    ours, theirs = objective.student_projection.weight, objective.teacher_projection.weight
    num_maps = 2 if projections == "per_slot" else 1
    joined = 2 if variant == "concatenated" else 1
    assert ours.shape == (num_maps, 6, joined * 12)
    assert theirs.shape == (num_maps, 6, joined * 24)

    terms = objective(batch)

    expected, targets = 0.0, [[], []]
    for row, mask in enumerate(batch["attention_mask"].bool()):
        pairs = [
            (student_states[j][row][mask].mean(0), teacher_states[i][row][mask].mean(0))
            for j, i in zip((1, 2), objective.teacher_layers, strict=True)
        ]
        if variant == "concatenated":
            pairs = [tuple(torch.cat(vectors) for vectors in zip(*pairs, strict=True))]
        for slot, (s, t) in enumerate(pairs):
            map_index = slot if projections == "per_slot" else 0
            target = normalize(theirs[map_index] @ t, dim=0)
            targets[slot].append(target)
            expected += ((normalize(ours[map_index] @ s, dim=0) - target) ** 2).sum().item() / 4
    assert terms.parts["layers"].item() == pytest.approx(expected, rel=1e-5)
    cosines = [mean_pairwise_cosine(torch.stack(slot)).item() for slot in targets if slot]
    assert terms.measures["teacher_cosine"].item() == pytest.approx(np.mean(cosines), rel=1e-4)


@pytest.mark.parametrize("variant", ["layer_wise", "concatenated"])
def test_collapsed_maps_have_zero_loss_and_a_mean_cosine_of_one(variant):
    objective = make(RailKdConfig(variant=variant, projection_size=6))
    # Both maps give a vector's sum and zeros: layer normalization makes it 5 d for every text.
    for encoder in (objective.student, objective.teacher):
        for block in encoder.blocks():
            torch.nn.init.constant_(block.output.LayerNorm.bias, 5.0)
    before = objective(tiny_batch())
    with torch.no_grad():
        for projection in (objective.student_projection, objective.teacher_projection):
            projection.weight.zero_()[:, 0] = 1.0

    after = objective(tiny_batch())

    assert before.parts["layers"] > 0.1
    assert after.parts["layers"].item() == pytest.approx(0, abs=1e-9)
    assert after.measures["teacher_cosine"].item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("variant", ["layer_wise", "concatenated"])
def test_a_frozen_map_is_orthogonal_and_unchanged_by_training(variant):
    config = RailKdConfig(
        variant=variant, projection_size=6, teacher_projection="frozen_orthogonal"
    )
    objective = make(config)
    weight = objective.teacher_projection.weight
    before = weight.detach().clone()
    torch.testing.assert_close(before[0] @ before[0].T, torch.eye(6))
    (player,) = objective.players().values()
    optimizer = torch.optim.SGD(player.parameters, lr=0.1)

    objective(tiny_batch()).total.backward()
    optimizer.step()

    assert weight.grad is None
    assert not weight.requires_grad
    assert torch.equal(weight, before)
    assert objective.student_projection.weight.grad is not None


def test_each_slot_has_its_own_projection():
    torch.manual_seed(0)
    projection = Projection(3, 2, num_maps=2)
    vectors = torch.randn(4, 2, 3)

    mapped = projection(vectors)

    for slot in range(2):
        torch.testing.assert_close(mapped[:, slot], vectors[:, slot] @ projection.weight[slot].T)


def test_a_teacher_with_too_few_layers_is_refused():
    with pytest.raises(InputError, match="the student has 4 intermediate layers, the teacher only"):
        make(num_layers=5, num_teacher_layers=4)
    make(num_layers=4, num_teacher_layers=4)


def test_the_concatenated_variant_refuses_maps_per_slot():
    with pytest.raises(ValidationError, match="one map per network"):
        RailKdConfig(variant="concatenated", projections="per_slot")


def layer_vectors(objective, batch, pooling: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return projected vectors of student and teacher, (B, slots, u), with explicit pooling."""
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student_states = objective.student(*inputs, layers=[1, 2]).hidden_states
    teacher_states = objective.teacher(*inputs, layers=objective.teacher_layers).hidden_states
    mask = batch["attention_mask"][..., None]

    def one_vector(states):
        return states[:, 0] if pooling == "cls" else (states * mask).sum(1) / mask.sum(1)

    return (
        objective.student_projection(
            torch.stack([one_vector(student_states[j]) for j in (1, 2)], 1)
        ),
        objective.teacher_projection(
            torch.stack([one_vector(teacher_states[i]) for i in objective.teacher_layers], 1)
        ),
    )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_pair_weight_scales_its_distance_for_every_pooling(pooling):
    config = RailKdConfig(projection_size=6, pooling=pooling, pair_weights=[2.0, 0.25])
    objective, batch = make(config), tiny_batch()
    student, teacher = layer_vectors(objective, batch, pooling)
    distances = (normalize(student, dim=-1) - normalize(teacher, dim=-1)).square().sum(-1).mean(0)

    loss = objective(batch).parts["layers"]

    torch.testing.assert_close(loss, (2 * distances[0] + 0.25 * distances[1]).detach())


def test_contrastive_matching_compares_rows_per_layer_pair():
    config = RailKdConfig(
        projection_size=6, matching="contrastive", contrastive_temperature=0.5, pair_weights=[1, 3]
    )
    assert config.mixes_examples
    assert not RailKdConfig().mixes_examples
    objective, batch = make(config), tiny_batch()
    student, teacher = layer_vectors(objective, batch, "mean")
    expected = 0.0
    for slot, weight in enumerate((1, 3)):
        for row in range(4):
            cosines = torch.cosine_similarity(teacher[row, slot][None], student[:, slot])
            expected -= weight * (cosines / 0.5).log_softmax(0)[row].item() / 4

    terms = objective(batch)

    assert terms.parts["layers"].item() == pytest.approx(expected, rel=1e-5)
    assert terms.measures["num_candidates"].item() == 4
    terms.total.backward()
    assert objective.student_projection.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"total_weight": 1, "task_weight": 0.5}, "sum to 1.16667, but total_weight is 1"),
        ({"total_weight": 0}, "greater than 0"),
        ({"pair_weights": [1, 0]}, "greater than 0"),
        ({"variant": "concatenated", "pair_weights": [1]}, "pair_weights have no effect"),
    ],
)
def test_contradictory_weights_are_refused(values, problem):
    with pytest.raises(ValidationError, match=problem):
        RailKdConfig(**values)
    RailKdConfig(total_weight=1, task_weight=0.5, logit_weight=0.3, layer_weight=0.2)


def test_pair_weights_must_have_one_value_per_pair():
    with pytest.raises(InputError, match="pair_weights has 1 values, the student has 2 inter"):
        make(RailKdConfig(pair_weights=[1.0]))


def test_mean_pairwise_cosine_by_hand():
    # Cosines of the three pairs: 0, -1, 0.
    vectors = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])

    assert mean_pairwise_cosine(vectors).item() == pytest.approx(-1 / 3, abs=1e-6)
    assert mean_pairwise_cosine(vectors[:1]).item() == 0
    assert mean_pairwise_cosine(vectors[:1].expand(4, 2)).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("variant", ["layer_wise", "concatenated"])
@pytest.mark.parametrize("teacher_projection", ["trainable", "frozen_orthogonal"])
def test_equal_layers_are_equal_at_first_unless_maps_are_random(variant, teacher_projection):
    teacher = tiny_encoder(num_layers=3, seed=1).eval()
    same = tiny_encoder(num_layers=3, seed=1).eval()  # each layer is drawn, in order
    values = {"variant": variant, "teacher_projection": teacher_projection}

    def first_loss(first_maps):
        config = RailKdConfig(first_maps=first_maps, **values)
        objective = build(config, same, teacher).eval()
        objective.start_epoch(Epoch(1, 1, 1))
        return objective(tiny_batch()).parts["layers"].item()

    assert first_loss("equal") == pytest.approx(0, abs=1e-9)
    assert first_loss("random") > 0.5


def test_training_with_equal_first_maps_keeps_texts_apart():
    teacher = tiny_encoder(num_layers=4, seed=1).eval()

    def cosine_after_training(first_maps):
        student = tiny_encoder(num_layers=4, seed=1)
        config = RailKdConfig(first_maps=first_maps, teacher_projection="frozen_orthogonal")
        torch.manual_seed(1)
        objective = build(config, student, teacher)
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        objective.start_epoch(Epoch(1, 1, 1))
        batch = tiny_batch()
        for _ in range(40):
            optimizer.zero_grad()
            objective(batch).total.backward()
            optimizer.step()
        inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
        states = student.eval()(*inputs, layers=[3]).hidden_states[3]
        rows = zip(states, batch["attention_mask"].bool(), strict=True)
        return mean_pairwise_cosine(torch.stack([row[mask].mean(0) for row, mask in rows])).item()

    assert cosine_after_training("equal") < cosine_after_training("random")
