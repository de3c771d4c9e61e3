"""Any file given as a recipe: a valid recipe, or one clear error, within two seconds."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_fuzz import fuzzed

from raykd.config import dump_yaml
from raykd.errors import InputError
from raykd.storage.yaml_files import load_yaml
from raykd.workflow.checks.tune_checks import check_space
from raykd.workflow.recipe.corpora_recipe import load_corpora
from raykd.workflow.recipe.recipe_file import load_recipe

RECIPES = Path(__file__).resolve().parents[3] / "experiments" / "recipes"
LIMIT_S = 2.0
MAX_MESSAGE_LENGTH = 5000

WHOLE: dict[str, Any] = {
    "name": "whole",
    "seeds": [1, 2],
    "variants": ["tfidf", "alone", "direct", "random", "contextualized"],
    "task": {
        "name": "reviews",
        "train": "train.jsonl",
        "dev": "dev.jsonl",
        "sentence_columns": ["text"],
        "labels": ["bad", "good"],
        "metrics": ["accuracy"],
        "max_train_rows": 100,
    },
    "corpus": {"paths": ["corpus"], "units": {"policy": "packed", "max_words": 100}},
    "retrieval": {"top_k": 10, "ranker": "hybrid", "dense": {"model": "some/model"}},
    "contextualize": {"max_units": 100, "leak_ngram": 13, "near_duplicates": {}},
    "teacher": {"model": "some/model", "epochs": 2, "learning_rate": 1e-4},
    "student": {"num_layers": 3, "inits": ["bottom"]},
    "injection": {"objective": {"name": "minilmv2", "relation_heads": 12}, "num_steps": 10},
    "adaptation": {
        "objective": {"name": "ad2", "adversary": "freelb", "epsilon": 0.5},
        "epochs": 2,
        "keep": "best",
        "patience": 2,
        "score_every": 10,
    },
    "workers": {"num_workers": [1, 2], "models_at_once": 2},
    "report_to": ["tensorboard"],
    "tune": {
        "num_trials": 4,
        "space": {
            "adaptation.learning_rate": {"float": [1e-5, 1e-3], "log": True},
            "adaptation.objective.temperature": {"choice": [1.0, 2.0]},
            "adaptation.epochs": {"int": [1, 2]},
        },
    },
}


def dump(values: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False)
    return text


def survives(content: bytes, path: Path) -> bool:
    """Return True for a valid recipe; fail unless an invalid one is refused with a clear error."""
    path.write_bytes(content)
    started = time.process_time()
    try:
        recipe = load_recipe(path)
        if recipe.tune is not None:
            check_space(recipe)
    except InputError as error:
        message = str(error)
        assert len(message) < MAX_MESSAGE_LENGTH, content
        assert message.isprintable(), (content, message)
        return False
    finally:
        assert time.process_time() - started < LIMIT_S, content
    copy = path.with_suffix(".copy.yaml")
    copy.write_text(dump_yaml(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe, content
    return True


def test_the_base_recipe_is_valid(tmp_path):
    assert survives(dump(WHOLE).encode(), tmp_path / "recipe.yaml")


def survivors(tmp_path: Path, seeds: range) -> int:
    return sum(survives(fuzzed(WHOLE, seed), tmp_path / "recipe.yaml") for seed in seeds)


def test_varied_recipes_are_valid_or_clearly_refused(tmp_path):
    num_valid = survivors(tmp_path, range(300))
    assert 15 < num_valid < 225  # both outcomes occur


@pytest.mark.exhaustive
def test_ten_thousand_varied_recipes_are_valid_or_clearly_refused(tmp_path):
    assert survivors(tmp_path, range(1000, 11_000)) > 500


def test_varied_recipes_of_several_tasks_are_valid_or_clearly_refused(tmp_path):
    path = tmp_path / "corpora.yaml"
    base = load_yaml(RECIPES / "corpora.yaml")
    outcomes = set()
    for seed in range(100):
        path.write_bytes(fuzzed(base, seed))
        try:
            load_corpora(path)
            outcomes.add("valid")
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"valid", "refused"}


def test_a_boolean_is_not_a_number(tmp_path):
    path = tmp_path / "recipe.yaml"
    for key, written in (("score_every", "true"), ("learning_rate", "yes"), ("epochs", "on")):
        phase = {**WHOLE["adaptation"], key: "here"}
        text = dump(WHOLE | {"adaptation": phase}).replace("here", written)
        path.write_text(text)
        with pytest.raises(InputError, match=f"'adaptation.{key}': expected a number, not true"):
            load_recipe(path)


def test_aliases_that_expand_to_billions_of_values_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    path.write_text("\n".join(lines))
    started = time.process_time()
    with pytest.raises(InputError, match="aliases repeat values to more than"):
        load_recipe(path)
    assert time.process_time() - started < LIMIT_S


def test_an_alias_repeats_its_value(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert load_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
