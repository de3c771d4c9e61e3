"""JSON schema (draft 2020-12) of recipe files, for editors and other checkers of YAML.

It is generated from the models and differs from pydantic's in two points. A section whose key
`name` chooses its other keys, such as an objective, has one condition per name, so that editors
complete the keys of that name and a misspelt key is reported as such. Keys that a preset may supply
are required only in recipes without a preset.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from raykd.config import models_in
from raykd.tasks.glue import GLUE
from raykd.workflow.presets import load_preset, merged, preset_names
from raykd.workflow.recipe.corpora_recipe import CorporaRecipe
from raykd.workflow.recipe.recipe import Recipe

_FILE_NAME = "recipe.schema.json"


def recipe_schema() -> dict[str, Any]:
    """The schema of both kinds of recipe: with `tasks`, of corpora; else of a run."""
    _, schema = models_json_schema(
        [(Recipe, "validation"), (CorporaRecipe, "validation")], schema_generator=_Generator
    )
    definitions = _with_conditions(schema["$defs"], schema["$defs"])
    for definition in definitions.values():
        for form in (definition, *definition.get("anyOf", [])):
            form.pop("description", None)  # a docstring, for readers of the code
    supplied = _keys_of_presets()
    definitions["CorporaRecipe"]["allOf"] = [_requirements(CorporaRecipe, supplied)]
    definitions["Recipe"] |= {
        "if": {"required": ["preset"]},
        "else": _requirements(Recipe, supplied),
    }
    _drop_requirements(Recipe, supplied, definitions)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "raykd recipe",
        "description": "A recipe of `raykd run` and `raykd tune`, or, with the key `tasks`, of "
        "`raykd corpus`.",
        "type": "object",
        "if": {"required": ["tasks"]},
        "then": {"$ref": "#/$defs/CorporaRecipe"},
        "else": {"$ref": "#/$defs/Recipe"},
        "$defs": definitions,
    }


def recipe_schema_text() -> str:
    """The schema as text, as it is in `schema_file`."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


def schema_file() -> Path:
    """The schema in the installed package, for the first line of a recipe."""
    return Path(str(files(__package__).joinpath(_FILE_NAME)))


def _keys_of_presets() -> dict[str, Any]:
    """The keys that any preset supplies for any task, as a tree of a recipe's keys."""
    keys: dict[str, Any] = {}
    for preset in preset_names():
        for task in ("", *GLUE):
            keys = merged(keys, load_preset(preset, task))
    return keys


def _requirements(model: type[BaseModel], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that requires a model's required keys in a tree of keys."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    properties: dict[str, Any] = {}
    for key, inner in keys.items():
        variants = models_in(fields[key].annotation) if key in fields else []
        if not isinstance(inner, Mapping) or not variants:
            continue
        if len(variants) > 1:
            properties[key] = {"required": ["name"]}
        elif found := _requirements(variants[0], inner):
            properties[key] = found
    required = [key for key in keys if key in fields and fields[key].is_required()]
    schema: dict[str, Any] = {"required": required} if required else {}
    return schema | ({"properties": properties} if properties else {})


def _drop_requirements(
    model: type[BaseModel], keys: Mapping[str, Any], definitions: Mapping[str, Any]
) -> None:
    """Let keys of a tree be absent from a model's sections."""
    definition = definitions[model.__name__]
    if "required" in definition:
        definition["required"] = [key for key in definition["required"] if key not in keys]
    for name, field in model.model_fields.items():
        inner, variants = keys.get(field.alias or name), models_in(field.annotation)
        if isinstance(inner, Mapping) and len(variants) == 1:
            _drop_requirements(variants[0], inner, definitions)


class _Generator(GenerateJsonSchema):
    """pydantic's generator, without titles made from keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Keys are their own titles."""
        return False


def _with_conditions(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema in which variants are chosen by conditions on `name` instead of by `oneOf`.

    A section without `name`, which a preset or another section of the recipe completes, has the
    keys of any variant.
    """
    if isinstance(schema, list):
        return [_with_conditions(item, definitions) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {key: _with_conditions(value, definitions) for key, value in schema.items()}
    if "discriminator" not in result:
        return result
    del result["oneOf"]
    variants = result.pop("discriminator")["mapping"]
    keys = dict.fromkeys(
        key
        for reference in variants.values()
        for key in definitions[reference.rpartition("/")[2]]["properties"]
    )
    conditions = [
        {
            "if": {"required": ["name"], "properties": {"name": {"const": name}}},
            "then": {"$ref": reference},
        }
        for name, reference in variants.items()
    ]
    return result | {
        "type": "object",
        "properties": {"name": {"enum": list(variants)}},
        "allOf": conditions,
        "if": {"not": {"required": ["name"]}},
        "then": {"propertyNames": {"enum": list(keys)}},
    }
