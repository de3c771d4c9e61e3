"""Every recipe key has a description."""

import pytest
from pydantic import BaseModel

from raykd.config import models_in
from raykd.workflow.recipe.corpora_recipe import CorporaRecipe
from raykd.workflow.recipe.recipe import Recipe


def models() -> list[type[BaseModel]]:
    """List every settings class that a recipe may contain."""
    classes: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [Recipe, CorporaRecipe]
    while waiting:
        model = waiting.pop()
        if model not in classes:
            classes.append(model)
            for field in model.model_fields.values():
                waiting += models_in(field.annotation)
    return classes


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_key_has_a_description_in_sentences(model):
    for name, field in model.model_fields.items():
        text = field.description or ""
        assert len(text.split()) >= 2, f"{model.__name__}.{name}: no description"
        assert text.endswith("."), f"{model.__name__}.{name}: {text}"
        assert text == " ".join(text.split()), f"{model.__name__}.{name}: white space"


def test_all_sections_are_reached():
    names = {model.__name__ for model in models()}
    assert len(names) >= 42
    assert {"Bm25Config", "TrainHeadConfig", "StepConfig", "Parameter", "IvfConfig"} <= names
