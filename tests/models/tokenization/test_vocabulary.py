"""A model without the embeddings of tokens that a text has not, and whole again."""

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
def test_it_says_the_same_of_its_own_tokens_and_is_whole_afterwards(family):
    encoder = tiny_encoder(family).eval()
    before = table(encoder).detach().clone()
    names = set(encoder.state_dict())
    batch = tiny_batch()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    wanted = encoder(*inputs).logits

    vocabulary = restrict_to_used_vocabulary(encoder, np.arange(20), pad_id=0)

    assert vocabulary is not None
    short = torch.where(batch["input_ids"] < 20, batch["input_ids"], 3)
    found = encoder(short, *inputs[1:]).logits
    vocabulary.put_back(1.0)
    torch.testing.assert_close(encoder(short, *inputs[1:]).logits, found)
    torch.testing.assert_close(encoder(*inputs).logits, wanted)
    assert torch.equal(table(encoder), before)
    assert set(encoder.state_dict()) == names


def test_only_the_texts_tokens_and_padding_are_there_and_learn():
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


def test_it_is_whole_for_a_while_and_no_decay_is_applied_twice():
    encoder = tiny_encoder()
    before = table(encoder).detach().clone()
    vocabulary = restrict_to_used_vocabulary(encoder, TEXT, pad_id=0)
    assert vocabulary is not None

    with vocabulary.whole(0.9):
        assert torch.equal(table(encoder)[20], before[20] * 0.9)
    assert len(table(encoder)) == 4
    with vocabulary.whole(0.8):
        assert torch.equal(table(encoder)[20], before[20] * 0.8)


def test_a_token_that_is_out_is_an_error_and_no_other_tokens_embedding():
    encoder = tiny_encoder()
    restrict_to_used_vocabulary(encoder, TEXT, pad_id=0)
    with pytest.raises(IndexError):
        encoder(torch.tensor([[7, 8]]), None)


def test_a_text_of_most_tokens_and_frozen_embeddings_keep_the_whole_table():
    assert restrict_to_used_vocabulary(tiny_encoder(), np.arange(26), pad_id=0) is None
    frozen = tiny_encoder()
    table(frozen).requires_grad_(False)
    assert restrict_to_used_vocabulary(frozen, TEXT, pad_id=0) is None
