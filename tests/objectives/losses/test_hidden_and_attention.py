"""Losses of hidden states and attention scores per token."""

import math

import pytest
import torch
from tiny_models import tiny_batch, tiny_encoder
from torch.nn.functional import pad

from raykd.errors import InputError
from raykd.models.families.layers import RelationVectors
from raykd.objectives.losses.hidden_and_attention import (
    TokenMaps,
    attention_loss,
    check_token_maps,
    hidden_loss,
)

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def vectors(width: int, seed: int, dtype: torch.dtype = torch.float32) -> RelationVectors:
    query, key = (random(2, 4, width, seed=10 * seed + part, dtype=dtype) for part in (0, 1))
    return RelationVectors(query, key, torch.full_like(query, torch.nan))


def padded(relations: RelationVectors, width: int) -> RelationVectors:
    return RelationVectors(*(pad(part, (0, 0, 0, width), value=9.0) for part in relations))


def test_hidden_loss_by_hand():
    # Row 1: tokens differ by (1, 1) and (3, 3): (1 + 9) / 2 = 5. Row 2: its one token by (2, 0): 2.
    student = torch.tensor([[[1.0, 1.0], [3.0, 3.0]], [[2.0, 0.0], [50.0, 50.0]]])
    mask = torch.tensor([[1, 1], [1, 0]])

    assert hidden_loss(student, torch.zeros(2, 2, 2), mask).item() == (5 + 2) / 2
    # The mean over all entries: (4 * (1 + 9) / 2 + 4 + 2 * 2500) / 8.
    everything = hidden_loss(student, torch.zeros(2, 2, 2), mask, mask_padding=False)
    assert everything.item() == (2 + 18 + 4 + 5000) / 8


def test_attention_loss_by_hand():
    # One head of width 4, so scores are halved. Teacher 0; student's query and key have one nonzero
    # entry at the same place: scores (2, 4; 6, 12) / 2 of row 1, squares 1, 4, 9, 36: mean 12.5.
    # Row 2 has one token: score 3 * 5 / 2, square 56.25.
    query = torch.zeros(2, 2, 4)
    key = torch.zeros(2, 2, 4)
    query[:, :, 0] = torch.tensor([[1.0, 3.0], [3.0, 7.0]])
    key[:, :, 0] = torch.tensor([[2.0, 4.0], [5.0, 7.0]])
    student, teacher = (RelationVectors(q, k, q) for q, k in ((query, key), (0 * query, 0 * key)))
    mask = torch.tensor([[1, 1], [1, 0]])

    assert attention_loss(student, teacher, mask, num_heads=1).item() == (12.5 + 56.25) / 2
    # The padding of row 2 as query of its token: 7 * 5 / 2, square 306.25; as key it is 0.
    everything = attention_loss(student, teacher, mask, num_heads=1, mask_padding=False)
    assert everything.item() == (50 + 56.25 + 306.25) / 8


@pytest.mark.parametrize(("student_width", "teacher_width", "num_heads"), [(6, 12, 3), (8, 8, 1)])
def test_attention_loss_equals_the_loop_over_cropped_rows(student_width, teacher_width, num_heads):
    student, teacher = vectors(student_width, 1), vectors(teacher_width, 2)
    by_row = []
    for row, length in enumerate(MASK.sum(1).tolist()):
        squares = []
        for head in range(num_heads):
            for query_token in range(length):
                for to in range(length):
                    scores = []
                    for relations, width in ((student, student_width), (teacher, teacher_width)):
                        size = width // num_heads
                        part = slice(head * size, (head + 1) * size)
                        product = (
                            relations.query[row, query_token, part] @ relations.key[row, to, part]
                        )
                        scores.append(product.item() / math.sqrt(size))
                    squares.append((scores[0] - scores[1]) ** 2)
        by_row.append(sum(squares) / len(squares))

    loss = attention_loss(student, teacher, MASK, num_heads)

    assert loss.item() == pytest.approx(sum(by_row) / 2, rel=1e-5)


