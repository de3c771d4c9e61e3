"""Students of given sizes in every family: built, or refused with a setting that works."""

import pytest
import torch
import transformers as hf
from families import FAMILIES, MAX_POSITIONS, make_model, save_model

from raykd.errors import InputError
from raykd.models.student.init import StudentConfig, make_student
from raykd.models.student.layer_copy import set_layer_types
from raykd.models.tokenization.positions import num_positions

IDS = torch.tensor([[2, 7, 9, 3]])


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "funnel"])
def test_a_random_student_has_the_requested_sizes(family):
    teacher = make_model(family, num_layers=4)
    config = StudentConfig(num_layers=3, hidden_size=16, num_heads=4)

    student = make_student(teacher, config, "random", seed=7)

    assert (student.num_layers, student.hidden_size, student.num_heads) == (3, 16, 4)
    assert student(IDS, torch.ones_like(IDS)).logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "intermediate_size"),
        ("distilbert", "hidden_dim"),
        ("gpt2", "n_inner"),
        ("xlnet", "d_inner"),
        ("bart", "encoder_ffn_dim"),
        ("bart", "decoder_ffn_dim"),
    ],
)
def test_the_feed_forward_width_is_set_under_each_familys_name(family, name):
    config = StudentConfig(num_layers=1, intermediate_size=20)

    student = make_student(make_model(family), config, "random", seed=7)

    assert getattr(student.model.config, name) == 20


def test_a_decoder_gets_as_many_layers_as_the_encoder():
    student = make_student(make_model("bart"), StudentConfig(num_layers=1), "random", seed=7)

    assert len(student.model.model.encoder.layers) == 1
    assert len(student.model.model.decoder.layers) == 1


def test_a_family_without_a_depth_setting_is_refused_with_an_alternative():
    with pytest.raises(InputError, match=r"'funnel'.*num_hidden_layers.*student\.model, .*BERT"):
        make_student(make_model("funnel"), StudentConfig(num_layers=1), "random", seed=7)


def test_per_layer_settings_that_a_family_derives_from_others_are_left_or_refused():
    config = hf.JambaConfig(num_hidden_layers=2, attn_layer_period=2, attn_layer_offset=1)
    derived = list(config.layer_types)
    set_layer_types(config, ())
    assert config.layer_types == derived
    with pytest.raises(InputError, match="'jamba' .*its layer_types cannot be set"):
        set_layer_types(config, (2, 1))


def test_a_width_without_a_setting_in_the_family_is_refused():
    config = StudentConfig(num_layers=1, intermediate_size=20)

    with pytest.raises(InputError, match="intermediate_size 20: a 'xlm' has no such setting"):
        make_student(make_model("xlm"), config, "random", seed=7)


@pytest.mark.parametrize(
    ("family", "limit"),
    [
        ("bert", MAX_POSITIONS),
        ("mpnet", MAX_POSITIONS - 2),  # counts from 2
        ("longformer", MAX_POSITIONS - 1),
        ("gpt2", MAX_POSITIONS),
        ("bart", MAX_POSITIONS),
        ("deberta-v2", None),
    ],
)
def test_the_maximum_length_of_a_model_follows_its_positions(tmp_path, family, limit):
    save_model(tmp_path, family)

    assert num_positions(str(tmp_path)) == limit
