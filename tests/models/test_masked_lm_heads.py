"""Detection of masked-LM heads in checkpoints of all families."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_model
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)

from raykd.errors import InputError
from raykd.models.masked_lm import MaskedLm, load_masked_lm, missing_head_weights

FAMILIES = (
    *("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "ernie"),
    *("modernbert", "mpnet", "roberta", "roformer", "xlm-roberta"),
)


def config_of(family: str, **changes: object) -> PreTrainedConfig:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"vocab_size": 50, "intermediate_size": 24, "max_position_embeddings": 40}
    names = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    if family == "distilbert":
        shape = {"dim": 16, "n_layers": 1, "n_heads": 2}
        sizes = {"vocab_size": 50, "hidden_dim": 24, "max_position_embeddings": 40}
    if family in ("albert", "electra", "roformer"):
        shape["embedding_size"] = 8
    return AutoConfig.for_model(family, **shape, **sizes, **names, **changes)


def save(folder: Path, config: PreTrainedConfig, auto_class: type = AutoModelForMaskedLM) -> str:
    """Save a random model of any class, with a tokenizer."""
    save_tiny_model(folder)
    torch.manual_seed(0)
    model = auto_class.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_masked_lm_has_a_head_and_the_logits_of_transformers(family, tmp_path):
    reference = save(tmp_path / "model", config_of(family))
    assert missing_head_weights(reference) == ()

    model = load_masked_lm(reference)
    ids = torch.tensor([[2, 10, 4, 12, 3], [2, 4, 13, 3, 0]])
    mask = (ids != 0).long()
    logits = model(ids, mask, None, ids == 4)

    expected = AutoModelForMaskedLM.from_pretrained(reference).eval()(ids, attention_mask=mask)
    torch.testing.assert_close(logits, expected.logits[ids == 4])


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_or_classifier_has_no_head_and_gets_one_tied_to_its_embeddings(
    family, auto_class, tmp_path
):
    # A configuration with untied embeddings makes no difference to a new head.
    config = config_of(family, tie_word_embeddings=False)
    reference = save(tmp_path / "model", config, auto_class)

    with pytest.raises(InputError, match=r"has no masked-language-model head \(\d+ of .* random"):
        load_masked_lm(reference)

    model = load_masked_lm(reference, new_head=True)
    embeddings = model.model.get_input_embeddings().weight
    own = load_file(Path(reference) / "model.safetensors").values()
    assert any(torch.equal(embeddings, tensor) for tensor in own)
    head = model.head_parameters()
    assert sum(p.shape == (50,) for p in head) == 1
    # Nothing in the head has a row per token: the embeddings are its last map.
    assert not [p.shape for p in head if p.ndim > 1 and 50 in p.shape]
    assert gradient_reaches(model, embeddings)


def gradient_reaches(model: MaskedLm, weight: torch.Tensor) -> bool:
    """Return True if predictions from given hidden states depend on a weight."""
    states = torch.randn(3, model.model.config.hidden_size)
    ids = torch.tensor([[2, 10, 3]])
    (gradient,) = torch.autograd.grad(model.predict(states, ids).square().sum(), [weight])
    return bool(gradient.abs().sum() > 0)


def test_debertas_alternative_head_is_found_under_its_published_names(tmp_path):
    reference = save(tmp_path / "model", config_of("deberta-v2", legacy=False))
    # microsoft/deberta-v2-xlarge has these names, and no key `legacy` in its config.json.
    config_of("deberta-v2").save_pretrained(reference)
    names = load_file(Path(reference) / "model.safetensors")
    assert "lm_predictions.lm_head.dense.weight" in names

    model = load_masked_lm(reference)

    weight = model.model.lm_predictions.lm_head.dense.weight
    assert torch.equal(weight, names["lm_predictions.lm_head.dense.weight"])


def test_parameter_names_of_the_first_bert_checkpoints_are_supported(tmp_path):
    reference = save(tmp_path / "model", config_of("bert"))
    path = Path(reference) / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(path).items()
    }
    assert "cls.predictions.transform.LayerNorm.gamma" in renamed
    save_file(renamed, path, {"format": "pt"})

    assert missing_head_weights(reference) == ()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_head_with_a_missing_weight_is_not_accepted(family, tmp_path):
    reference = save(tmp_path / "model", config_of(family))
    path = Path(reference) / "model.safetensors"
    tensors = load_file(path)
    [bias] = [name for name, tensor in tensors.items() if tensor.shape == (50,)]
    save_file({n: t for n, t in tensors.items() if n != bias}, path, {"format": "pt"})

    assert bias in missing_head_weights(reference)


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        ("bart", "is an encoder-decoder"),
        ("gpt2", "cannot be loaded as a masked language model"),
    ],
)
def test_models_other_than_masked_lms_are_refused_with_their_type(family, problem, tmp_path):
    save_tiny_model(tmp_path / "model")
    AutoConfig.for_model(family, vocab_size=50).save_pretrained(tmp_path / "model")

    with pytest.raises(InputError, match=f"^model {tmp_path / 'model'}: .*{problem}"):
        load_masked_lm(str(tmp_path / "model"))
