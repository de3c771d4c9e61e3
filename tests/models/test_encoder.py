"""The encoder's outputs in every family."""

import gc
import weakref

import pytest
import torch
import transformers as hf
from tiny_models import FAMILIES, tiny_batch, tiny_encoder
from torch import nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder, EncoderOutput


def run(encoder: Encoder, **options) -> EncoderOutput:
    batch = tiny_batch()
    with torch.no_grad():
        return encoder.eval()(
            batch["input_ids"], batch["attention_mask"], batch["token_type_ids"], **options
        )


def run_without_types(encoder: Encoder, **options) -> EncoderOutput:
    batch = tiny_batch()
    with torch.no_grad():
        return encoder.eval()(batch["input_ids"], batch["attention_mask"], **options)


def test_a_model_of_characters_without_word_embeddings_is_refused():
    with torch.device("meta"):
        model = hf.CanineForSequenceClassification(
            hf.CanineConfig(num_hidden_layers=1, vocab_size=200)
        )
    with pytest.raises(InputError, match="'canine': it has no table of word embeddings, .*BERT"):
        Encoder(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_logits_hidden_states_and_relations(family):
    output = run(tiny_encoder(family, num_layers=3), layers=[0, 1, 3], relation_layers=[2])

    assert output.logits.shape == (4, 3)
    assert output.logits.dtype == torch.float32
    assert list(output.hidden_states) == [0, 1, 3]
    assert {state.shape for state in output.hidden_states.values()} == {(4, 9, 24)}
    assert list(output.relation_vectors) == [2]
    assert [part.shape for part in output.relation_vectors[2]] == [(4, 9, 24)] * 3


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_equal_transformers(family):
    encoder, batch = tiny_encoder(family, num_layers=3).eval(), tiny_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]

    states = run_without_types(encoder, layers=[0, 1, 2, 3]).hidden_states

    expected = encoder.model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    for layer in (0, 1, 2, 3):
        assert torch.equal(states[layer], expected[layer])


@pytest.mark.parametrize("family", FAMILIES)
def test_word_embeddings_replace_tokens(family):
    encoder, mask = tiny_encoder(family).eval(), tiny_batch()["attention_mask"]

    embeddings = encoder.embed(tiny_batch()["input_ids"])
    output = run(encoder, word_embeddings=embeddings, layers=[2])

    expected = run(encoder, layers=[2])
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(
        output.hidden_states[2][mask == 1], expected.hidden_states[2][mask == 1]
    )
    assert not torch.allclose(run(encoder, word_embeddings=2 * embeddings).logits, expected.logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_that_are_not_requested_are_absent_and_change_nothing(family):
    encoder = tiny_encoder(family)

    plain = run(encoder)
    full = run(encoder, layers=[0, 1], relation_layers=[1])

    assert plain.hidden_states == {}
    assert plain.relation_vectors == {}
    assert torch.equal(plain.logits, full.logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules())


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "deberta"])
def test_relation_vectors_are_projections_of_the_previous_layers_output(family):
    encoder = tiny_encoder(family, num_layers=2)

    output = run(encoder, layers=[1], relation_layers=[2])

    modules = encoder.projections(2).modules
    for projection, vectors in zip(modules, output.relation_vectors[2], strict=True):
        torch.testing.assert_close(projection(output.hidden_states[1]), vectors)


def test_a_fused_projection_is_split_into_query_key_and_value():
    encoder = tiny_encoder("modernbert", num_layers=2)

    output = run(encoder, layers=[1], relation_layers=[2])

    block = encoder.blocks()[1]
    normed = block.attn_norm(output.hidden_states[1])
    for start, vectors in zip((0, 24, 48), output.relation_vectors[2], strict=True):
        weight = block.attn.Wqkv.weight[start : start + 24]
        torch.testing.assert_close(nn.functional.linear(normed, weight), vectors)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_relations_without_a_full_forward_pass_equal_those_of_one(family, layer):
    encoder, batch = tiny_encoder(family, num_layers=3).eval(), tiny_batch()

    relations = encoder.relations(
        batch["input_ids"], batch["attention_mask"], batch["token_type_ids"], layer=layer
    )

    expected = run(encoder, relation_layers=[layer]).relation_vectors[layer]
    assert all(torch.equal(*parts) for parts in zip(relations, expected, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_relations_skip_later_layers_and_keep_no_activations(family):
    encoder, batch = tiny_encoder(family, num_layers=3), tiny_batch()
    called = []
    encoder.block(1).register_forward_hook(lambda *_: called.append("block 1"))
    encoder.block(2).register_forward_hook(lambda *_: called.append("block 2"))
    encoder.block(3).register_forward_pre_hook(lambda *_: called.append("block 3"))
    gc.collect()
    gc.disable()
    try:
        query = weakref.ref(
            encoder.relations(batch["input_ids"], batch["attention_mask"], layer=2).query
        )
        # No exception's frames hold activations until the next collection of cycles.
        assert query() is None
    finally:
        gc.enable()

    assert called == ["block 1"]
    assert run(encoder).logits.isfinite().all()


def test_an_error_in_the_forward_pass_is_raised_and_not_taken_for_the_early_exit():
    encoder = tiny_encoder()

    with pytest.raises(IndexError):
        encoder.relations(torch.full((1, 3), 10**6), None, layer=1)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_attention_stays_sdpa(family):
    assert tiny_encoder(family).model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_change_the_logits(family):
    encoder = tiny_encoder(family).eval()
    batch = tiny_batch(num_rows=1, length=7)
    ids, mask = batch["input_ids"], batch["attention_mask"]

    padded = encoder(nn.functional.pad(ids, (0, 5)), nn.functional.pad(mask, (0, 5)))

    torch.testing.assert_close(padded.logits, encoder(ids, mask).logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(InputError, match="choose one from 1 to 2"):
        run(tiny_encoder(num_layers=2), relation_layers=[layer])
    ids = tiny_batch()["input_ids"]
    with pytest.raises(InputError, match="choose one from 1 to 2"):
        tiny_encoder(num_layers=2).relations(ids, None, layer=layer)


@pytest.mark.parametrize("family", FAMILIES)
def test_reordered_classes_have_the_same_logits_in_another_order(family):
    encoder = tiny_encoder(family)
    before = run(encoder).logits

    encoder.reorder_classes([2, 0, 1])

    torch.testing.assert_close(run(encoder).logits, before[:, [2, 0, 1]])
