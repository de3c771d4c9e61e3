"""CoDIR's pre-training: masking, both losses, and its negatives."""

import pytest
import torch
from objective_settings import SPECIAL_TOKENS
from tiny_models import VOCABULARY_SIZE, tiny_batch, tiny_encoder
from torch.nn.functional import layer_norm, normalize, pad

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.codir_pretraining import (
    CodirPretraining,
    CodirPretrainingConfig,
    mask_words,
    masked_word_loss,
)
from raykd.objectives.losses.memory_contrastive import infonce_loss


def make(**settings) -> CodirPretraining:
    student = tiny_encoder(num_layers=2, hidden_size=12, seed=1)
    teacher = tiny_encoder(num_layers=4, hidden_size=24, seed=2)
    torch.manual_seed(3)
    config = CodirPretrainingConfig(**{"num_negatives": 6, "mask_probability": 0.5} | settings)
    objective = build(config, student, teacher, special_tokens=SPECIAL_TOKENS).train()
    objective.start_training(4, None, seed=1)
    return objective


def test_the_masked_lm_loss_of_a_row_is_the_mean_over_its_masked_words():
    chances = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    is_masked = torch.tensor([[True, False, True], [False, False, False], [True, False, False]])
    words = torch.tensor([0, 1, 0])

    loss = masked_word_loss(chances.log(), words, is_masked)

    # Rows with two, zero and one masked words: (-(ln 0.5 + ln 0.8) / 2 + 0 - ln 0.25) / 3.
    assert loss.item() == pytest.approx((0.4581453659 + 0 + 1.3862943611) / 3)
    assert masked_word_loss(chances[:0], words[:0], is_masked & False).item() == 0


def test_15_percent_of_words_are_selected_and_80_percent_of_these_masked():
    torch.manual_seed(0)
    ids = torch.full((100, 400), 20)
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones_like(ids)
    mask[:, 300:] = 0

    masked, is_masked = mask_words(ids, mask, SPECIAL_TOKENS, 1000, 0.15)

    assert not is_masked[:, 0].any()
    assert not is_masked[:, 300:].any()
    assert torch.equal(masked[~is_masked], ids[~is_masked])
    num_words, chosen = 100 * 299, masked[is_masked]
    assert len(chosen) / num_words == pytest.approx(0.15, abs=0.01)
    assert (chosen == 4).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (chosen == 20).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_masking_does_not_depend_on_padding():
    batch = tiny_batch()
    masked_ids = []
    for width in (0, 5):
        torch.manual_seed(1)
        ids, mask = (pad(batch[key], (0, width)) for key in ("input_ids", "attention_mask"))
        masked_ids.append(mask_words(ids, mask, SPECIAL_TOKENS, VOCABULARY_SIZE, 0.5)[0])
    assert torch.equal(masked_ids[0], masked_ids[1][:, :9])


def test_the_loss_is_the_sum_of_masked_lm_and_layer_losses_on_one_masked_text():
    objective, batch = make(masked_word_weight=2.0, contrastive_weight=0.5), tiny_batch()
    queue = objective.contrast.student.vectors.clone()
    torch.manual_seed(7)
    ids, is_masked = mask_words(
        batch["input_ids"], batch["attention_mask"], SPECIAL_TOKENS, VOCABULARY_SIZE, 0.5
    )
    inputs = ids, batch["attention_mask"], batch["token_type_ids"]
    mask = batch["attention_mask"][..., None].float()
    student = objective.student(*inputs, layers=[1, 2]).hidden_states
    teacher = objective.teacher(*inputs, layers=[1, 2, 3, 4]).hidden_states
    ours, theirs = (
        torch.cat([(states[k] * mask).sum(1) / mask.sum(1) for k in sorted(states)], dim=1)
        for states in (student, teacher)
    )
    ours = normalize(objective.student_projection(ours), dim=1)
    theirs = normalize(objective.teacher_projection(theirs), dim=1)
    cosines = torch.cat([(ours * theirs).sum(1)[:, None], theirs @ queue.T], dim=1)
    head = objective.head
    vectors = torch.nn.functional.gelu(head.transform(student[2][is_masked]))
    vectors = layer_norm(vectors, (12,), head.norm.weight, head.norm.bias)
    logits = vectors @ objective.student.embedding_weight.T + head.bias

    torch.manual_seed(7)
    terms = objective(batch)

    contrastive = infonce_loss(cosines, 0.07)
    words = masked_word_loss(logits, batch["input_ids"][is_masked], is_masked)
    expected = {"masked_words": words.detach(), "contrastive": contrastive.detach()}
    torch.testing.assert_close(terms.parts, expected)
    torch.testing.assert_close(terms.total, 2 * words + 0.5 * contrastive)
    # The batch's vectors are negatives of the next batch; the oldest have been dropped.
    torch.testing.assert_close(objective.contrast.student.vectors[-4:], ours.detach())
    assert torch.equal(objective.contrast.student.vectors[:2], queue[4:])


def test_negatives_exclude_a_rows_own_older_vectors():
    objective, batch = make(num_negatives=4), tiny_batch()
    objective(batch)
    terms = objective(batch)
    # One of the four vectors in the queue is the row's own; the positive is its new pair.
    assert terms.measures["num_candidates"].item() == 1 + 3


def test_the_words_are_predicted_through_the_students_own_embeddings():
    objective = make()
    names = {name for name, _ in objective.head.named_parameters()}
    assert names == {"transform.weight", "transform.bias", "norm.weight", "norm.bias", "bias"}
    assert not any("head" in name for name in objective.student.state_dict())


def test_the_masked_lm_loss_of_the_student_decreases():
    objective, batch = make(), tiny_batch()
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        terms = objective(batch)
        terms.total.backward()
        optimizer.step()
        losses.append(terms.parts["masked_words"].item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_a_student_of_another_vocabulary_is_refused():
    student, teacher = tiny_encoder(seed=1), tiny_encoder(seed=2)
    student.model.resize_token_embeddings(60)
    with pytest.raises(InputError, match="word embeddings of 60 tokens, the teacher of 50"):
        CodirPretraining.check(CodirPretrainingConfig(), student, teacher)


def test_a_pretrained_teacher_without_a_classifier_is_accepted():
    config = CodirPretrainingConfig()
    assert not config.needs_labels
    assert not config.reads_logits
