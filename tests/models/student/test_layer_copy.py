"""Students with layers of a model: choice of layers, copied weights, random weights."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_batch, tiny_encoder
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    CamembertConfig,
    ModernBertConfig,
    MPNetConfig,
    XLMRobertaConfig,
)

from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_encoder
from raykd.models.student.init import StudentConfig, make_student
from raykd.models.student.layer_copy import choose_layers, weights_left_out

FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "deberta"),
    *("mpnet", "modernbert", "albert"),
)
SHAPE = {
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
    "num_labels": 3,
    "pad_token_id": 0,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS = {
    "xlm-roberta": lambda n: XLMRobertaConfig(**SHAPE, num_hidden_layers=n, **NO_DROPOUT),
    "camembert": lambda n: CamembertConfig(**SHAPE, num_hidden_layers=n, **NO_DROPOUT),
    "mpnet": lambda n: MPNetConfig(**SHAPE, num_hidden_layers=n, **NO_DROPOUT),
    "albert": lambda n: AlbertConfig(**SHAPE, num_hidden_layers=n, embedding_size=16, **NO_DROPOUT),
}


def source_of(family: str, num_layers: int = 6) -> Encoder:
    if family not in CONFIGS:
        return tiny_encoder(family, num_layers=num_layers).eval()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(CONFIGS[family](num_layers))
    return Encoder(model).eval()


def cut(source: Encoder, layers: list[int], **options) -> Encoder:
    config = StudentConfig.parse({"layers": layers}, "recipe.yaml")
    return make_student(source, config, "layers", 7, **options)


def logits(encoder: Encoder) -> torch.Tensor:
    batch = tiny_batch()
    with torch.no_grad():
        return encoder(batch["input_ids"], batch["attention_mask"]).logits


@pytest.mark.parametrize(
    ("init", "num_layers", "num_source_layers", "layers"),
    [
        ("skip", 6, 12, [1, 3, 5, 7, 9, 11]),
        ("skip", 3, 12, [1, 5, 9]),
        ("skip", 3, 6, [1, 3, 5]),
        ("skip", 6, 24, [1, 5, 9, 13, 17, 21]),
        ("skip", 4, 12, [1, 4, 7, 10]),
        ("skip", 5, 12, [1, 3, 5, 8, 10]),
        ("skip", 4, 6, [1, 2, 4, 5]),
        ("skip", 4, 4, [1, 2, 3, 4]),
        ("skip", 1, 6, [1]),
        ("bottom", 3, 6, [1, 2, 3]),
        ("top", 3, 6, [4, 5, 6]),
    ],
)
def test_each_init_chooses_its_layers(init, num_layers, num_source_layers, layers):
    assert choose_layers(init, num_layers, num_source_layers) == layers


@given(num_layers=st.integers(1, 48), num_dropped=st.integers(0, 48))
def test_skip_begins_with_the_first_layer_and_is_spaced_evenly(num_layers, num_dropped):
    num_source_layers = num_layers + num_dropped

    layers = choose_layers("skip", num_layers, num_source_layers)

    assert layers[0] == 1
    assert len(layers) == num_layers
    gaps = [after - before for before, after in pairwise(layers)]
    gaps.append(num_source_layers + 1 - layers[-1])
    assert min(gaps) >= num_source_layers // num_layers >= 1
    assert max(gaps) <= -(-num_source_layers // num_layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_with_all_layers_and_the_classifier_has_its_sources_logits(family):
    source = source_of(family)

    student = cut(source, [1, 2, 3, 4, 5, 6], with_classifier=True)

    torch.testing.assert_close(logits(student), logits(source))


@pytest.mark.parametrize("family", FAMILIES)
def test_copied_layers_compute_the_same_as_in_their_source(family, tmp_path):
    """Compare the student with the source after removal of its other layers."""
    source, layers = source_of(family), [1, 3, 6]
    student = cut(source, layers, with_classifier=True)
    if family == "albert":
        source.model.config.num_hidden_layers = 3
        source.model.base_model.encoder.config.num_hidden_layers = 3
    else:
        blocks = source.blocks()
        for number in (5, 4, 2):
            del blocks[number - 1]
        for setting in ("num_hidden_layers", "n_layers"):
            if hasattr(source.model.config, setting):
                setattr(source.model.config, setting, 3)
        if family == "modernbert":
            kinds = source.model.config.layer_types
            source.model.config.layer_types = [kinds[number - 1] for number in layers]

    torch.testing.assert_close(logits(student), logits(source))
    student.save(tmp_path / "student")
    torch.testing.assert_close(logits(load_encoder(str(tmp_path / "student"))), logits(source))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_classifier_the_body_is_copied_and_the_rest_is_random(family):
    source = source_of(family)

    students = {seed: cut_with_seed(source, seed) for seed in (7, 8)}

    in_body = {id(p) for p in students[7].model.base_model.parameters()}
    source_parameters, other_parameters = (
        dict(source.named_parameters()),
        dict(students[8].named_parameters()),
    )
    head_matrices = 0
    for name, parameter in students[7].named_parameters():
        if id(parameter) in in_body:
            assert torch.equal(parameter, other_parameters[name]), name
        elif parameter.dim() > 1:
            head_matrices += 1
            assert not torch.equal(parameter, source_parameters[name]), name
            assert not torch.equal(parameter, other_parameters[name]), name
    assert head_matrices


def cut_with_seed(source: Encoder, seed: int) -> Encoder:
    config = StudentConfig.parse({"num_layers": 3, "inits": ["bottom"]}, "recipe.yaml")
    return make_student(source, config, "bottom", seed)


def test_copied_modernbert_layers_keep_their_attention_type():
    source = source_of("modernbert")
    assert source.model.config.layer_types[3] == "full_attention"

    student = cut(source, [2, 3, 4])

    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    assert student.model.config.layer_types == kinds
    assert isinstance(student.model.config, ModernBertConfig)


def test_a_norm_that_does_not_fit_in_a_first_layer_is_reported():
    source = source_of("modernbert")

    assert weights_left_out(source, cut(source, [1, 4]), [1, 4]) == {}
    assert weights_left_out(source, cut(source, [2, 4]), [2, 4]) == {2: "attn_norm"}
    bert = source_of("bert")
    assert weights_left_out(bert, cut(bert, [2, 4]), [2, 4]) == {}


def test_a_layer_beyond_the_sources_is_refused():
    message = r"student.layers \[1, 4, 7\]: there is no layer 7 in a model of 6 layers"
    with pytest.raises(InputError, match=message):
        cut(source_of("bert"), [1, 4, 7])


def test_models_that_share_weights_in_layer_groups_are_refused():
    source = source_of("albert")
    source.model.config.num_hidden_groups = 2

    with pytest.raises(InputError, match="num_hidden_groups 2: .* use init 'random'"):
        cut(source, [1, 2])
