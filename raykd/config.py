"""Typed, frozen settings, and their way from and to YAML."""

import difflib
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raykd.errors import InputError


class Config(BaseModel):
    """Base of every settings class: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str) -> Self:
        """Validate `values`.

        Raises:
            InputError: names `source`, the path of each wrong key, and what is accepted there.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [_describe(cls, dict(problem)) for problem in error.errors()]
            raise InputError(f"{source}: " + "; ".join(problems)) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values.

    Raises:
        InputError: the file is missing, is not UTF-8, is not YAML, or repeats a key.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, a YAML file is expected") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected")
    return values


def dump_yaml(config: Config) -> str:
    """Write every value, defaults included, in the order of declaration."""
    text: str = yaml.safe_dump(
        config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True
    )
    return text


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys silently; a recipe must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is no plain value", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `1e-4` as a string; recipes are full of such learning rates.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _describe(model: type[BaseModel], problem: dict[str, Any]) -> str:
    location = [part for part in problem["loc"]]
    path = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {path!r} ({hint})"
    if problem["type"] == "missing":
        return f"key {path!r} is required"
    message = problem["msg"].removeprefix("Value error, ")
    return f"key {path!r}: {message}" if path else message


def _keys_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    """The keys known at the location of a pydantic error (tags of unions included)."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if not location:
        return list(fields)
    field = fields.get(str(location[0]))
    if field is None:
        return []
    candidates = _models_in(field.annotation)
    rest = [part for part in location[1:] if not isinstance(part, int)]
    tagged = [
        candidate
        for candidate in candidates
        if rest
        and "name" in candidate.model_fields
        and candidate.model_fields["name"].default == rest[0]
    ]
    if tagged:
        candidates, rest = tagged, rest[1:]
    return [key for candidate in candidates for key in _keys_at(candidate, rest)]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
