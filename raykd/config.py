"""Base class of typed, immutable settings, validated on parsing."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from raykd.errors import InputError, shortened

_QUOTES = "'"
_MAX_PROBLEMS = 8
_MAX_PROBLEM_LENGTH = 400
# Keys of recipes that had another name in an earlier version, by their old paths.
RENAMED_KEYS = {
    "arms": "variants",
    "search": "tune",
    "tune.arm": "tune.variant",
    "retrieval.method": "retrieval.ranker",
}
# Keys that had another name in an earlier version, in whatever section they are.
RENAMED_NAMES = {
    "initialisation": "initialization",  # word list: ok
    "normalise": "normalize",  # word list: ok
    "num_neighbours": "num_neighbors",  # word list: ok
    "max_tokens_per_pass": "max_tokens_per_micro_batch",
}
# Replacements for error messages in which pydantic names Python types.
_EXPECTED = {
    "tuple_type": "a list [...]",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
}


class Config(BaseModel):
    """Base class of all settings: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str) -> Self:
        """Validate `values`.

        Raises:
            InputError: states `source`, the path of each invalid key, and the accepted values.
        """
        try:
            parsed = cls.model_validate(values)
        except ValidationError as error:
            errors = error.errors()
            problems = [_describe(cls, dict(one)) for one in errors if not _is_echo(one, errors)]
            raise InputError(f"{source}: {_joined(problems)}") from None
        booleans = _booleans_as_numbers(values, parsed, ())
        if problems := [_describe_boolean(path, value) for path, value in booleans]:
            raise InputError(f"{source}: {_joined(problems)}")
        return parsed


def absolute(folder: Path, reference: str) -> str:
    """Resolve a path relative to `folder`."""
    return os.path.normpath(folder / _expanded(reference))


def is_path(folder: Path, reference: str) -> bool:
    """Return whether a file or folder exists at a path relative to `folder`; never an error."""
    try:
        return (folder / _expanded(reference)).exists()
    except (OSError, ValueError):  # name too long, or permission denied
        return False


def _expanded(reference: str) -> Path:
    """Expand `~`; a reference to an unknown user stays unchanged."""
    try:
        return Path(reference).expanduser()
    except RuntimeError:
        return Path(reference)


def dump_yaml(config: Config) -> str:
    """Serialize all values, including defaults, in the order of declaration."""
    text: str = yaml.safe_dump(
        config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True
    )
    return text


def _joined(problems: Sequence[str]) -> str:
    """Join the first problems, shortened to a readable length."""
    shown = [shortened(problem, _MAX_PROBLEM_LENGTH) for problem in problems[:_MAX_PROBLEMS]]
    if more := len(problems) - len(shown):
        shown.append(f"and {more} more")
    return "; ".join(shown)


def _booleans_as_numbers(
    given: Any, parsed: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the path and value of booleans that pydantic converted to numbers."""
    if isinstance(given, bool):
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            yield path, given
    elif isinstance(given, Mapping):
        names = _names_by_key(parsed) if isinstance(parsed, BaseModel) else {}
        for key, inner in given.items():
            if isinstance(parsed, BaseModel) and key in names:
                yield from _booleans_as_numbers(
                    inner, getattr(parsed, names[key]), (*path, str(key))
                )
            elif isinstance(parsed, Mapping) and key in parsed:
                yield from _booleans_as_numbers(inner, parsed[key], (*path, str(key)))
    elif isinstance(given, list | tuple) and isinstance(parsed, list | tuple):
        for number, (inner, one) in enumerate(zip(given, parsed, strict=False)):
            yield from _booleans_as_numbers(inner, one, (*path, str(number)))


def _names_by_key(model: BaseModel) -> dict[str, str]:
    """Return the attribute names of a model by the keys in the file."""
    return {field.alias or name: name for name, field in type(model).model_fields.items()}


def _describe_boolean(path: tuple[str, ...], value: bool) -> str:
    return f"key {'.'.join(path)!r}: expected a number, not {str(value).lower()}"


def _is_echo(problem: ErrorDetails, problems: Sequence[ErrorDetails]) -> bool:
    """Return whether a list is too short only because its invalid items are not counted."""
    place = problem["loc"]
    return (
        problem["type"] == "too_short"
        and len(problem["input"]) >= problem["ctx"]["min_length"]
        and any(one["loc"][:-1][: len(place)] == place for one in problems)
    )


def _describe(model: type[BaseModel], problem: dict[str, Any]) -> str:
    path, tag, known = _locate(model, problem["loc"])
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden" and _last(new_path := _renamed(path)) in known:
        return f"`{path}:` is now `{new_path}:`"
    if kind == "extra_forbidden":
        return f"unknown key {path!r} ({_hint(_last(path), known, tag)})"
    if kind == "missing":
        return f"key {path!r} is required"
    if kind == "union_tag_not_found":
        return f"key '{path}.{context['discriminator'].strip(_QUOTES)}' is required"
    if kind == "union_tag_invalid":
        tags = [name.strip(_QUOTES) for name in context["expected_tags"].split(", ")]
        close = difflib.get_close_matches(str(context["tag"]), tags, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(tags)}"
        name = context["discriminator"].strip(_QUOTES)
        return f"key '{path}.{name}': unknown value {context['tag']!r} ({hint})"
    if kind in _EXPECTED:
        return f"key {path!r}: expected {_EXPECTED[kind]}, not {problem['input']!r:.60}"
    if kind == "string_type" and isinstance(problem["input"], bool | int | float):
        return (
            f"key {path!r}: expected text, but YAML parses the value as {problem['input']!r}; "
            "put it in quotes"
        )
    message = problem["msg"].removeprefix("Value error, ")
    if kind != "value_error":
        message += f", not {problem['input']!r:.60}"
    return f"key {path!r}: {message}" if path else message


def _renamed(path: str) -> str:
    """New path of a renamed key; empty if it was not renamed."""
    section, dot, name = path.rpartition(".")
    new_name = RENAMED_NAMES.get(name)
    return RENAMED_KEYS.get(path, "") if new_name is None else f"{section}{dot}{new_name}"


def _last(path: str) -> str:
    """Last key of a path."""
    return path.rpartition(".")[2]


def _hint(key: str, known: list[str], tag: str | None) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known keys{f' of {tag}' if tag else ''}: {', '.join(known)}"


def _locate(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[str, str | None, list[str]]:
    """Return the path in the file, the tag of the innermost union, and the last key's siblings.

    pydantic's locations contain the tags of unions, which are not keys of the file.
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
        # Any other part is an index of a list, or a user-defined key of a mapping.
        if part in fields:
            models, tag = models_in(fields[str(part)].annotation), tag if len(path) > 1 else None
    return ".".join(path), tag, list(fields)


def _tag(model: type[BaseModel]) -> Any:
    return model.model_fields["name"].default if "name" in model.model_fields else None


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes that a key's type names, such as the variants of an objective."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
