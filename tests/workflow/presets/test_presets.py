"""Presets as data: every value has its source, and every preset gives a valid recipe."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from raykd.errors import InputError
from raykd.objectives import OBJECTIVES
from raykd.workflow.checks.describe import describe_preset
from raykd.workflow.presets import load_preset, merged, preset_names, preset_row
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.tune.tuning import check_space

TASKS = ("cola", "mrpc", "stsb", "sst2", "rte", "mnli", "qnli", "qqp", "mine")
every_preset = pytest.mark.parametrize("name", preset_names())


def leaves(tree: dict, path: str = "") -> dict[str, dict]:
    items_by_path = {}
    for key, item in tree.items():
        if isinstance(item, dict) and "value" not in item:
            items_by_path |= leaves(item, f"{path}{key}.")
        else:
            items_by_path[f"{path}{key}"] = item
    return items_by_path


@every_preset
def test_every_value_has_its_source(name):
    tree = yaml.safe_load((files("raykd.workflow.presets") / f"{name}.yaml").read_text())

    assert {"row", "all"} <= tree.keys() <= {"row", "all", "tasks"}
    for path, leaf in leaves({key: tree[key] for key in tree if key != "row"}).items():
        assert isinstance(leaf, dict), path
        assert leaf.keys() == {"value", "source"}, path
        assert isinstance(leaf["source"], str), path


@every_preset
@pytest.mark.parametrize("task", TASKS)
def test_every_preset_gives_a_recipe_for_every_task(name, task, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(name, task)))

    recipe = load_recipe(path)

    names = {phase.objective.name for phase in (recipe.injection, recipe.adaptation) if phase}
    assert name == "contextualized" or name in names


def recipe_of(preset: str, task: str, **changes) -> dict:
    values = {
        "name": "mine",
        "preset": preset,
        "task": {"name": task, "train": "a.jsonl", "dev": "b.jsonl", "sentence_columns": ["text"]},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 3},
    }
    needs_corpus = preset in ("contextualized", "minilmv2", "codir_pretraining")
    if needs_corpus:
        values |= {"corpus": {"paths": ["corpus"]}, "retrieval": {"top_k": 5}, "adaptation": {}}
    return values | changes


@every_preset
def test_every_preset_names_its_row_and_paper(name):
    row = preset_row(name)

    assert re.search(r"\((\w+) et al\. 20\d\d\)", row), row
    assert re.search(r"[Tt]ables?\b", row), row
    assert "\n" not in row
    assert describe_preset(name) == [f"preset        {name}: {row}"]


def test_every_objective_has_a_preset():
    assert set(OBJECTIVES) <= set(preset_names())


def test_values_of_a_task_override_those_of_all_tasks(tmp_path):
    assert load_preset("cilda", "sst2")["adaptation"]["objective"]["generator_steps"] == 10
    assert load_preset("cilda", "rte")["adaptation"]["objective"]["generator_steps"] == 20


def test_the_recipe_overrides_the_preset(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of("pkd", "mrpc", adaptation={"batch_size": 7})))

    recipe = load_recipe(path)

    assert recipe.adaptation.batch_size == 7
    assert recipe.adaptation.learning_rate == 2e-5
    assert recipe.adaptation.objective.temperature == 20


def test_another_objective_gets_no_objective_settings_of_the_preset(tmp_path):
    path = tmp_path / "recipe.yaml"
    other = {"objective": {"name": "vanilla_kd"}}
    path.write_text(yaml.safe_dump(recipe_of("pkd", "mrpc", adaptation=other)))

    recipe = load_recipe(path)

    assert recipe.adaptation.objective.name == "vanilla_kd"
    assert recipe.adaptation.objective.temperature == 1
    assert recipe.adaptation.learning_rate == 2e-5


def test_a_student_with_its_own_model_or_layers_ignores_the_presets_init(tmp_path):
    for student, inits in (
        ({"num_layers": 3}, ("bottom",)),
        ({"num_layers": 3, "inits": ["top"]}, ("top",)),
        ({"model": "distilbert-base-uncased"}, ("pretrained",)),
        ({"layers": [1, 5, 9]}, ("layers",)),
        ({"model": "bert-base-uncased", "num_layers": 3, "inits": ["skip"]}, ("skip",)),
    ):
        recipe = loaded(tmp_path, recipe_of("pkd", "mrpc", student=student))
        assert recipe.student.inits == inits


@every_preset
def test_a_presets_search_space_can_be_tuned(name, tmp_path):
    recipe = loaded(tmp_path, recipe_of(name, "mrpc"))

    if recipe.tune is not None:
        check_space(recipe)


def test_a_search_space_in_the_recipe_replaces_the_presets(tmp_path):
    search = {"space": {"adaptation.epochs": {"int": [1, 4]}}}

    recipe = loaded(tmp_path, recipe_of("pkd", "mrpc", tune=search))

    assert list(recipe.tune.space) == ["adaptation.epochs"]


def test_another_objective_ignores_the_presets_search_space(tmp_path):
    other = {"objective": {"name": "fine_tune"}}

    assert loaded(tmp_path, recipe_of("pkd", "mrpc", adaptation=other)).tune is None
    assert loaded(tmp_path, recipe_of("pkd", "mrpc", adaptation={"epochs": 2})).tune is not None


def loaded(folder: Path, values: dict) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_recipe(path)


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of("pdk", "mrpc", adaptation={})))

    with pytest.raises(InputError, match=r"recipe.yaml: preset 'pdk': there is none; choose .*pkd"):
        load_recipe(path)


def test_trees_are_merged_key_by_key():
    base = {"a": {"b": 1, "c": 2}, "d": [1, 2]}

    assert merged(base, {"a": {"c": 3}, "d": [4]}) == {"a": {"b": 1, "c": 3}, "d": [4]}
    assert base["a"]["c"] == 2
    assert merged({"name": "x", "a": 1}, {"name": "y", "b": 2}) == {"name": "y", "b": 2}
    assert merged({"name": "x", "a": 1}, {"b": 2}) == {"name": "x", "a": 1, "b": 2}


def test_task_da_injection_needs_augmented_rows_and_the_presets_objective(tmp_path):
    variants = {"variants": ["contextualized_task_da"], "task_da": "augmented"}
    other = {"objective": {"name": "vanilla_kd", "task_weight": 0}}

    assert loaded(tmp_path, recipe_of("contextualized", "cola")).task_da_injection is None
    task_da_injection = loaded(
        tmp_path, recipe_of("contextualized", "cola", **variants)
    ).task_da_injection
    assert (task_da_injection.epochs, task_da_injection.learning_rate) == (50, 1e-4)
    recipe = loaded(tmp_path, recipe_of("contextualized", "cola", **variants, injection=other))
    assert recipe.task_da_injection is None


def test_a_first_injection_on_augmented_rows_uses_the_injection_settings(tmp_path):
    """The short schedule is for students with an earlier injection."""
    variants = {"variants": ["task_da", "contextualized_task_da"], "task_da": "augmented"}

    recipe = loaded(tmp_path, recipe_of("contextualized", "cola", **variants))

    first, (_, second) = (recipe.chain_of(variant).steps for variant in variants["variants"])
    first, second = map(recipe.injection_of, (*first, second))
    assert (first.learning_rate, first.num_steps) == (6e-4, 400_000)
    assert (second.learning_rate, second.num_steps, second.epochs) == (1e-4, None, 50)
    names = {step.outputs_name for step in recipe.steps}
    assert len(names) == len(recipe.steps)
    alone = recipe_of("contextualized", "cola", variants=["task_da"], task_da="augmented")
    assert loaded(tmp_path, alone).task_da_injection is None


def test_task_da_injection_is_refused_without_a_variant_that_uses_it(tmp_path):
    values = recipe_of("contextualized", "cola", variants=["task_da"], task_da="augmented")
    values["task_da_injection"] = {"learning_rate": 1e-4}

    with pytest.raises(InputError, match="task_da_injection: .* a first step takes the settings"):
        loaded(tmp_path, values)


def test_tinyberts_second_stage_uses_augmented_rows_if_given(tmp_path):
    variants = {"variants": ["task", "task_da"], "task_da": "augmented"}

    assert loaded(tmp_path, recipe_of("tinybert", "cola")).adaptation.rows == "task"
    recipe = loaded(tmp_path, recipe_of("tinybert", "cola", **variants))
    assert [recipe.adaptation_text(variant) for variant in recipe.variants] == [
        "train",
        "augmented",
    ]
    own = recipe_of("tinybert", "cola", adaptation={"rows": "task_da"})
    with pytest.raises(InputError, match="there are no augmented rows; give the key task_da"):
        loaded(tmp_path, own)
