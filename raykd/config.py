"""Typed, frozen settings, and their way from and to YAML."""

import difflib
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from raykd.errors import InputError
from raykd.outputs import missing_hint

_QUOTES = "'"
# Where pydantic speaks of Python's types.
_EXPECTED = {
    "tuple_type": "a list [...]",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
}


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
            found = error.errors()
            problems = [_describe(cls, dict(one)) for one in found if not _is_echo(one, found)]
            raise InputError(f"{source}: " + "; ".join(problems)) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values.

    Raises:
        InputError: the file is missing, is not UTF-8, is not YAML, or repeats a key.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{missing_hint(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, a YAML file is expected") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected")
    return values


def absolute(folder: Path, reference: str) -> str:
    """A path of a file in `folder`, which it is relative to, made absolute."""
    return os.path.normpath(folder / Path(reference).expanduser())


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


def _is_echo(problem: ErrorDetails, problems: Sequence[ErrorDetails]) -> bool:
    """Whether a list is only too short because its wrong items do not count."""
    place = problem["loc"]
    return (
        problem["type"] == "too_short"
        and len(problem["input"]) >= problem["ctx"]["min_length"]
        and any(one["loc"][:-1][: len(place)] == place for one in problems)
    )


def _describe(model: type[BaseModel], problem: dict[str, Any]) -> str:
    path, tag, known = _locate(model, problem["loc"])
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {path!r} ({_hint(path.rpartition('.')[2], known, tag)})"
    if kind == "missing":
        return f"key {path!r} is required"
    if kind == "union_tag_not_found":
        return f"key '{path}.{context['discriminator'].strip(_QUOTES)}' is required"
    if kind == "union_tag_invalid":
        tags = [name.strip(_QUOTES) for name in context["expected_tags"].split(", ")]
        close = difflib.get_close_matches(str(context["tag"]), tags, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(tags)}"
        name = context["discriminator"].strip(_QUOTES)
        return f"key '{path}.{name}': there is no {context['tag']!r} ({hint})"
    if kind in _EXPECTED:
        return f"key {path!r}: {_EXPECTED[kind]} is expected, not {problem['input']!r:.60}"
    message = problem["msg"].removeprefix("Value error, ")
    if kind != "value_error":
        message += f", not {problem['input']!r:.60}"
    return f"key {path!r}: {message}" if path else message


def _hint(key: str, known: list[str], tag: str | None) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known keys{f' of {tag}' if tag else ''}: {', '.join(known)}"


def _locate(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[str, str | None, list[str]]:
    """The path that the user wrote, the tag of the innermost union in it, the last key's siblings.

    pydantic puts the tags of unions into its locations; they are no keys.
    """
    path: list[str] = []
    tag: str | None = None
    models, fields = [model], dict[str, FieldInfo]()
    for part in location:
        tagged = [candidate for candidate in models if _tag(candidate) == part]
        if tagged and len(models) > 1:
            models, tag = tagged, str(part)
            continue
        path.append(str(part))
        fields = {
            field.alias or name: field
            for candidate in models
            for name, field in candidate.model_fields.items()
        }
        # What is no field is an index, or a key of the user's in a mapping.
        if part in fields:
            models, tag = _models_in(fields[str(part)].annotation), tag if len(path) > 1 else None
    return ".".join(path), tag, list(fields)


def _tag(model: type[BaseModel]) -> Any:
    return model.model_fields["name"].default if "name" in model.model_fields else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
