"""Command lines that can be submitted as a job."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raykd.errors import InputError
from raykd.storage.locations import is_url, location_of

COMMANDS_OF_RECIPES = (
    *("run", "tune", "distill", "corpus", "crossval"),
    *("docstrings", "task", "ingest", "retrieve", "contextualize", "generator"),
    *("teacher", "inject", "adapt", "evaluate", "report"),
)
COMMANDS_OF_PATHS = ("predict", "search", "dedup", "augment", "train-head")
_USAGE = "raykd submit -- run RECIPE --out URL"


@dataclass(frozen=True)
class RecipeCommand:
    """Command that takes a recipe, and its output."""

    name: str
    recipe: Path
    out: str

    def entrypoint(self, recipe: str) -> str:
        """Command line on the cluster, for the recipe's path in the working directory."""
        return _entrypoint([self.name, recipe, "--out", self.out])


@dataclass(frozen=True)
class PathsCommand:
    """Command that takes paths and options instead of a recipe.

    Attributes:
        name: name of the command.
        words: the rest of its command line.
    """

    name: str
    words: tuple[str, ...]

    def entrypoint(self, words: Sequence[str]) -> str:
        """Command line on the cluster, for words whose paths are in the working directory."""
        return _entrypoint([self.name, *words])


Command = RecipeCommand | PathsCommand


def parse_command(words: Sequence[str]) -> Command:
    """Parse the command after `--`.

    Raises:
        InputError: the command cannot be submitted, or its output is not an absolute path or URL.
    """
    name, rest = (words[0], list(words[1:])) if words else ("", [])
    if name in COMMANDS_OF_PATHS:
        _check_out(_take_out(list(rest)))
        return PathsCommand(name, tuple(rest))
    if name not in COMMANDS_OF_RECIPES:
        given = f"{name!r} cannot be submitted" if words else "no command is given"
        commands = ", ".join((*COMMANDS_OF_RECIPES, *COMMANDS_OF_PATHS))
        raise InputError(f"raykd submit: {given}; write `{_USAGE}` (commands: {commands})")
    out = _take_out(rest)
    options = [word for word in rest if word.startswith("-")]
    if name == "crossval" and any(option.split("=")[0] == "--folds" for option in options):
        raise InputError(
            "raykd submit: --folds: not possible here; set task.folds in the recipe instead"
        )
    if options:
        raise InputError(
            f"raykd submit: {options[0]}: only --out OUT can be given after {name}; options of "
            "the submission are in front of `--`"
        )
    if len(rest) != 1 or out is None:
        raise InputError(f"raykd submit: give one recipe and one --out: `{_USAGE}`")
    _check_out(out)
    return RecipeCommand(name, Path(rest[0]), out)


def _take_out(words: list[str]) -> str | None:
    """Remove `--out OUT` from words, and return OUT.

    Raises:
        InputError: it is given twice.
    """
    outs = []
    while number := next((n for n, w in enumerate(words, 1) if w.split("=")[0] == "--out"), 0):
        word = words.pop(number - 1)
        if word != "--out":
            outs.append(word.removeprefix("--out="))
        elif len(words) >= number:
            outs.append(words.pop(number - 1))
    if len(outs) > 1:
        raise InputError("raykd submit: --out is given twice; give it once")
    return outs[0] if outs else None


def _check_out(out: str | None) -> None:
    if out is None:
        raise InputError("raykd submit: give the command an output: --out URL")
    if is_url(out):
        location_of(out, to_write=True)
    elif not Path(out).is_absolute():
        raise InputError(
            f"raykd submit: --out {out}: relative to a temporary folder of the job, which Ray "
            "deletes; give a URL (s3://BUCKET/RUN), or an absolute path on storage that every "
            "node mounts"
        )


def _entrypoint(words: Sequence[str]) -> str:
    # As a module: the interpreter of the job's own environment, not that of a script.
    return shlex.join(["python", "-m", "raykd", *words])
