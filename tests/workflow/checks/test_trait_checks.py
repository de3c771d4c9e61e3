"""Preflight: models are run on short texts before any stage."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from families import FAMILIES, make_tokenizer, save_model
from transformers import AutoModelForMaskedLM

from raykd.errors import InputError
from raykd.storage.schemas import TRAINING_PAIRS, TRAINING_TEXT
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run

BASE = {
    "name": "tiny",
    "variants": ["direct"],
    "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
    "student": {"num_layers": 1},
}


def check_recipe(folder: Path, **changes) -> None:
    teacher = {"model": str(folder / "teacher"), "max_length": 16}
    recipe = Recipe.parse(BASE | {"teacher": teacher} | changes, "recipe")
    check_models(Run(recipe, folder / "out", folder / "out" / "units"))


def save_generator(folder: Path, **changes) -> Path:
    config = FAMILIES["bert"](1)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("objective", ["cilda", "mate_kd"])
def test_a_left_to_right_generator_is_refused_before_any_stage(tmp_path, objective):
    save_model(tmp_path / "teacher", "bert")

    def check(generator: Path) -> None:
        phase = {"objective": {"name": objective, "generator": str(generator)}, "max_length": 16}
        check_recipe(tmp_path, adaptation=phase)

    check(save_generator(tmp_path / "fits"))
    with pytest.raises(
        InputError, match=rf"adaptation\.objective {objective}: generator .*left to right"
    ):
        check(save_generator(tmp_path / "decoder", is_decoder=True))


@pytest.mark.parametrize(
    ("columns", "fits", "message"),
    [
        (["a", "b"], TRAINING_PAIRS, "holds single sentences, and a row of the task is a pair"),
        (["a"], TRAINING_TEXT, "holds pairs, and a row of the task is one sentence"),
    ],
)
def test_augmented_text_without_the_tasks_pairs_is_refused(tmp_path, columns, fits, message):
    save_model(tmp_path / "teacher", "bert")
    phase = {"objective": {"name": "vanilla_kd", "task_weight": 0}, "max_length": 16}
    changes = {
        "variants": ["task_da"],
        "task_da": str(tmp_path),
        "task": BASE["task"] | {"sentence_columns": columns},
        "injection": phase,
        "adaptation": {"max_length": 16},
    }

    def write(schema: pa.Schema) -> None:
        pq.write_table(schema.empty_table(), tmp_path / "text.parquet")

    (tmp_path / "textbook.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"by an earlier version of raykd\); run raykd augment"):
        check_recipe(tmp_path, **changes)
    write(fits)
    check_recipe(tmp_path, **changes)
    write(TRAINING_TEXT if fits == TRAINING_PAIRS else TRAINING_PAIRS)
    with pytest.raises(InputError, match=f"{message}.*; run raykd augment again"):
        check_recipe(tmp_path, **changes)
    (tmp_path / "text.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"text\.parquet: cannot be read"):
        check_recipe(tmp_path, **changes)
