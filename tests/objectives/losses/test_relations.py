"""The relation loss and its gradient: values by hand, naive implementations, invariants."""

import math

import pytest
import torch
import torch.nn.functional as F
from oracle_relations import relation_loss as slow_relation_loss
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from raykd.objectives.losses import relations
from raykd.objectives.losses.relations import relation_loss

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


def vectors(width: int, seed: int, shape: tuple[int, int] = (3, 5)) -> Tensor:
    return torch.randn(*shape, width, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths: list[int], width: int) -> Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def loss_by_autograd(student: Tensor, teacher: Tensor, mask: Tensor, num_heads: int) -> Tensor:
    """Return the loss by its formula per row without padding, differentiable by autograd."""
    losses = []
    for row, is_token in enumerate(mask.bool()):
        p, q = (_relations(part[row, is_token], num_heads) for part in (teacher, student))
        losses.append((p.exp() * (p - q)).sum(-1).mean())
    return torch.stack(losses).mean()


def _relations(row_vectors: Tensor, num_heads: int) -> Tensor:
    heads = row_vectors.view(len(row_vectors), num_heads, -1).transpose(0, 1)
    return F.log_softmax(heads @ heads.transpose(1, 2) / math.sqrt(heads.size(-1)), dim=-1)


def test_relation_loss_by_hand():
    # One head of width 1, two tokens. Teacher (0, 0): uniform relations. Student (1, 0): token 1
    # has softmax(1, 0), token 2 softmax(0, 0). KL of token 1 = ln(1 + e) - ln 2 - 1/2 = 0.120115.
    student = torch.tensor([[[1.0], [0.0]]])

    loss = relation_loss(student, torch.zeros(1, 2, 1), torch.ones(1, 2), num_heads=1)

    assert loss.item() == pytest.approx(0.120115 / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("student_width", "teacher_width", "num_heads"),
    [(12, 12, 1), (12, 24, 3), (24, 12, 12), (6, 18, 2)],
)
def test_relation_loss_equals_the_loop_over_cropped_rows(student_width, teacher_width, num_heads):
    student, teacher = vectors(student_width, 1), vectors(teacher_width, 2)

    loss = relation_loss(student, teacher, MASK, num_heads)

    expected = slow_relation_loss(student, teacher, MASK, num_heads)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_relation_loss_ignores_values_on_padding():
    student, teacher = vectors(12, 1), vectors(24, 2)
    noisy = torch.where(MASK[..., None] == 1, student, 100.0).requires_grad_()

    loss = relation_loss(noisy, teacher, MASK, num_heads=3)
    loss.backward()

    assert torch.equal(loss, relation_loss(student, teacher, MASK, num_heads=3))
    assert torch.isfinite(noisy.grad).all()
    assert (noisy.grad[MASK == 0] == 0).all()


def test_the_relation_loss_is_invariant_to_rotation_within_a_head():
    student, teacher = vectors(12, 1), vectors(12, 2)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))
    rotated = (student.view(3, 5, 3, 4) @ rotation).reshape(3, 5, 12)

    loss = relation_loss(student, teacher, MASK, num_heads=3)

    torch.testing.assert_close(relation_loss(rotated, teacher, MASK, num_heads=3), loss)
    across_heads = relation_loss(rotated, teacher, MASK, num_heads=6)
    assert not torch.isclose(across_heads, relation_loss(student, teacher, MASK, num_heads=6))


def test_the_relation_loss_of_equal_vectors_and_its_gradient_are_zero():
    student = vectors(12, 1).requires_grad_()

    loss = relation_loss(student, student.detach(), MASK, num_heads=3)
    loss.backward()

    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert student.grad.abs().max() < 1e-6


def test_a_row_with_only_padding_gives_no_nan():
    loss = relation_loss(vectors(12, 1), vectors(12, 2), torch.zeros(3, 5), num_heads=3)

    assert loss.item() == 0


@pytest.fixture(params=["cache", "one matrix", "uncut"])
def sizes(request, monkeypatch):
    """Chunk sizes as on a CPU, of one matrix, and of padded rows of one width as on a GPU."""
    if request.param == "one matrix":
        monkeypatch.setattr(relations, "_CPU_BYTES", 1)
    if request.param == "uncut":
        monkeypatch.setattr(
            relations,
            "_parts",
            lambda mask, num_heads: [
                (slice(first, first + 2), mask.size(1)) for first in range(0, len(mask), 2)
            ],
        )


LENGTHS = [[1, 1, 1], [7, 7, 7, 7], [20, 1, 3, 11, 2], [1]]


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("lengths", LENGTHS)
def test_loss_and_gradient_equal_the_formula_under_autograd(lengths):
    shape, mask = (len(lengths), 20), mask_of(lengths, 20)
    student = vectors(12, 1, shape).double().requires_grad_()
    teacher = vectors(24, 2, shape).double()

    loss = relation_loss(student, teacher, mask, num_heads=3)
    (gradient,) = torch.autograd.grad(3 * loss, student)

    expected = loss_by_autograd(student, teacher, mask, num_heads=3)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(3 * expected, student)[0])
    assert loss.item() == pytest.approx(slow_relation_loss(student.detach(), teacher, mask, 3))
    assert (gradient[mask == 0] == 0).all()


