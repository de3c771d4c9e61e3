"""Probes of generators: properties that keep a masked LM from generating training text."""

import pytest
import torch
from families import FAMILIES, MAX_POSITIONS, make_tokenizer
from torch import nn
from transformers import AutoModelForMaskedLM

from raykd.errors import InputError
from raykd.models.masked_lm import MaskedLm, SpecialTokens
from raykd.models.masked_lm_probe import TRAINED, check_masked_lm

# Families that `load_masked_lm` accepts.
GENERATORS = (
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "albert",
    "mpnet",
    "deberta-v2",
    "modernbert",
)


def make_generator(family: str, **changes) -> MaskedLm:
    config = FAMILIES[family](2)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return MaskedLm(AutoModelForMaskedLM.from_config(config), SpecialTokens(4, (0, 1, 2, 3, 4)))


def check(model: MaskedLm, max_length: int = 16) -> None:
    check_masked_lm("cilda", "m", model, make_tokenizer(), max_length, TRAINED)


@pytest.mark.parametrize("family", GENERATORS)
def test_a_masked_language_model_can_generate(family):
    check(make_generator(family))


def test_a_left_to_right_model_is_refused_as_generator():
    with pytest.raises(InputError, match="cilda: generator m .*left to right; name another masked"):
        check(make_generator("bert", is_decoder=True))


def test_a_generator_with_unused_weights_is_refused():
    model = make_generator("bert")
    model.model.bert.unused = nn.Linear(2, 2)

    with pytest.raises(InputError, match=r"depend on 2 of its weights, such as bert\.unused"):
        check(model)


def test_a_generator_too_short_for_the_text_or_predicting_nan_is_refused():
    with pytest.raises(InputError, match=f"a text of {MAX_POSITIONS + 1} tokens"):
        check(make_generator("bert"), MAX_POSITIONS + 1)
    model = make_generator("bert")
    nn.init.constant_(model.model.bert.embeddings.LayerNorm.weight, torch.nan)
    with pytest.raises(InputError, match="NaN"):
        check(model)


def test_a_generator_without_a_pad_token_is_padded_with_any_token():
    check_masked_lm("cilda", "m", make_generator("bert"), make_tokenizer(pads=False), 16, TRAINED)
