"""ALP-KD."""

import math

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.alp_kd import AlpKdConfig, attention_over_layers, mixture_loss
from raykd.objectives.losses.similarity import mean_pairwise_cosine

LOG3 = math.log(3)
STUDENT = torch.tensor([[[1.0, 0.0]]])
TEACHER = torch.tensor([[[LOG3, 0.0], [0.0, 0.0]]])


def test_attention_by_hand():
    # The products are log 3 and 0, their exponentials 3 and 1.
    weights = attention_over_layers(STUDENT, TEACHER, "none")
    torch.testing.assert_close(weights, torch.tensor([[[0.75, 0.25]]]))

    weights = attention_over_layers(STUDENT, TEACHER, "sqrt_d")
    first = 3 ** (1 / math.sqrt(2))
    torch.testing.assert_close(weights, torch.tensor([[[first, 1.0]]]) / (first + 1))


def test_the_loss_of_a_mixture_by_hand():
    # The mixture is (0.75 log 3, 0); the mean is over two columns.
    loss = mixture_loss(STUDENT, TEACHER, torch.tensor([[[0.75, 0.25]]]))

    assert loss.item() == pytest.approx((1 - 0.75 * LOG3) ** 2 / 2, rel=1e-5)


def test_the_loss_is_summed_over_student_layers_and_averaged_over_rows():
    weights = torch.tensor([[[0.75, 0.25]]])
    single = mixture_loss(STUDENT, TEACHER, weights)

    twice = mixture_loss(STUDENT.expand(1, 2, 2), TEACHER, weights.expand(1, 2, 2))
    rows = mixture_loss(STUDENT.expand(3, 1, 2), TEACHER.expand(3, 2, 2), weights.expand(3, 1, 2))

    torch.testing.assert_close(twice, 2 * single)
    torch.testing.assert_close(rows, single)


def test_large_products_do_not_overflow():
    weights = attention_over_layers(1e4 * STUDENT, 1e4 * TEACHER, "none")

    assert weights.tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize("scale", ["none", "sqrt_d"])
def test_the_gradient_includes_the_attention_weights(scale):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator, requires_grad=True)

    def loss(ours, theirs):
        return mixture_loss(ours, theirs, attention_over_layers(ours, theirs, scale))

    assert torch.autograd.gradcheck(loss, (student, teacher))


@pytest.mark.parametrize("width", [12, 24])
@pytest.mark.parametrize(
    ("include_last", "student_layers", "teacher_layers"),
    [(False, [1, 2], [1, 2, 3, 4]), (True, [1, 2, 3], [1, 2, 3, 4, 5])],
)
def test_the_loss_of_two_models_equals_a_loop_over_rows(
    width, include_last, student_layers, teacher_layers
):
    student = tiny_encoder(num_layers=3, hidden_size=width, seed=1)
    teacher = tiny_encoder(num_layers=5, hidden_size=24, seed=2).eval()
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    student_states = student(*inputs, layers=student_layers).hidden_states
    teacher_states = teacher(*inputs, layers=teacher_layers).hidden_states
    config = AlpKdConfig(include_last=include_last, projection_size=6)

    objective = build(config, student, teacher)
    terms = objective(batch)

    ours = theirs = torch.eye(24)
    if width == 12:
        ours = objective.student_projection.weight[0]
        theirs = objective.teacher_projection.weight[0]
        assert ours.shape == (6, 12)
    expected, means = 0.0, {}
    for row in range(4):
        for j in student_layers:
            vector = ours @ student_states[j][row, 0]
            others = [theirs @ teacher_states[i][row, 0] for i in teacher_layers]
            weights = torch.stack([vector @ other for other in others]).softmax(0)
            mixture = sum(weight * other for weight, other in zip(weights, others, strict=True))
            expected += ((vector - mixture) ** 2).mean().item() / 4
            for i, weight in zip(teacher_layers, weights, strict=True):
                key = f"attention_{j}_{i}"
                means[key] = means.get(key, 0.0) + weight.item() / 4
    assert terms.parts["layers"].item() == pytest.approx(expected, rel=1e-5)
    attention = {name: value.item() for name, value in terms.measures.items()}
    assert attention.pop("teacher_cosine") <= 1
    assert attention == pytest.approx(means, rel=1e-4, abs=1e-7)
    assert objective.student_layers == student_layers
    assert objective.teacher_layers == teacher_layers
    assert sum(means.values()) == pytest.approx(len(student_layers), rel=1e-5)


def test_means_over_tokens_are_compared_if_set():
    student = tiny_encoder(num_layers=2, seed=1)
    teacher = tiny_encoder(num_layers=2, seed=2).eval()
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    masks = batch["attention_mask"].bool()

    terms = build(AlpKdConfig(pooling="mean"), student, teacher)(batch)

    # One intermediate layer of each: the mixture is the teacher's layer.
    ours, theirs = (
        torch.stack([row[mask].mean(0) for row, mask in zip(states[1], masks, strict=True)])
        for states in (model(*inputs, layers=[1]).hidden_states for model in (student, teacher))
    )
    assert terms.parts["layers"].item() == pytest.approx((ours - theirs).square().mean().item())
    assert terms.measures["teacher_cosine"].item() == pytest.approx(
        mean_pairwise_cosine(theirs).item(), rel=1e-4
    )


def test_models_of_equal_width_are_compared_without_maps():
    student, teacher = tiny_encoder(num_layers=3, seed=1), tiny_encoder(num_layers=5, seed=2)

    objective = build(AlpKdConfig(), student, teacher)

    assert not [name for name, _ in objective.named_parameters() if "projection" in name]


@pytest.mark.parametrize("choice", ["trainable", "frozen_orthogonal"])
def test_the_teachers_map_is_trained_only_if_set(choice):
    student = tiny_encoder(num_layers=3, hidden_size=12, seed=1)
    teacher = tiny_encoder(num_layers=5, hidden_size=24, seed=2)

    objective = build(AlpKdConfig(teacher_projection=choice), student, teacher)

    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert "student_projection.weight" in trained
    assert ("teacher_projection.weight" in trained) == (choice == "trainable")


def test_a_teacher_without_intermediate_layers_is_refused_unless_the_last_is_included():
    student, teacher = tiny_encoder(num_layers=2), tiny_encoder(num_layers=1)

    with pytest.raises(InputError, match="alp_kd: a teacher of one layer has no intermediate"):
        build(AlpKdConfig(), student, teacher)
    build(AlpKdConfig(include_last=True), student, teacher)