@pytest.mark.usefixtures("sizes")
def test_the_gradient_equals_finite_differences():
    student, teacher = vectors(6, 1).double().requires_grad_(), vectors(12, 2).double()

    assert torch.autograd.gradcheck(lambda s: relation_loss(s, teacher, MASK, 2), student)


def test_float32_is_close_to_float64():
    lengths = [90, 128, 3, 64]
    mask, shape = mask_of(lengths, 128), (4, 128)
    student, teacher = vectors(96, 1, shape).requires_grad_(), vectors(192, 2, shape)

    loss = relation_loss(student, teacher, mask, num_heads=12)
    (gradient,) = torch.autograd.grad(loss, student)

    exact = student.detach().double().requires_grad_()
    expected = loss_by_autograd(exact, teacher.double(), mask, num_heads=12)
    (slopes,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), slopes, rtol=1e-4, atol=1e-8)


@pytest.mark.usefixtures("sizes")
def test_a_single_token_gives_zero_loss_and_gradient():
    student = vectors(12, 1, (4, 1)).requires_grad_()

    loss = relation_loss(student, vectors(24, 2, (4, 1)), torch.ones(4, 1), num_heads=3)
    loss.backward()

    assert loss.item() == 0
    assert (student.grad == 0).all()


def test_wider_padding_changes_neither_loss_nor_gradient():
    results = []
    for extra in (0, 7):
        pads = (0, 0, 0, extra)
        student = F.pad(vectors(12, 1), pads, value=9.0).requires_grad_()
        teacher = F.pad(vectors(24, 2), pads, value=-9.0)
        loss = relation_loss(student, teacher, F.pad(MASK, (0, extra)), num_heads=3)
        results.append((loss, torch.autograd.grad(loss, student)[0][:, :5]))

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.usefixtures("sizes")
def test_padding_may_be_at_any_position():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0]])
    student, teacher = vectors(12, 1).double().requires_grad_(), vectors(24, 2).double()

    loss = relation_loss(student, teacher, mask, num_heads=3)

    expected = loss_by_autograd(student, teacher, mask, num_heads=3)
    gradients = [torch.autograd.grad(value, student)[0] for value in (loss, expected)]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*gradients)


def test_only_a_cpu_is_synchronized_with_the_host(monkeypatch):
    # On this device, reading a value on the host is an error.
    student, teacher = (vectors(12, seed).to("meta") for seed in (1, 2))
    monkeypatch.setattr(relations, "_GPU_BYTES", 2 * 4 * 3 * 5**2)

    # Without `relation_loss`, because the device has no autocast to switch off.
    loss = relations._RelationLoss.apply(student.requires_grad_(), teacher, MASK.to("meta"), 3)
    loss.backward()

    assert student.grad.shape == student.shape


class _Largest(TorchDispatchMode):
    """Mode that records the bytes of the largest tensor created in the block."""

    num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        created = func(*args, **(kwargs or {}))
        for tensor in created if isinstance(created, tuple | list) else (created,):
            # A view counts as much as its base, an expanded one more.
            if isinstance(tensor, Tensor) and tensor.is_contiguous():
                self.num_bytes = max(self.num_bytes, tensor.nbytes)
        return created


def test_memory_does_not_grow_with_rows_times_heads_times_length_squared():
    num_rows, num_tokens, num_heads = 24, 100, 16
    shape, saved_bytes = (num_rows, num_tokens), []
    student, teacher = vectors(32, 1, shape).requires_grad_(), vectors(32, 2, shape)
    mask = mask_of([num_tokens - row for row in range(num_rows)], num_tokens)

    with (
        torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved_bytes.append(t.nbytes), lambda t: t
        ),
        _Largest() as largest,
    ):
        relation_loss(student, teacher, mask, num_heads)

    assert largest.num_bytes <= max(relations._CPU_BYTES, student.nbytes)
    assert largest.num_bytes < 4 * num_rows * num_heads * num_tokens**2 / 40
    assert sum(saved_bytes) <= student.nbytes


def test_the_loss_is_computed_in_float32_under_autocast_and_its_gradient_has_the_vectors_format():
    student, teacher = vectors(24, 1), vectors(24, 2)
    narrow = student.bfloat16().requires_grad_()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = relation_loss(student, teacher, MASK, num_heads=3)
        narrow_loss = relation_loss(narrow, teacher.bfloat16(), MASK, num_heads=3)
    narrow_loss.backward()

    assert torch.equal(loss, relation_loss(student, teacher, MASK, num_heads=3))
    assert narrow_loss.dtype == torch.float32
    assert narrow.grad.dtype == torch.bfloat16
    torch.testing.assert_close(narrow_loss, loss, rtol=0.02, atol=0)
