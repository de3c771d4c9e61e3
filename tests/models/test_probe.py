"""Probes: traits that objectives need, per model family, and the refusals without them."""

import pytest
import torch
from families import DECODERS, MAX_POSITIONS, make_model, make_tokenizer
from torch import nn

from raykd.errors import InputError
from raykd.models.probe import check_pad_token, check_traits, probe, widen

ENCODERS = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "deberta",
    "deberta-v2",
    "modernbert",
    "nomic_bert",
    "albert",
    "eurobert",
    "megatron-bert",
    "roberta-prelayernorm",
    "xlm",
    "funnel",
)


def missing_traits(family: str, max_length: int = 16, **changes) -> dict[str, str]:
    tokenizer = make_tokenizer(decoder=family in DECODERS)
    return probe(make_model(family, **changes), tokenizer, max_length)


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_has_all_traits(family):
    assert missing_traits(family) == {}


@pytest.mark.parametrize("family", ENCODERS[:6])
def test_new_weights_have_all_traits_once_their_values_are_scaled_up(family):
    encoder = make_model(family, initializer_range=0.02)

    widen(encoder)

    assert probe(encoder, make_tokenizer(), 16) == {}


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_lacks_embeddings_and_the_first_token_but_has_logits(family):
    missing = missing_traits(family)

    assert "embeddings" in missing
    assert not missing.keys() & {"logits", "padding", "gradients"}
    if family != "gpt2":  # its layers are not addressable
        assert "from left to right" in missing["first_token"]


def test_a_decoder_without_its_pad_token_is_detected():
    assert "cannot read a short batch" in missing_traits("gpt2", pad_token_id=None)["logits"]
    assert "how wide it is padded" in missing_traits("gpt2", pad_token_id=7)["padding"]


def test_a_classifier_on_the_last_position_is_detected():
    missing = missing_traits("xlnet")

    assert "how wide it is padded" in missing["padding"]
    assert "its logits do not depend on" in missing["gradients"]


@pytest.mark.parametrize("family", ["bart", "longformer"])
def test_a_family_without_word_embedding_inputs_is_detected(family):
    assert "from word embeddings" in missing_traits(family)["embeddings"]


def test_relation_vectors_other_than_one_per_token_are_detected():
    assert "not one per token" in missing_traits("longformer")["relations"]


def test_a_text_longer_than_the_models_maximum_is_detected():
    assert (
        f"a text of {MAX_POSITIONS + 1} tokens"
        in missing_traits("bert", MAX_POSITIONS + 1)["logits"]
    )
    assert missing_traits("bert", MAX_POSITIONS) == {}


def test_nan_logits_are_detected():
    encoder = make_model("bert")
    nn.init.constant_(encoder.model.classifier.weight, torch.nan)

    assert "NaN" in probe(encoder, make_tokenizer(), 16)["logits"]


def test_a_probe_does_not_change_the_model():
    encoder = make_model("bert")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.model.bert.requires_grad_(False)

    probe(encoder, make_tokenizer(), 16)

    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(p.requires_grad for p in encoder.model.bert.parameters())
    assert all(p.grad is None for p in encoder.parameters())


def test_a_refusal_names_the_reason_and_alternatives():
    missing = missing_traits("qwen2")

    check_traits("adaptation.objective vanilla_kd", "teacher", "m", {"logits", "padding"}, missing)
    with pytest.raises(
        InputError, match=r"objective pkd: teacher m .*left to right; choose vanilla_kd, .*BERT"
    ):
        check_traits("adaptation.objective pkd", "teacher", "m", {"first_token"}, missing)


def test_a_tokenizer_without_a_pad_token_is_refused_with_alternatives():
    with pytest.raises(InputError, match="model m: its tokenizer has no pad token; .*BERT"):
        check_pad_token("m", make_tokenizer(pads=False))
