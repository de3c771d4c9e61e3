"""A stage is rerun if any of its inputs has changed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import save_tiny_model, tiny_masked_lm

from raykd.errors import InputError
from raykd.storage.manifest import write_once
from raykd.workflow.checks.preflight import check_lengths, check_models
from raykd.workflow.corpus_stages import load_task
from raykd.workflow.generators import generator_of
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run
from raykd.workflow.scoring.jobs import max_length_of
from raykd.workflow.training_stages import adapt_job, inject_job

ROWS = [{"sentence": f"the film was {word}", "label": word} for word in ("good", "bad")]
LENGTHS = {"teacher": 36, "injection": 20, "adaptation": 24, "alone": 28}


@pytest.fixture
def run(tmp_path) -> Run:
    """Make a run with a loaded task and a placeholder for its teacher."""
    for split in ("train", "dev"):
        write_rows(tmp_path / f"{split}.jsonl", ROWS)
    for name in ("teacher", "student"):
        save_tiny_model(tmp_path / name)
    phases = {name: {"max_length": length} for name, length in LENGTHS.items()}
    phases["teacher"]["model"] = str(tmp_path / "teacher")
    phases["injection"]["objective"] = {"name": "vanilla_kd", "task_weight": 0}
    values = {
        "name": "tiny",
        "variants": ["alone", "task"],
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
def test_a_pretrained_student_is_trained_again_if_one_of_its_files_changes(run, tmp_path, name):
    def keys() -> list[str]:
        injected = inject_job(run, run.recipe.chain_of("task"), "pretrained", 1)
        return [injected.key(), adapt_job(run, "alone", "pretrained", 1).key()]

    before = keys()
    assert keys() == before
    with (tmp_path / "student" / name).open("ab") as file:
        file.write(b" ")

    assert not set(keys()) & set(before)


def save_masked_lm(folder: Path) -> Path:
    """Save a masked language model with the tokenizer of the other models."""
    save_tiny_model(folder)
    tiny_masked_lm().model.save_pretrained(folder)
    return folder


def with_generator(run: Run, generator: object) -> Run:
    generator = str(generator) if isinstance(generator, Path) else generator
    objective = {"name": "mate_kd", "generator": generator, "task_weight": 0}
    values = {f"{phase}.objective": objective for phase in ("injection", "adaptation")}
    return replace(run, recipe=run.recipe.with_values(values, "test"))


def test_a_student_is_trained_again_if_a_generator_file_changes_but_not_its_path(run, tmp_path):
    def keys(generator: Path) -> list[str]:
        changed = with_generator(run, generator)
        return [
            inject_job(changed, changed.recipe.chain_of("task"), "pretrained", 1).key(),
            adapt_job(changed, "task", "pretrained", 1, injected=run.teacher).key(),
            adapt_job(changed, "alone", "pretrained", 1).key(),
        ]

    first, second = (save_masked_lm(tmp_path / name) for name in ("generator", "elsewhere"))
    before = keys(first)
    assert keys(second) == before
    with (second / "config.json").open("ab") as file:
        file.write(b" ")

    after = keys(second)
    assert not set(after[:2]) & set(before[:2])
    assert after[2] == before[2]


def test_a_generator_with_other_tokens_is_refused_before_any_training(run, tmp_path):
    generator = save_masked_lm(tmp_path / "generator")
    check_models(with_generator(run, generator))

    tokens = (generator / "tokenizer.json").read_text()
    (generator / "tokenizer.json").write_text(tokens.replace('"film"', '"movie"'))
    with pytest.raises(
        InputError, match=r"generator .*tokenizers.*remove objective.generator.model"
    ):
        check_models(with_generator(run, generator))

    shutil.copy(tmp_path / "teacher" / "tokenizer.json", generator)
    config = json.loads((generator / "config.json").read_text())
    (generator / "config.json").write_text(json.dumps(config | {"vocab_size": 60}))
    with pytest.raises(InputError, match="the generator has word embeddings of 60 tokens"):
        check_models(with_generator(run, generator))


def test_a_generator_without_a_head_is_refused_at_preflight_with_both_remedies(run, tmp_path):
    teacher = tmp_path / "teacher"
    save_masked_lm(tmp_path / "trained")
    lines = check_models(with_generator(run, tmp_path / "trained"))
    assert f"  generator  {tmp_path / 'trained'}, masked-LM head of its checkpoint" in lines

    # The default generator is the pretrained teacher, here a classifier; RUN/teacher has no effect.
    message = (
        rf"model {teacher}: its checkpoint has no masked-language-model head \(6 of .*; name a "
        r"masked language model .*objective.generator.model, .* or .*generator.train_head: "
    )
    for generator in (teacher, None, {"model": str(teacher)}):
        with pytest.raises(InputError, match=message):
            check_models(with_generator(run, generator))
    with pytest.raises(InputError, match=message):
        inject_job(with_generator(run, None), run.recipe.chain_of("task"), "pretrained", 1)

    head = {"train_head": {"num_steps": 7, "batch_size": 2, "text": "task", "max_length": 40}}
    lines = check_models(with_generator(run, head))
    note = "masked-LM head trained first: 7 steps of 2 rows on the task's training rows"
    assert f"  generator  {teacher}, {note}" in lines
    changed = with_generator(run, head)
    # Both phases need the same head, which is trained once.
    folder = str(run.out / "generator" / "injection")
    recipe = changed.recipe
    assert [generator_of(changed, p) for p in (recipe.injection, recipe.adaptation)] == [folder] * 2


def test_no_head_is_trained_if_the_checkpoint_has_one(run, tmp_path):
    named = str(save_masked_lm(tmp_path / "named"))
    changed = with_generator(run, {"model": named, "train_head": {"text": "task", "max_length": 8}})
    assert any("train_head is not needed" in line for line in check_models(changed))
    assert generator_of(changed, changed.recipe.injection) == named


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ({"text": "task", "max_length": 41}, "train_head.max_length 41: .* at most 40"),
        ({"text": "corpus"}, "train_head.text 'corpus' needs the section corpus"),
        ({"text": "task", "num_steps": 0}, "train_head.num_steps"),
        ({"text": "wikipedia"}, "train_head.text"),
        ({"steps": 3}, "unknown key .*train_head.steps"),
    ],
)
def test_invalid_head_settings_are_refused_before_any_training(run, head, problem):
    with pytest.raises(InputError, match=problem):
        check_models(with_generator(run, {"train_head": head}))


@pytest.mark.parametrize("generator", [5, ["name"], True, " "])
def test_a_generator_other_than_a_name_or_section_is_refused(run, generator):
    with pytest.raises(InputError, match="objective.*generator.*(expected|model is empty)"):
        with_generator(run, generator)


def test_a_learning_curve_is_computed_again_if_dev_changes(run, tmp_path):
    before = adapt_job(run, "alone", "pretrained", 1).key()
    write_rows(tmp_path / "dev.jsonl", ROWS[::-1])
    load_task(run)

    assert adapt_job(run, "alone", "pretrained", 1).key() != before


def test_every_model_is_evaluated_at_its_training_length(run):
    recipe = run.recipe
    lengths = {
        "teacher": max_length_of(recipe, "teacher", "teacher"),
        "injection": max_length_of(recipe, "task", "injected"),
        "adaptation": max_length_of(recipe, "task", "adapted"),
        "alone": max_length_of(recipe, "alone", "adapted"),
    }
    assert lengths == LENGTHS


@pytest.mark.parametrize("phase", LENGTHS)
def test_a_max_length_beyond_the_models_is_refused_before_any_training(run, phase):
    check_lengths(run.recipe.with_values({f"{phase}.max_length": 40}, "test"))

    with pytest.raises(InputError, match=rf"{phase}.max_length 41: .*at most 40 tokens; set it"):
        check_lengths(run.recipe.with_values({f"{phase}.max_length": 41}, "test"))
