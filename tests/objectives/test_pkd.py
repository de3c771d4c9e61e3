"""BERT-PKD."""

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder
from torch import nn
from torch.nn.functional import normalize

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.losses.similarity import mean_pairwise_cosine
from raykd.objectives.pkd import PkdConfig, patience_loss


@pytest.mark.parametrize(
    ("normalize", "reduction", "expected"),
    [
        # Unit vectors (0.6, 0.8) and (0, 1): 0.36 + 0.04; (1, 0) and (0, 1): 1 + 1.
        (True, "sum_dim", 2.4),
        (True, "mean", 0.6),
        # (3, -1): 10; (1, -2): 5.
        (False, "sum_dim", 15.0),
        (False, "mean", 3.75),
    ],
)
def test_the_patience_loss_by_hand(normalize, reduction, expected):
    student = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
    teacher = torch.tensor([[[0.0, 5.0], [0.0, 2.0]]])

    loss = patience_loss(student, teacher, normalize=normalize, reduction=reduction)

    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_sum_reduction_is_layers_times_width_times_the_mean(normalize):
    student, teacher = torch.randn(2, 6, 5, 768, generator=torch.Generator().manual_seed(0))

    mean, sum_dim = (
        patience_loss(student, teacher, normalize=normalize, reduction=reduction)
        for reduction in ("mean", "sum_dim")
    )

    torch.testing.assert_close(sum_dim, 5 * 768 * mean)
    # The published weight of 100 for the mean, converted to the sum.
    assert (100 * mean / sum_dim).item() == pytest.approx(0.026, abs=1e-4)


def test_vector_norms_matter_only_without_normalization():
    vectors = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))

    assert patience_loss(vectors, 7 * vectors, normalize=True, reduction="mean") < 1e-12
    assert patience_loss(vectors, 7 * vectors, normalize=False, reduction="mean") > 1


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum_dim"])
def test_the_gradient_of_the_patience_loss(normalize, reduction):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 2, 4, dtype=torch.float64, generator=generator)

    assert torch.autograd.gradcheck(
        lambda vectors: patience_loss(vectors, teacher, normalize=normalize, reduction=reduction),
        student.requires_grad_(True),
    )


@pytest.mark.parametrize(
    ("layer_map", "pairs"),
    [("skip", [(1, 2), (2, 4)]), ("last", [(1, 4), (2, 5)]), ({3: 1}, [(3, 1)])],
)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_of_mapped_layers_are_compared(layer_map, pairs, pooling):
    student = tiny_encoder(num_layers=3, hidden_size=24, seed=1)
    teacher = tiny_encoder(num_layers=6, hidden_size=24, seed=2).eval()
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student_states = student(*inputs, layers=[1, 2, 3]).hidden_states
    teacher_states = teacher(*inputs, layers=range(1, 7)).hidden_states

    objective = build(PkdConfig(layer_map=layer_map, pooling=pooling), student, teacher)

    def vectors(states):
        if pooling == "cls":
            return states[:, 0]
        rows = zip(states, batch["attention_mask"].bool(), strict=True)
        return torch.stack([row[mask].mean(0) for row, mask in rows])

    assert list(zip(objective.student_layers, objective.teacher_layers, strict=True)) == pairs
    squares = [
        (
            normalize(vectors(student_states[i]), dim=-1)
            - normalize(vectors(teacher_states[j]), dim=-1)
        )
        ** 2
        for i, j in pairs
    ]
    terms = objective(batch)
    torch.testing.assert_close(terms.parts["layers"], torch.stack(squares).mean().detach())
    cosines = [mean_pairwise_cosine(vectors(teacher_states[j])) for _, j in pairs]
    assert terms.measures["teacher_cosine"].item() == pytest.approx(
        torch.stack(cosines).mean().item(), rel=1e-4
    )
    assert not [name for name, _ in objective.named_parameters() if "projection" in name]


def test_narrower_students_have_one_linear_map_per_layer():
    student = tiny_encoder(num_layers=3, hidden_size=12, seed=1)
    teacher = tiny_encoder(num_layers=6, hidden_size=24, seed=2).eval()
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student_states = student(*inputs, layers=[1, 2]).hidden_states
    teacher_states = teacher(*inputs, layers=[2, 4]).hidden_states

    objective = build(PkdConfig(normalize=False), student, teacher)

    first, second = objective.projections
    assert isinstance(first, nn.Linear)
    assert (first.in_features, first.out_features) == (12, 24)
    squares = [
        (first(student_states[1][:, 0]) - teacher_states[2][:, 0]) ** 2,
        (second(student_states[2][:, 0]) - teacher_states[4][:, 0]) ** 2,
    ]
    torch.testing.assert_close(
        objective(batch).parts["layers"], torch.stack(squares).mean().detach()
    )


def test_the_loss_of_a_copy_of_the_teacher_is_zero():
    student, teacher = tiny_encoder(num_layers=3, seed=1), tiny_encoder(num_layers=3, seed=1)

    terms = build(PkdConfig(), student, teacher)(tiny_batch())

    assert terms.parts["layers"].item() == pytest.approx(0, abs=1e-9)
    assert terms.parts["logits"].item() == pytest.approx(0, abs=1e-5)


def test_a_map_to_layers_beyond_the_teachers_is_refused():
    student, teacher = tiny_encoder(num_layers=2), tiny_encoder(num_layers=3)

    with pytest.raises(InputError, match="pkd: layer_map names layer 4 of the teacher"):
        build(PkdConfig(layer_map={1: 4}), student, teacher)


def test_default_weights_are_those_of_the_authors_for_two_classes():
    # Their alpha of 0.7 multiplies a divergence that is averaged over the classes.
    config = PkdConfig()
    assert (config.task_weight, config.logit_weight) == (0.3, 0.7 / 2)
    assert (config.layer_weight, config.temperature) == (500, 10)
