"""Preflight: models are run on short texts before any stage."""

from pathlib import Path

import pytest
import torch
from families import FAMILIES, make_tokenizer, save_model
from transformers import AutoModelForMaskedLM

from raykd.errors import InputError
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run


def save_generator(folder: Path, **changes) -> Path:
    config = FAMILIES["bert"](1)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("objective", ["cilda", "mate_kd"])
def test_a_generator_that_reads_from_left_to_right_is_refused_before_any_stage(tmp_path, objective):
    values = {
        "name": "tiny",
        "arms": ["direct"],
        "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
        "teacher": {"model": str(save_model(tmp_path / "teacher", "bert")), "max_length": 16},
        "student": {"num_layers": 1},
    }

    def check(generator: Path) -> None:
        phase = {"objective": {"name": objective, "generator": str(generator)}, "max_length": 16}
        recipe = Recipe.parse(values | {"adaptation": phase}, "recipe")
        check_models(Run(recipe, tmp_path / "out", tmp_path / "out" / "units"))

    check(save_generator(tmp_path / "fits"))
    with pytest.raises(
        InputError, match=rf"adaptation\.objective {objective}: generator .*left to right"
    ):
        check(save_generator(tmp_path / "decoder", is_decoder=True))
