"""Model families: location of the classifier and the layers, and inputs of self-attention."""

import pytest
import torch
from families import FAMILIES, make_model
from torch import nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.families.classifier import last_map_of

IDS = torch.tensor([[2, 7, 9, 12, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

WITH_FINAL_NORM = ("modernbert", "eurobert", "megatron-bert", "roberta-prelayernorm")
WITH_LAYERS = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "deberta",
    "deberta-v2",
    "nomic_bert",
    "longformer",
    "qwen2",
    "gemma3_text",
    *WITH_FINAL_NORM,
)
WITH_RELATIONS = tuple(
    family
    for family in WITH_LAYERS
    if family not in ("longformer", "qwen2", "gemma3_text")  # see the refusals below
)
LAST_MAPS = {
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "xlm-roberta": "classifier.out_proj",
    "camembert": "classifier.out_proj",
    "distilbert": "classifier",
    "electra": "classifier.out_proj",
    "mpnet": "classifier.out_proj",
    "deberta": "classifier",
    "deberta-v2": "classifier",
    "modernbert": "classifier",
    "albert": "classifier",
    "megatron-bert": "classifier",
    "xlm": "sequence_summary.summary",
    "funnel": "classifier.linear_out",
    "bart": "classification_head.out_proj",
    "xlnet": "logits_proj",
    "gpt2": "score",
    "qwen2": "score",
    "gemma3_text": "score",
}


def run(encoder: Encoder, **options) -> EncoderOutput:
    with torch.no_grad():
        return encoder(IDS, MASK, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_labels", [2, 3])
def test_reordered_classes_have_the_same_logits_in_another_order(family, num_labels):
    encoder = make_model(family, num_labels=num_labels)
    before, order = run(encoder).logits, [*range(1, num_labels), 0]

    encoder.reorder_classes(order)

    torch.testing.assert_close(run(encoder).logits, before[:, order])


@pytest.mark.parametrize("family", LAST_MAPS)
def test_the_classifier_is_found_even_if_another_linear_map_is_as_wide(family):
    model = make_model(family, num_labels=24).model  # as wide as the model

    last_map = last_map_of(model)

    assert last_map is model.get_submodule(LAST_MAPS[family])
    assert not any(module._forward_hooks for module in model.modules())


def test_classes_in_the_tasks_order_are_not_reordered():
    encoder = make_model("bert", num_labels=3)
    encoder.model.classifier = nn.Sequential(encoder.model.classifier, nn.Softmax(-1))

    encoder.reorder_classes([0, 1, 2])

    with pytest.raises(InputError, match=r"'bert'.*another order.*the model's order"):
        encoder.reorder_classes([0, 2, 1])


@pytest.mark.parametrize("family", WITH_LAYERS)
def test_hidden_states_equal_transformers(family):
    encoder = make_model(family, num_layers=3)

    states = run(encoder, layers=[0, 1, 2, 3]).hidden_states

    output = encoder.model(IDS, attention_mask=MASK, output_hidden_states=True)
    expected = output.hidden_states
    assert len(expected) == 4
    for layer in range(4):
        assert torch.equal(states[layer], expected[layer])


@pytest.mark.parametrize("family", WITH_FINAL_NORM)
def test_the_last_hidden_state_is_after_the_final_norm(family):
    encoder = make_model(family)
    outputs = []
    encoder.blocks()[-1].register_forward_hook(
        lambda module, inputs, output: outputs.append(output)
    )

    state = run(encoder, layers=[2]).hidden_states[2]

    before = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
    assert not torch.allclose(state, before, atol=1e-2)
    with torch.no_grad():
        body = encoder.model.base_model(IDS, attention_mask=MASK)
    assert torch.equal(state, body.last_hidden_state)


@pytest.mark.parametrize("family", WITH_RELATIONS)
def test_relation_vectors_are_the_inputs_of_attention(family):
    encoder = make_model(family)

    vectors = run(encoder, relation_layers=[1, 2]).relation_vectors

    assert {part.shape for layer in (1, 2) for part in vectors[layer]} == {(2, 5, 24)}
    relations = encoder.relations(IDS, MASK, layer=2)
    assert all(torch.equal(*parts) for parts in zip(relations, vectors[2], strict=True))


def test_a_projection_fused_per_head_is_split_as_in_its_family():
    encoder = make_model("deberta")
    attention = encoder.blocks()[0].attention.self
    with torch.no_grad():
        attention.q_bias.normal_()
        attention.v_bias.normal_()
    inside = {}
    original = attention.transpose_for_scores

    def record(x):
        inside.setdefault(len(inside), original(x))
        return original(x)

    attention.transpose_for_scores = record

    vectors = run(encoder, relation_layers=[1]).relation_vectors[1]

    # Its own first call splits the fused projection into heads of query, key and value: (B, H, L).
    query, key, value = inside[0].chunk(3, dim=-1)
    biases = [inside[part][0, :, 0] for part in (1, 2)]
    for part, expected in zip(
        vectors,
        (query + biases[0][:, None], key, value + biases[1][:, None]),
        strict=True,
    ):
        torch.testing.assert_close(part, expected.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text"])
def test_keys_shared_by_several_heads_are_refused(family):
    with pytest.raises(InputError, match="not as wide as its hidden states; use a BERT"):
        make_model(family).projections(1)


@pytest.mark.parametrize("family", ["albert", "xlm", "funnel", "bart", "xlnet", "gpt2"])
def test_families_without_addressable_layers_are_refused(family):
    with pytest.raises(InputError, match="use a BERT, .*vanilla_kd, annealing_kd, fine_tune"):
        make_model(family).blocks()
