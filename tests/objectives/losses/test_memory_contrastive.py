"""Contrastive losses with a memory, by hand and against naive loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from raykd.objectives.base import Epoch
from raykd.objectives.losses.memory_bank import (
    Bank,
    OtherRows,
    Queue,
    random_numbers,
    random_vectors,
)
from raykd.objectives.losses.memory_contrastive import (
    BankContrast,
    NceContrast,
    QueueContrast,
    infonce_loss,
    nce_loss,
)

LABELS = torch.tensor([0.0, 1, 2, 0, 1, 2, 0, 0])
ROWS = torch.tensor([6, 1, 4])
WIDTH, TAU = 5, 0.3


def other_rows(num_draws: int = 3) -> OtherRows:
    others = OtherRows(LABELS, 0.0, num_draws)
    others.start_epoch(Epoch(seed=1, number=1, total=1))
    return others


def bank(seed: int) -> Bank:
    return Bank(random_vectors(len(LABELS), WIDTH, random_numbers(seed, 0)), 0.5)


def unit_vectors(seed: int, num_rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(num_rows, WIDTH, generator=generator), dim=-1)


def dot(first: torch.Tensor, second: torch.Tensor) -> float:
    return sum(x * y for x, y in zip(first.tolist(), second.tolist(), strict=True))


def test_infonce_by_hand():
    # Row 1: -log(e / (e + 1 + 1)) = log(1 + 2 / e). Row 2: its positive is the only candidate.
    cosines = torch.tensor([[0.5, 0.0, 0.0], [0.3, -math.inf, -math.inf]])

    loss = infonce_loss(cosines, 0.5)

    assert loss.item() == pytest.approx(math.log(1 + 2 / math.e) / 2)


def test_nce_by_hand():
    # K = 2 and N = 4: the noise is 1/2. With Z = 2, P_0 = e^(ln 3) / 2 = 3/2 and P_1 = P_2 = 1/2:
    # -log(1.5 / 2) - 2 log(0.5 / 1) = log(4/3) + 2 log 2.
    cosines = torch.tensor([[math.log(3) / 2, 0.0, 0.0]])

    loss = nce_loss(cosines, torch.tensor(2.0), num_rows=4, temperature=0.5)

    assert loss.item() == pytest.approx(math.log(4 / 3) + 2 * math.log(2), abs=1e-5)


def test_nce_has_the_epsilons_of_the_authors_code():
    scores = torch.tensor([[0.5, -0.2, 0.9], [0.1, 0.3, -0.4]], dtype=torch.float64)
    num_rows, normalizer = 400_000, 7e5
    expected = 0.0
    for row in scores.tolist():
        probabilities = [math.exp(score / TAU) / normalizer for score in row]
        noise = 2 / num_rows
        expected -= math.log(probabilities[0] / (probabilities[0] + noise + 1e-7)) / 2
        for probability in probabilities[1:]:
            expected -= math.log(noise / (probability + noise + 1e-7)) / 2

    loss = nce_loss(scores, torch.tensor(normalizer, dtype=torch.float64), num_rows, TAU)

    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_gradients_without_a_memory_equal_finite_differences():
    cosines = torch.rand(3, 5, dtype=torch.float64).requires_grad_()
    normalizer = torch.tensor(9.0, dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda x: infonce_loss(x, TAU), cosines)
    assert torch.autograd.gradcheck(lambda x: nce_loss(x, normalizer, 30, TAU), cosines)


def test_infonce_takes_its_negatives_from_the_bank():
    others, memory = other_rows(), bank(1)
    old, drawn = memory.vectors.clone(), others.draw(ROWS)
    student, teacher = unit_vectors(3), unit_vectors(4)
    expected = 0.0
    for row in range(3):
        positive = math.exp(dot(teacher[row], student[row]) / TAU)
        negatives = [math.exp(dot(teacher[row], old[other]) / TAU) for other in drawn[row]]
        expected -= math.log(positive / (positive + sum(negatives))) / 3

    loss, num_candidates = BankContrast(memory, others, TAU)(student, teacher, ROWS)

    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert num_candidates.item() == 4


def test_nce_uses_both_anchors_and_the_first_batchs_normalizers():
    others, student_bank, teacher_bank = other_rows(), bank(1), bank(2)
    contrast = NceContrast(student_bank, teacher_bank, others, TAU)
    normalizers = None
    for step in range(2):
        memories = (teacher_bank.vectors.clone(), student_bank.vectors.clone())
        student, teacher = unit_vectors(step), unit_vectors(10 + step)
        candidates = [
            [row, *drawn]
            for row, drawn in zip(ROWS.tolist(), others.draw(ROWS).tolist(), strict=True)
        ]
        scores = [
            [
                [math.exp(dot(vector, memory[other]) / TAU) for other in row]
                for vector, row in zip(vectors, candidates, strict=True)
            ]
            for vectors, memory in zip((student, teacher), memories, strict=True)
        ]
        # 3 rows with 1 + 3 candidates each, 8 rows in all.
        normalizers = normalizers or [sum(map(sum, rows)) / 12 * 8 for rows in scores]
        expected, noise = 0.0, 3 / 8
        for rows, normalizer in zip(scores, normalizers, strict=True):
            for positive, *negatives in rows:
                probability = positive / normalizer
                expected -= math.log(probability / (probability + noise)) / 6
                for negative in negatives:
                    expected -= math.log(noise / (negative / normalizer + noise)) / 6

        loss, num_candidates = contrast(student, teacher, ROWS)

        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert contrast.normalizers.tolist() == pytest.approx(normalizers, rel=1e-5)
        assert num_candidates.item() == 4
    assert {"student.vectors", "teacher.vectors", "normalizers"} == set(contrast.state_dict())


def test_negatives_from_a_queue_exclude_the_rows_own_vectors():
    initial = random_vectors(4, WIDTH, random_numbers(1, 0))
    contrast = QueueContrast(Queue(initial.clone()), TAU)
    contrast(unit_vectors(1, 2), unit_vectors(2, 2), torch.tensor([1, 9]))
    # The queue now contains the last two initial vectors and those of rows 1 and 9.
    queue = torch.cat([initial[2:], unit_vectors(1, 2)])
    student, teacher = unit_vectors(3), unit_vectors(4)
    expected = 0.0
    for row, row_id in enumerate(ROWS.tolist()):
        positive = math.exp(dot(teacher[row], student[row]) / TAU)
        total = positive + sum(
            math.exp(dot(teacher[row], vector) / TAU)
            for vector, queued_row in zip(queue, (-1, -1, 1, 9), strict=True)
            if queued_row != row_id
        )
        expected -= math.log(positive / total) / 3

    loss, num_candidates = contrast(student, teacher, ROWS)

    assert loss.item() == pytest.approx(expected, rel=1e-5)
    # Rows 6 and 4 have 5 candidates, row 1 has 4.
    assert num_candidates.item() == pytest.approx(14 / 3)
    assert contrast.student.row_ids.tolist() == [9, 1, 4, 6]


@pytest.mark.parametrize("kind", ["bank", "nce", "queue"])
def test_the_memory_receives_the_batchs_vectors_and_no_gradient(kind):
    others, student_bank = other_rows(), bank(1)
    contrast = {
        "bank": lambda: BankContrast(student_bank, others, TAU),
        "nce": lambda: NceContrast(student_bank, bank(2), others, TAU),
        "queue": lambda: QueueContrast(Queue(random_vectors(6, WIDTH, random_numbers(1, 0))), TAU),
    }[kind]()
    before = {name: value.clone() for name, value in contrast.state_dict().items()}
    student = unit_vectors(3).requires_grad_()

    for _ in range(2):
        loss, _ = contrast(student, unit_vectors(4), ROWS)
        loss.backward()

    untouched = [row for row in range(8) if row not in ROWS]
    for name, value in contrast.state_dict().items():
        assert not value.requires_grad
        if kind != "queue" and name.endswith("vectors"):
            torch.testing.assert_close(value[ROWS].norm(dim=1), torch.ones(3))
            assert not torch.isclose(value[ROWS], before[name][ROWS]).all(1).any()
            assert torch.equal(value[untouched], before[name][untouched])
    assert student.grad.abs().sum() > 0
