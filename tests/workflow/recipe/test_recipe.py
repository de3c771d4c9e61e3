"""Recipes: shipped recipes load and survive a round trip; mistakes are reported by path."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from raykd.config import RENAMED_KEYS, RENAMED_NAMES, dump_yaml, models_in
from raykd.errors import InputError
from raykd.storage.yaml_files import load_yaml
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.recipe_file import load_recipe

RECIPES = Path(__file__).resolve().parents[3] / "experiments" / "recipes"
OTHER = {RECIPES / "corpora.yaml"}
SHIPPED = sorted(set(RECIPES.rglob("*.yaml")) - OTHER)


def minimal() -> dict:
    return {
        "name": "minimal",
        "variants": ["alone"],
        "task": {"name": "rte"},
        "teacher": {"model": "some/model"},
        "student": {"num_layers": 3},
        "adaptation": {},
    }


def problem_of(values: dict) -> str:
    with pytest.raises(InputError) as caught:
        Recipe.parse(values, "recipe.yaml")
    return str(caught.value)


def test_recipes_are_shipped():
    assert {path.stem for path in SHIPPED} >= {"quickstart", "mrpc", "stsb", "cola", "sst2"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_is_unchanged_by_a_round_trip(path, tmp_path):
    recipe = load_recipe(path)
    copy = tmp_path / "resolved.yaml"
    copy.write_text(dump_yaml(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe


def test_a_search_space_is_unchanged_by_a_round_trip(tmp_path):
    space = {
        "adaptation.learning_rate": {"float": [1e-5, 1e-3], "log": True},
        "adaptation.epochs": {"int": [2, 6]},
        "student.num_layers": {"choice": [2, 3]},
    }
    recipe = Recipe.parse(minimal() | {"tune": {"space": space}}, "recipe.yaml")
    copy = tmp_path / "resolved.yaml"
    copy.write_text(dump_yaml(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe
    assert load_yaml(copy)["tune"]["space"]["adaptation.epochs"]["int"] == [2, 6]


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_the_old_name_of_a_key_is_refused_with_the_new_name(old):
    values = minimal() | {
        "corpus": {"paths": ["corpus"]},
        "retrieval": {"top_k": 3},
        "tune": {"space": {"adaptation.epochs": {"int": [2, 6]}}},
    }
    *sections, key = old.split(".")
    section = values[sections[0]] if sections else values
    section[key] = "anything"
    assert problem_of(values) == f"recipe.yaml: `{old}:` is now `{RENAMED_KEYS[old]}:`"


@pytest.mark.parametrize("new", RENAMED_KEYS.values())
def test_the_new_name_of_a_renamed_key_exists(new):
    values = minimal() | {
        "retrieval": {"top_k": 3},
        "tune": {"space": {"adaptation.epochs": {"int": [2, 6]}}},
    }
    tree = Recipe.parse(values, "recipe.yaml").model_dump()
    for key in new.split("."):
        assert key in tree
        tree = tree[key]


def places_of(
    name: str, model: type[BaseModel] = Recipe, path: tuple[str, ...] = (), tags: tuple = ()
) -> Iterator[tuple[tuple[str, ...], tuple]]:
    """Paths of the sections with a key of this name, and the tags of unions on the way."""
    if name in model.model_fields:
        yield path, tags
    for key, field in model.model_fields.items():
        for inner in models_in(field.annotation):
            steps = (key, "mine") if key in ("injections", "corpora") else (key,)
            tag = inner.model_fields["name"].default if "name" in inner.model_fields else None
            inner_path = (*path, *steps)
            inner_tags = (*tags, (inner_path, tag)) if isinstance(tag, str) else tags
            yield from places_of(name, inner, inner_path, inner_tags)


RENAMED_PLACES = [(old, *place) for old, new in RENAMED_NAMES.items() for place in places_of(new)]


def test_renamed_names_are_in_sections_of_every_phase():
    places = {(old, ".".join(path)) for old, path, _ in RENAMED_PLACES}
    phases = {"adaptation", "injection", "injections.mine", "task_da_injection"}
    assert {path for old, path in places if old == "max_tokens_per_pass"} >= {*phases, "teacher"}
    expected = {f"{phase}.objective" for phase in phases}
    assert {path for old, path in places if old == "initialisation"} == expected  # word list: ok
    assert ("num_neighbours", "retrieval.dense.index") in places  # word list: ok


@pytest.mark.parametrize(("old", "path", "tags"), RENAMED_PLACES)
def test_a_renamed_name_is_refused_wherever_its_section_is(old, path, tags):
    values = minimal()

    def section_at(keys: tuple[str, ...]) -> dict:
        section = values
        for key in keys:
            section = section.setdefault(key, {})
        return section

    for place, tag in tags:
        section_at(place)["name"] = tag
    section_at(path)[old] = "anything"
    section = ".".join(path)
    assert f"`{section}.{old}:` is now `{section}.{RENAMED_NAMES[old]}:`" in problem_of(values)


def test_a_recipe_of_an_earlier_version_names_all_renamed_keys_at_once(tmp_path):
    old = minimal() | {"preset": "pkd", "arms": ["direct"], "search": None}
    del old["variants"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    with pytest.raises(InputError, match=r"`arms:` is now `variants:`; `search:` is now `tune:`"):
        load_recipe(tmp_path / "old.yaml")


def test_a_key_of_another_objective_is_refused_with_its_path():
    objective = {"name": "vanilla_kd", "relation_heads": 12}
    message = problem_of(minimal() | {"adaptation": {"objective": objective}})
    assert "unknown key 'adaptation.objective.relation_heads'" in message


def test_an_unknown_objective_is_refused_with_the_nearest():
    message = problem_of(minimal() | {"adaptation": {"objective": {"name": "vanila_kd"}}})
    assert "'adaptation.objective.name': unknown value 'vanila_kd'" in message
    assert "did you mean 'vanilla_kd'?" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"variants": ["random"]}, "variants ['random'] need the sections corpus and retrieval"),
        ({"variants": ["task"]}, "need section injection"),
        (
            {"variants": ["task"], "injection": {"objective": {"name": "fine_tune"}}},
            "injection.objective 'fine_tune' needs labels",
        ),
        (
            {"adaptation": {"objective": {"name": "tinybert"}}},
            "adaptation.objective 'tinybert' trains no classifier",
        ),
        ({"variants": ["task_da"]}, "variants with the step task_da need the key task_da"),
        ({"variants": ["contextualized_task_da"]}, "need the sections corpus and retrieval"),
        (
            {
                "variants": ["task_da"],
                "task_da": "augmented",
                "task": {"name": "rte", "dev_fraction": 0.1},
            },
            "task_da: its text has variants of the dev rows that task.dev_fraction cuts",
        ),
        (
            {"task_da": "augmented"},
            "task_da: no variant has a step on augmented rows; add the variant",
        ),
        (
            {"task_da_injection": {"objective": {"name": "minilmv2"}}},
            "task_da_injection: nothing is injected on augmented rows",
        ),
        (
            {
                "variants": ["task_da"],
                "task_da": "augmented",
                "injection": {"objective": {"name": "minilmv2"}},
                "task_da_injection": {"objective": {"name": "tinybert"}},
            },
            "task_da_injection.objective 'tinybert': 'minilmv2', as in injection, is expected",
        ),
        ({"seeds": [1, 1]}, "seeds [1, 1]: a value appears twice"),
        ({"report_to": ["wandb", "wandb"]}, "report_to ['wandb', 'wandb']: a value appears twice"),
        ({"report_to": ["comet"]}, "'tensorboard', 'wandb' or 'mlflow', not 'comet'"),
        ({"report_to": "wandb"}, "key 'report_to': expected a list [...], not 'wandb'"),
        ({"task": {"name": "rte", "dev": "docstrings:dev"}}, "needs the section docstrings"),
        ({"corpus": {"paths": ["docstrings:corpus"]}}, "needs the section docstrings"),
        ({"name": "../escape"}, "'name'"),
        ({"tune": {"space": {"adaptation.epochs": {}}}}, "give exactly one of float"),
        ({"tune": {"space": {"adaptation.epochs": {"int": [4, 2]}}}}, "low must be below high"),
    ],
)
def test_incompatible_sections_are_refused(changes, expected):
    assert expected in problem_of(minimal() | changes)


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("injection", "keep", "best", "injection.keep: students are not scored in this phase"),
        ("injection", "score_every", 5, "injection.score_every: students are not scored"),
        ("adaptation", "patience", 2, "set keep: best as well"),
        (
            "adaptation",
            "max_tokens_per_micro_batch",
            64,
            "with 'codir' a row's loss depends on its whole batch",
        ),
    ],
)
def test_contradictory_training_settings_are_refused(section, key, value, expected):
    phases = {
        "variants": ["task"],
        "injection": {"objective": {"name": "minilmv2"}},
        "adaptation": {"objective": {"name": "codir"}},
    }
    phases[section] = phases[section] | {key: value}
    assert expected in problem_of(minimal() | phases)


def test_values_are_set_by_path_and_checked():
    recipe = Recipe.parse(minimal(), "recipe.yaml")
    changed = recipe.with_values({"adaptation.learning_rate": 0.01}, "trial")
    assert changed.adaptation.learning_rate == 0.01
    assert recipe.adaptation.learning_rate == 5e-5
    with pytest.raises(InputError, match=r"no key 'adaptation.learning'"):
        recipe.with_values({"adaptation.learning": 1}, "trial")
    with pytest.raises(InputError, match="learning_rate"):
        recipe.with_values({"adaptation.learning_rate": -1}, "trial")


@pytest.mark.parametrize("section", ["teacher", "student"])
def test_a_model_next_to_the_recipe_is_found_from_any_directory_and_a_name_is_unchanged(
    tmp_path, section
):
    (tmp_path / "models").mkdir()
    path = tmp_path / "recipe.yaml"
    for model, expected in (("models", str(tmp_path / "models")), ("some/name", "some/name")):
        path.write_text(yaml.safe_dump(minimal() | {section: {"model": model}}))
        assert getattr(load_recipe(path), section).model == expected


def test_a_generator_next_to_the_recipe_is_found_from_any_directory(tmp_path):
    (tmp_path / "models").mkdir()
    path = tmp_path / "recipe.yaml"
    phases = {
        phase: {"objective": {"name": "cilda", "generator": model, "task_weight": 0}}
        for phase, model in (("injection", "models"), ("adaptation", "some/name"))
    }
    path.write_text(yaml.safe_dump(minimal() | phases))

    recipe = load_recipe(path)

    assert recipe.injection.objective.generator.model == str(tmp_path / "models")
    assert recipe.adaptation.objective.generator.model == "some/name"


def test_a_recipe_of_several_tasks_is_refused_with_its_command(tmp_path):
    path = tmp_path / "corpora.yaml"
    path.write_text("tasks: []")
    with pytest.raises(InputError, match=r"names several tasks; raykd corpus makes"):
        load_recipe(path)


def test_yaml_tags_for_python_objects_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(minimal()) + "alone: !!python/name:os.system\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load_recipe(path)


def test_the_readmes_recipe_is_valid():
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    recipe = Recipe.parse(yaml.safe_load(block), "README.md")
    assert recipe.tune is not None
