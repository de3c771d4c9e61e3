import json
from math import log

import numpy as np
import pytest
import torch
from tiny_models import PAD_ID, VOCABULARY_SIZE, tiny_encoder

from raykd.evaluation import analysis
from raykd.evaluation.analysis import (
    divergence,
    layer_similarity,
    linear_cka,
    mean_cosines,
    pooled_states,
)
from raykd.models.inference import token_batches
from raykd.models.tokenization.tokens import TokenizedRows

CPU = torch.device("cpu")


def logits(*probabilities):
    return np.log(np.array(probabilities))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def some_rows(lengths, seed=0):
    ids = np.random.default_rng(seed).integers(5, VOCABULARY_SIZE, sum(lengths), np.int32)
    return TokenizedRows(ids, None, np.cumsum([0, *lengths], dtype=np.int64))


def states(encoder, rows):
    return pooled_states(encoder.eval(), rows, pad_id=PAD_ID, device=CPU)


def test_kl_divergence_of_teacher_from_student_by_hand():
    teacher = logits([0.5, 0.5], [0.75, 0.25], [0.5, 0.5])
    student = logits([0.25, 0.75], [0.5, 0.5], [0.5, 0.5])
    # 0.5 ln(0.5/0.25) + 0.5 ln(0.5/0.75) = 0.5 ln(4/3); 0.75 ln 1.5 + 0.25 ln 0.5; zero.
    first, second = 0.5 * log(4 / 3), 0.75 * log(1.5) + 0.25 * log(0.5)
    result = divergence(student, teacher)
    assert result.measure == "kl"
    assert result.mean == pytest.approx((first + second) / 3)
    # 0, 0.1308, 0.1438: the 90 % quantile is 0.8 of the way from the second to the third.
    assert result.median == pytest.approx(second)
    assert result.percentile_90 == pytest.approx(second + 0.8 * (first - second))
    assert dict(zip(result.lower_edges, result.counts, strict=True)) == {
        **dict.fromkeys((0.001, 0.003, 0.01, 0.03, 0.3, 1.0, 3.0, 10.0), 0),
        0.0: 1,
        0.1: 2,
    }


def test_the_divergence_ignores_a_shift_of_all_logits_and_is_never_negative():
    teacher = draw(200, 3).astype(np.float64)
    result = divergence(teacher + 7, teacher)
    assert result.mean == pytest.approx(0, abs=1e-12)
    assert result.counts[0] == 200


def test_the_last_bin_is_open_and_a_lower_edge_belongs_to_its_bin():
    scores = np.array([[0.0], [0.0], [0.0]])
    result = divergence(scores, np.array([[100.0], [0.0], [1.0]]))
    assert result.counts[-1] == 1
    assert result.counts[result.lower_edges.index(1.0)] == 1


def test_regression_scores_are_compared_by_squared_difference():
    result = divergence(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.5], [1.0]]))
    # 0, 0.25 and 4
    assert (result.measure, result.mean, result.median) == (
        "squared_difference",
        pytest.approx(4.25 / 3),
        0.25,
    )


def test_layer_cosines_by_hand():
    # Row 1: student (1, 0) and (1, 1); row 2: (2, 0) and (0, -3); the teacher has (1, 0), (0, 5).
    student = np.array([[[1, 0], [1, 1]], [[2, 0], [0, -3]]], np.float32)
    teacher = np.array([[[1, 0]], [[0, 5]]], np.float32)
    expected = [[(1 + 0) / 2], [(0.5**0.5 - 1) / 2]]
    np.testing.assert_allclose(mean_cosines(student, teacher), expected)


def test_a_zero_vector_has_cosine_zero():
    assert mean_cosines(np.zeros((2, 1, 3), np.float32), draw(2, 1, 3)).tolist() == [[0]]


def test_a_copy_of_the_teacher_has_ones_on_the_diagonal_and_less_elsewhere():
    encoder = tiny_encoder(num_layers=3)
    result = states(encoder, some_rows([4, 9, 3, 7]))
    similarity = layer_similarity(result, result)
    values = np.array(similarity.values)
    assert (similarity.measure, similarity.num_rows, values.shape) == ("cosine", 4, (3, 3))
    np.testing.assert_allclose(values.diagonal(), 1)
    assert values[~np.eye(3, dtype=bool)].max() < 1 - 1e-5


def test_layers_of_different_widths_are_compared_by_cka_with_one_row_per_student_layer():
    rows = some_rows([4, 9, 3, 7, 5])
    student = states(tiny_encoder(num_layers=2, hidden_size=16), rows)
    teacher = states(tiny_encoder(num_layers=3), rows)
    result = layer_similarity(student, teacher)
    assert result.measure == "linear_cka"
    assert np.array(result.values).shape == (2, 3)
    assert json.loads(json.dumps(result.values)) == [list(row) for row in result.values]


def test_cka_by_hand_does_not_depend_on_the_mean():
    # Centered: x = (-1, 0, 1), y = (-1, 1, 0): x.y = 1, so 1 / (2 * 2); z = -2x: the same as x.
    student = np.array([4, 5, 6], np.float32)[:, None, None]
    teacher = np.array([[-1, 2], [1, 0], [0, -2]], np.float32)[..., None]
    np.testing.assert_allclose(linear_cka(student, teacher), [[0.25, 1.0]])


def test_cka_is_invariant_to_rotation_scale_and_shift():
    result = draw(40, 1, 6)
    rotation = np.linalg.qr(draw(6, 6, seed=1))[0]
    moved = 3 * result @ rotation + 5
    both = np.concatenate([result, moved], axis=1)
    np.testing.assert_allclose(linear_cka(result, both), [[1, 1]], rtol=1e-5)
    other = draw(40, 2, 8, seed=2)
    np.testing.assert_allclose(linear_cka(moved, other), linear_cka(result, other), rtol=1e-5)
    assert linear_cka(result, other).max() < 0.5


def test_the_cka_of_a_constant_layer_is_zero():
    same = np.full((7, 1, 4), 0.1, np.float32)
    assert linear_cka(same, draw(7, 2, 5)).tolist() == [[0, 0]]


def test_pooled_states_are_token_means_per_row():
    encoder, rows = tiny_encoder(num_layers=2).eval(), some_rows([4, 9, 3])
    result = states(encoder, rows)
    for row, (begin, end) in enumerate(zip(rows.offsets, rows.offsets[1:], strict=False)):
        ids = torch.from_numpy(rows.input_ids[begin:end].astype(np.int64))[None]
        with torch.no_grad():
            output = encoder(ids, torch.ones_like(ids), layers=(1, 2))
        expected = [output.hidden_states[layer][0].mean(0).numpy() for layer in (1, 2)]
        np.testing.assert_allclose(result[row], expected, rtol=1e-4, atol=1e-6)


def test_similarities_do_not_depend_on_the_batch_size(monkeypatch):
    rows = some_rows([4, 9, 3, 7, 5, 8])
    pairs = [
        (tiny_encoder(seed=1), tiny_encoder(num_layers=3)),
        (tiny_encoder(hidden_size=16), tiny_encoder(num_layers=3)),
    ]
    whole = [layer_similarity(*(states(e, rows) for e in pair)).values for pair in pairs]
    monkeypatch.setattr(analysis, "_BATCH_TOKENS", 10)
    assert len(token_batches(rows.lengths, 10)) > 3
    parts = [layer_similarity(*(states(e, rows) for e in pair)).values for pair in pairs]
    for one, many in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-6)
