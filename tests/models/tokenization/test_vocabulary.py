"""Restriction of a model's embeddings to the tokens of a text, and its reversal."""

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, tiny_batch, tiny_encoder

from raykd.models.encoder import Encoder
from raykd.models.tokenization.vocabulary import restrict_to_used_vocabulary

TEXT = np.array([7, 7, 3, 12], np.int32)


def table(encoder: Encoder) -> torch.Tensor:
    return encoder.model.get_input_embeddings().weight


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_unchanged_and_all_embeddings_are_restored(family):
    encoder = tiny_encoder(family).eval()
    before = table(encoder).detach().clone()
    names = set(encoder.state_dict())
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    expected = encoder(*inputs).logits

    vocabulary = restrict_to_used_vocabulary(encoder, np.arange(20), pad_id=0)

    assert vocabulary is not None
    short = torch.where(batch["input_ids"] < 20, batch["input_ids"], 3)
    restricted = encoder(short, *inputs[1:]).logits
    vocabulary.put_back(1.0)
    torch.testing.assert_close(encoder(short, *inputs[1:]).logits, restricted)
    torch.testing.assert_close(encoder(*inputs).logits, expected)
    assert torch.equal(table(encoder), before)
    assert set(encoder.state_dict()) == names


def test_only_the_embeddings_of_the_texts_tokens_and_padding_are_trained():
    encoder = tiny_encoder()
    before = table(encoder).detach().clone()
    vocabulary = restrict_to_used_vocabulary(encoder, TEXT, pad_id=0)
    assert vocabulary is not None
    assert table(encoder).shape == (4, 24)

    encoder(torch.tensor([[7, 3]]), None).logits.sum().backward()
    gradient = table(encoder).grad
    assert gradient is not None
    assert (gradient.abs().sum(1) > 0).tolist() == [False, True, True, False]
    with torch.no_grad():
        table(encoder).add_(1.0)
    vocabulary.put_back(0.5)

    expected = before * 0.5
    expected[[0, 3, 7, 12]] = before[[0, 3, 7, 12]] + 1.0
    assert torch.equal(table(encoder), expected)


def test_temporary_restoration_does_not_apply_weight_decay_twice():
    encoder = tiny_encoder()
    before = table(encoder).detach().clone()
    vocabulary = restrict_to_used_vocabulary(encoder, TEXT, pad_id=0)
    assert vocabulary is not None

    with vocabulary.whole(0.9):
        assert torch.equal(table(encoder)[20], before[20] * 0.9)
    assert len(table(encoder)) == 4
    with vocabulary.whole(0.8):
        assert torch.equal(table(encoder)[20], before[20] * 0.8)


def test_a_token_outside_the_restricted_vocabulary_is_an_error():
    encoder = tiny_encoder()
    restrict_to_used_vocabulary(encoder, TEXT, pad_id=0)
    with pytest.raises(IndexError):
        encoder(torch.tensor([[7, 8]]), None)


def test_embeddings_are_not_restricted_if_frozen_or_mostly_used():
    assert restrict_to_used_vocabulary(tiny_encoder(), np.arange(26), pad_id=0) is None
    frozen = tiny_encoder()
    table(frozen).requires_grad_(False)
    assert restrict_to_used_vocabulary(frozen, TEXT, pad_id=0) is None
