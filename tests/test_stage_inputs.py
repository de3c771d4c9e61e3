"""A stage is done anew when anything that it reads has changed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import save_tiny_model, tiny_masked_lm

from raykd.collect import _max_length
from raykd.corpus_stages import load_task
from raykd.errors import InputError
from raykd.manifest import write_once
from raykd.preflight import check_lengths, check_models
from raykd.recipe import Recipe
from raykd.run import Run
from raykd.training_stages import adapt_job, inject_job

ROWS = [{"sentence": f"the film was {word}", "label": word} for word in ("good", "bad")]
LENGTHS = {"teacher": 36, "injection": 20, "adaptation": 24, "alone": 28}


@pytest.fixture
def run(tmp_path) -> Run:
    """A run whose task is loaded, with something in the place of its teacher."""
    for split in ("train", "dev"):
        write_rows(tmp_path / f"{split}.jsonl", ROWS)
    for name in ("teacher", "student"):
        save_tiny_model(tmp_path / name)
    phases = {name: {"max_length": length} for name, length in LENGTHS.items()}
    phases["teacher"]["model"] = str(tmp_path / "teacher")
    phases["injection"]["objective"] = {"name": "vanilla_kd", "task_weight": 0}
    values = {
        "name": "tiny",
        "arms": ["alone", "task"],
        "task": {
            "name": "reviews",
            "train": str(tmp_path / "train.jsonl"),
            "dev": str(tmp_path / "dev.jsonl"),
            "sentence_columns": ["sentence"],
        },
        "student": {"model": str(tmp_path / "student")},
        **phases,
    }
    run = Run(Recipe.parse(values, "recipe"), tmp_path / "out", tmp_path / "out" / "units")
    load_task(run)
    write_once(run.teacher, "teacher", {}, {}, lambda draft: None)
    return run


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_pretrained_student_is_trained_again_when_a_file_of_it_changes(run, tmp_path, name):
    def keys() -> list[str]:
        injected = inject_job(run, run.recipe.chain_of("task"), "pretrained", 1)
        return [injected.key(), adapt_job(run, "alone", "pretrained", 1).key()]

    before = keys()
    assert keys() == before
    with (tmp_path / "student" / name).open("ab") as file:
        file.write(b" ")

    assert not set(keys()) & set(before)


def with_generator(run: Run, model: Path) -> Run:
    objective = {"name": "mate_kd", "generator": str(model), "task_weight": 0}
    values = {f"{phase}.objective": objective for phase in ("injection", "adaptation")}
    return replace(run, recipe=run.recipe.with_values(values, "test"))


def test_a_student_is_trained_again_when_a_file_of_its_generator_changes_but_not_its_place(
    run, tmp_path
):
    def keys(generator: Path) -> list[str]:
        changed = with_generator(run, generator)
        return [
            inject_job(changed, changed.recipe.chain_of("task"), "pretrained", 1).key(),
            adapt_job(changed, "task", "pretrained", 1, injected=run.teacher).key(),
            adapt_job(changed, "alone", "pretrained", 1).key(),
        ]

    first, second = (save_tiny_model(tmp_path / name) for name in ("generator", "elsewhere"))
    before = keys(first)
    assert keys(second) == before
    with (second / "model.safetensors").open("ab") as file:
        file.write(b" ")

    after = keys(second)
    assert not set(after[:2]) & set(before[:2])
    assert after[2] == before[2]


def test_a_generator_with_other_tokens_is_refused_before_any_training(run, tmp_path):
    generator = save_tiny_model(tmp_path / "generator")
    check_models(with_generator(run, generator))

    tokens = (generator / "tokenizer.json").read_text()
    (generator / "tokenizer.json").write_text(tokens.replace('"film"', '"movie"'))
    with pytest.raises(InputError, match=r"generator .*tokenizers.*leave out objective.generator"):
        check_models(with_generator(run, generator))

    shutil.copy(tmp_path / "teacher" / "tokenizer.json", generator)
    config = json.loads((generator / "config.json").read_text())
    (generator / "config.json").write_text(json.dumps(config | {"vocab_size": 60}))
    with pytest.raises(InputError, match="the generator has word embeddings of 60 tokens"):
        check_models(with_generator(run, generator))


def test_the_user_is_told_of_a_generator_whose_head_is_random(run, tmp_path):
    classifier = save_tiny_model(tmp_path / "generator")
    tiny_masked_lm().model.save_pretrained(tmp_path / "trained")
    for path in classifier.glob("token*"):
        shutil.copy(path, tmp_path / "trained")

    def told(generator: Path) -> str:
        return "\n".join(check_models(with_generator(run, generator)))

    assert f"generator begins with a random head, for {classifier} has none" in told(classifier)
    assert "random head" not in told(tmp_path / "trained")


def test_a_learning_curve_is_drawn_again_when_dev_changes(run, tmp_path):
    before = adapt_job(run, "alone", "pretrained", 1).key()
    write_rows(tmp_path / "dev.jsonl", ROWS[::-1])
    load_task(run)

    assert adapt_job(run, "alone", "pretrained", 1).key() != before


def test_every_model_is_scored_at_the_length_it_was_trained_with(run):
    recipe = run.recipe
    lengths = {
        "teacher": _max_length(recipe, "teacher", "teacher"),
        "injection": _max_length(recipe, "task", "injected"),
        "adaptation": _max_length(recipe, "task", "adapted"),
        "alone": _max_length(recipe, "alone", "adapted"),
    }
    assert lengths == LENGTHS


@pytest.mark.parametrize("phase", LENGTHS)
def test_texts_longer_than_a_model_reads_are_refused_before_any_training(run, phase):
    check_lengths(run.recipe.with_values({f"{phase}.max_length": 40}, "test"))

    with pytest.raises(InputError, match=rf"{phase}.max_length 41: .*at most 40 tokens; set it"):
        check_lengths(run.recipe.with_values({f"{phase}.max_length": 41}, "test"))