def test_losses_ignore_padding():
    hidden = random(2, 4, 6, seed=1), random(2, 4, 6, seed=2)
    scores = vectors(6, 1), vectors(12, 2)
    wide_mask = pad(MASK, (0, 3))

    torch.testing.assert_close(
        hidden_loss(*(pad(h, (0, 0, 0, 3), value=torch.inf) for h in hidden), wide_mask),
        hidden_loss(*hidden, MASK),
    )
    torch.testing.assert_close(
        attention_loss(*(padded(r, 3) for r in scores), wide_mask, num_heads=2),
        attention_loss(*scores, MASK, num_heads=2),
    )


@pytest.mark.parametrize("mask_padding", [True, False])
def test_gradients_equal_finite_differences(mask_padding):
    hidden, other = (random(2, 4, 6, seed=seed, dtype=torch.float64) for seed in (1, 2))
    student, teacher = (vectors(6, seed, torch.float64) for seed in (1, 2))

    assert torch.autograd.gradcheck(
        lambda h: hidden_loss(h, other, MASK, mask_padding=mask_padding), hidden.requires_grad_()
    )
    assert torch.autograd.gradcheck(
        lambda q, k: attention_loss(
            RelationVectors(q, k, k), teacher, MASK, 2, mask_padding=mask_padding
        ),
        (student.query.requires_grad_(), student.key.requires_grad_()),
    )


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_scores_equal_those_of_the_models_attention(family):
    # The oracle uses the loss: the difference from a teacher whose scores are all 0.
    encoder = tiny_encoder(family, num_heads=3).eval()
    batch = tiny_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    relations = encoder(ids, mask, relation_layers=[2]).relation_vectors[2]
    query, key = (part.unflatten(-1, (3, 8)).transpose(1, 2) for part in relations[:2])
    scores = query @ key.transpose(-1, -2) / math.sqrt(8)
    encoder.model.set_attn_implementation("eager")
    attended = encoder.model(input_ids=ids, attention_mask=mask, output_attentions=True)

    expected = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(attended.attentions[1], expected)
    nothing = RelationVectors(*(torch.zeros_like(part) for part in relations))
    pairs = (mask[:, :, None] * mask[:, None, :])[:, None].expand_as(scores)
    by_row = [scores[row][pairs[row] == 1].square().mean() for row in range(len(mask))]
    loss = attention_loss(relations, nothing, mask, num_heads=3)
    torch.testing.assert_close(loss, torch.stack(by_row).mean())


def test_layers_are_paired_evenly_and_embeddings_with_embeddings():
    student, teacher = tiny_encoder(num_layers=2), tiny_encoder(num_layers=6)

    maps = TokenMaps(student, teacher)

    assert maps.of_student == {"layers": [0, 1, 2], "relation_layers": [1, 2]}
    assert maps.of_teacher == {"layers": [0, 3, 6], "relation_layers": [3, 6]}


def test_maps_are_shared_or_per_layer_and_absent_without_hidden_states():
    student, teacher = tiny_encoder(hidden_size=12), tiny_encoder(num_layers=4)

    assert len(TokenMaps(student, teacher).projections) == 1
    assert len(TokenMaps(student, teacher, projection="per_layer").projections) == 3
    for projection in ("shared", "per_layer"):
        maps = TokenMaps(student, teacher, hidden=False, projection=projection)
        assert not list(maps.parameters())
        assert maps.of_student == {"layers": [], "relation_layers": [1, 2]}


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            {"num_layers": 2},
            {"num_layers": 3},
            "the student's 2 layers do not divide the teacher's 3; give the student 1, 3 layers",
        ),
        ({"num_layers": 4}, {"num_layers": 2}, "give the student 1, 2 layers"),
        ({"num_heads": 2}, {"num_heads": 4}, "the student has 2 attention heads, the teacher 4"),
        ({"family": "deberta"}, {}, "of the student, a 'deberta-v2',.* relative positions"),
        ({}, {"family": "modernbert"}, "of the teacher, a 'modernbert',.* rotate query and key"),
    ],
)
def test_incompatible_models_are_refused_before_weights_are_loaded(student, teacher, message):
    with torch.device("meta"):
        models = tiny_encoder(**student), tiny_encoder(**teacher)

    with pytest.raises(InputError, match=f"^tinybert: .*{message}"):
        check_token_maps("tinybert", *models, attention=True)


def test_without_attention_scores_heads_and_families_may_differ():
    with torch.device("meta"):
        models = tiny_encoder("deberta", num_heads=2), tiny_encoder("modernbert", num_heads=4)

    check_token_maps("ad2", *models, attention=False)
