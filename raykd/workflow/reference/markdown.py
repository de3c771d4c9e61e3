"""Reference of recipe files as a page of Markdown: a table of keys per section."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from raykd.config import Config, models_in
from raykd.training.settings import TrainingConfig
from raykd.workflow.recipe.corpora_recipe import CorporaRecipe
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.reference.json_schema import recipe_schema

_INTRODUCTION = """# Recipe reference

Generated from the code by `raykd schema --markdown`; a test fails when it is stale.

A recipe is a YAML file. Paths in it are relative to the file. Keys that are not listed here are
refused. `raykd init` writes a starter recipe whose first line lets editors complete and check its
keys (those with a YAML language server, such as VS Code with the YAML extension); `raykd schema`
prints the JSON schema that they read.

A default of "-" means that the key has no value unless it is given.
"""
_TITLES: Mapping[type[BaseModel], str] = {
    Recipe: "Recipe of a run (`raykd run`, `raykd tune`)",
    CorporaRecipe: "Recipe of several corpora (`raykd corpus`)",
    TrainingConfig: "Training settings",
}
_HEADER = "| key | values | default | description |\n|---|---|---|---|"
_WORDS = {
    "string": "text",
    "boolean": "true, false",
    "integer": "whole number",
    "number": "number",
    "object": "any",
}


def recipe_reference() -> str:
    """The page."""
    definitions = recipe_schema()["$defs"]
    uses: dict[type[BaseModel], list[str]] = {}
    for root in (Recipe, CorporaRecipe):
        for model, path in _sections(root, ""):
            uses.setdefault(model, []).append(path)
    parts = [_section(model, paths, definitions) for model, paths in uses.items()]
    return "\n".join([_INTRODUCTION, *parts])


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[type[BaseModel], str]]:
    """A model and those below it with their paths; training settings before their first use."""
    if issubclass(model, TrainingConfig) and model is not TrainingConfig:
        yield TrainingConfig, path
    yield model, path
    for key, field in _fields(model).items():
        for variant in models_in(field.annotation):
            middle = ".NAME" if _is_mapping(field) else ""
            yield from _sections(variant, f"{path}.{key}{middle}".removeprefix("."))


def _section(model: type[BaseModel], paths: list[str], definitions: Mapping[str, Any]) -> str:
    """Heading and table of one model."""
    name = model.model_fields.get("name")
    first, *others = [f"`{path}`" for path in dict.fromkeys(paths)]
    if model in _TITLES:
        title, others = _TITLES[model], [f"`{path}`" for path in dict.fromkeys(paths) if path]
    elif name is not None and _is_variant(model):
        title = f"{first} with `name: {name.default}`"
    else:
        title = first
    lines = [f"## {title}", ""]
    if others:
        lines += [f"{'Keys of' if model in _TITLES else 'Also'} {', '.join(others)}.", ""]
    if issubclass(model, TrainingConfig) and model is not TrainingConfig:
        lines += ["The keys of [training settings](#training-settings), and:", ""]
    properties = _properties(definitions[model.__name__])
    rows = [
        f"| `{key}` | {_cell(_values(properties[key]))} | {_cell(_default(field))} "
        f"| {_cell(field.description or '')} |"
        for key, field in _fields(model).items()
    ]
    return "\n".join([*lines, _HEADER, *rows, ""])


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by key, without those that are listed as training settings."""
    is_own = model is TrainingConfig or not issubclass(model, TrainingConfig)
    return {
        field.alias or name: field
        for name, field in model.model_fields.items()
        if is_own or name not in TrainingConfig.model_fields
    }


def _is_mapping(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", None) is dict


def _is_variant(model: type[BaseModel]) -> bool:
    return isinstance(model.model_fields["name"].default, str)


def _properties(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a section, which may have a short form besides."""
    for form in definition.get("anyOf", [definition]):
        if "properties" in form:
            found: Mapping[str, Any] = form["properties"]
            return found
    raise AssertionError(definition)


def _values(schema: Mapping[str, Any]) -> str:
    """Describe the allowed values of a key."""
    if "anyOf" in schema:
        forms = [_values(form) for form in schema["anyOf"] if form.get("type") != "null"]
        return " or ".join(dict.fromkeys(forms))
    if "$ref" in schema or "allOf" in schema:
        names = schema.get("properties", {}).get("name", {}).get("enum")
        return "section" if names is None else f"section with `name`: {', '.join(names)}"
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _list(schema)
    if schema.get("type") == "object":
        inner = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        known = schema.get("propertyNames", {}).get("enum")
        keys = "names" if known is None else f"keys {', '.join(known)}"
        values = next(one for one in inner if one)
        # In a JSON schema, true takes any value.
        return f"{keys} with values: {'any' if values is True else _values(values)}"
    return _WORDS.get(schema.get("type", "object"), "any") + _bounds(schema)


def _list(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(_values(item) for item in schema['prefixItems'])}]"
    fewest, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f" of {fewest} to {most}" if most else f" of at least {fewest}" if fewest > 1 else ""
    return f"list{count}: {_values(schema['items'])}"


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:,}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(bounds)}" if bounds else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is PydanticUndefined or isinstance(default, Config):
        return "see its keys"
    if default is None:
        return "-"
    if isinstance(default, float):
        return f"{default:.4g}"
    if isinstance(default, dict):
        return json.dumps({key: float(f"{value:.4g}") for key, value in default.items()})
    return default if isinstance(default, str) and default else json.dumps(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
