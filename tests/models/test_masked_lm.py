"""Masked language models: tokens that may be masked, and predictions at masked tokens."""

import json

import pytest
import torch
from tiny_models import FAMILIES, save_tiny_model, tiny_batch, tiny_masked_lm

from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.masked_lm import load_masked_lm


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_equal_the_models_logits_at_the_masked_tokens(family):
    model, batch = tiny_masked_lm(family), tiny_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    is_masked = (torch.rand(ids.shape) < 0.5) & (mask != 0)

    logits = model(ids, mask, None, is_masked)

    expected = model.model(input_ids=ids, attention_mask=mask).logits[is_masked]
    torch.testing.assert_close(logits, expected)


def test_words_are_the_vocabulary_without_special_tokens(tmp_path):
    folder = str(save_tiny_model(tmp_path / "model"))
    model, tokenizer = load_masked_lm(folder, new_head=True), load_tokenizer(folder)
    batch = tokenizer(["good film", "bad [MASK] ? plot"], padding=True, return_tensors="pt")

    are_words = model.are_words(batch["input_ids"], batch["attention_mask"])

    # [CLS] good film [SEP] [PAD] [PAD] and [CLS] bad [MASK] [UNK] plot [SEP]
    assert are_words.int().tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0]]
    assert model.mask_id == tokenizer.mask_token_id


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mask_token": None}))

    with pytest.raises(InputError, match="no mask token, .*name a model that was trained"):
        load_masked_lm(str(folder))
