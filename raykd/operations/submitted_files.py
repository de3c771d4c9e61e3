"""Files that are sent with a job, and its command line in their folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raykd.config import is_path
from raykd.corpus.config import CorpusConfig
from raykd.corpus.dataset.readers import references_of
from raykd.errors import InputError
from raykd.operations.submitted_command import Command, PathsCommand, RecipeCommand
from raykd.storage.locations import is_url
from raykd.storage.yaml_files import load_yaml
from raykd.tasks.config import SPLITS, TaskConfig
from raykd.workflow.recipe.corpora_recipe import CorporaRecipe, is_corpora_recipe
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME
from raykd.workflow.recipe.recipe_file import (
    file_references,
    model_references,
    read_recipe,
    score_references,
    set_references,
)

PACKAGE_PREFIX = "package:"
_SKIPPED = ("__pycache__",)


@dataclass(frozen=True)
class Contents:
    """Files of a job, and the command line that finds them.

    Attributes:
        name: beginning of the job's id.
        files: files to send.
        root: folder that they are sent relative to.
        entrypoint: command line in that folder.
        models: models that the command names.
        notes: remarks for the user.
    """

    name: str
    files: Sequence[Path]
    root: Path
    entrypoint: str
    models: Sequence[str]
    notes: Sequence[str] = ()


def contents_of(command: Command, include: Sequence[Path]) -> Contents:
    """Collect the files of a job.

    Raises:
        InputError: the recipe is invalid, or a file is missing or not included.
    """
    if isinstance(command, PathsCommand):
        return _contents_of_paths(command, include)
    return _contents_of_recipe(command, include)


def _contents_of_recipe(command: RecipeCommand, include: Sequence[Path]) -> Contents:
    recipe = Path(os.path.normpath(command.recipe.absolute()))
    references = _References(recipe)
    files, notes = _files_to_send(recipe, references, include)
    root = _common_folder([recipe, *files])
    entrypoint = command.entrypoint(recipe.relative_to(root).as_posix())
    models = list(references.models.values())
    return Contents(references.name, files, root, entrypoint, models, notes)


def _contents_of_paths(command: PathsCommand, include: Sequence[Path]) -> Contents:
    """Collect the included files; a word that names another file of this machine is refused.

    Raises:
        InputError: names the word.
    """
    included = [Path(os.path.normpath(path.absolute())) for path in include]
    files = _files_of_included(included)
    words = dict(enumerate(command.words))
    paths = {number: path for number, word in words.items() if (path := _local_path(word))}
    for number, path in paths.items():
        if not _is_included(path, included):
            raise InputError(
                f"raykd submit: {words[number]}: files of this machine are not sent with a job; "
                "name a URL or an absolute path that the cluster can read, or send a small one: "
                f"raykd submit --include {_shown(path)}"
            )
    root = _common_folder(files) if files else Path.cwd()
    moved = {number: path.relative_to(root).as_posix() for number, path in paths.items()}
    entrypoint = command.entrypoint(list((words | moved).values()))
    return Contents(command.name, files, root, entrypoint, list(words.values()))


def _local_path(word: str) -> Path | None:
    """Return the path of a word that names a file or folder, relative to the current one."""
    path = _sent(Path.cwd(), word)
    return path if path is not None and path.exists() else None


def _common_folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


class _References:
    """Files and models that a recipe names, by their keys.

    Attributes:
        name: name of the run.
        tasks: files and folders of tasks, and files of evaluation sets.
        corpora: files, folders and patterns of corpora.
        models: models.
    """

    def __init__(self, path: Path) -> None:
        self.tasks: dict[str, str] = {}
        self.corpora: dict[str, list[str]] = {}
        self.models: dict[str, str] = {}
        if is_corpora_recipe(path):
            self._add_tasks(CorporaRecipe.parse(load_yaml(path), str(path)), path.parent)
            return
        recipe = read_recipe(path)
        self.name = recipe.name
        self._add_dataset("task", recipe.task, path.parent)
        self.tasks |= set_references(recipe)
        for key, files in score_references(recipe).items():
            self._add_files(key, files)
        self.models = model_references(recipe)
        for key, references in file_references(recipe).items():
            if isinstance(references, str):
                self.tasks[key] = references
            elif key.startswith("task."):
                self._add_files(key, references)
            else:
                self.corpora[key] = references
        for name, corpus in recipe.all_corpora.items():
            self._add_reader("corpus" if name is None else f"corpora.{name}", corpus)

    def _add_files(self, key: str, files: Sequence[str]) -> None:
        """Add the files of a split."""
        for number, file in enumerate(files):
            self.tasks[f"{key}.{number}" if len(files) > 1 else key] = file

    def _add_dataset(self, key: str, task: TaskConfig, folder: Path) -> None:
        """Add the dataset of a task if it is a folder, and not a name on the hub."""
        if task.dataset is not None and is_path(folder, task.dataset.path):
            self.tasks[f"{key}.dataset.path"] = task.dataset.path

    def _add_reader(self, key: str, corpus: CorpusConfig) -> None:
        """Add what a reader of Ray Data reads; a name on the hub is no file."""
        if corpus.reader is None:
            return
        for name, references in references_of(corpus.reader).items():
            if corpus.reader.name != "huggingface":
                self.corpora[f"{key}.reader.{name}"] = references
            else:
                self.models[f"{key}.reader.{name}"] = references[0]

    def _add_tasks(self, recipe: CorporaRecipe, folder: Path) -> None:
        self.name = recipe.name
        self.corpora = {"corpus.paths": list(recipe.corpus.paths)}
        self._add_reader("corpus", recipe.corpus)
        dense = recipe.retrieval.dense
        if dense and dense.model:
            self.models["retrieval.dense.model"] = dense.model
        for entry in recipe.tasks:
            self._add_dataset(f"tasks.{entry.task.name}", entry.task, folder)
            for split in SPLITS:
                self._add_files(f"tasks.{entry.task.name}.{split}", entry.task.files_of(split))


def _files_to_send(
    recipe: Path, references: _References, include: Sequence[Path]
) -> tuple[list[Path], list[str]]:
    """List the recipe and the files it names by relative paths; and remarks on the others."""
    included = [Path(os.path.normpath(path.absolute())) for path in include]
    _check_large(recipe, references, included)
    files = [recipe, *_files_of_included(included)]
    for key, reference in references.tasks.items():
        if (task_file := _sent(recipe.parent, reference)) is not None:
            if not task_file.exists():
                raise InputError(f"{recipe}: {key} {reference}: no such file; correct the path")
            files += _files_below(task_file)
    named = [*references.tasks.items(), *_large(references)]
    notes = [
        f"{key} {reference}: an absolute path is read on the cluster; it is not sent"
        for key, reference in named
        if reference.startswith(("~", "/"))
    ]
    return list(dict.fromkeys(files)), notes


def _files_of_included(included: Sequence[Path]) -> list[Path]:
    files = []
    for path in included:
        if not path.exists():
            raise InputError(f"--include {path}: no such file or folder; correct the path")
        files += _files_below(path)
    return files


def _is_included(path: Path, included: Sequence[Path]) -> bool:
    return any(path == one or one in path.parents for one in included)


def _large(references: _References) -> list[tuple[str, str]]:
    """List the references to corpora and models, with their keys."""
    corpora = [(key, path) for key, paths in references.corpora.items() for path in paths]
    return [*corpora, *references.models.items()]


def _check_large(recipe: Path, references: _References, included: Sequence[Path]) -> None:
    """Refuse corpora and models on this machine that are not included."""
    for key, reference in _large(references):
        path = _sent(recipe.parent, reference)
        # A model that is no path is a name on the hub.
        if path is None or (key not in references.corpora and not path.exists()):
            continue
        if not _is_included(path, included):
            raise InputError(
                f"{recipe}: {key} {reference}: corpora and models are not sent with a job; name a "
                "URL or an absolute path that the cluster can read, or send a small one: "
                f"raykd submit --include {_shown(path)}"
            )


def _sent(folder: Path, reference: str) -> Path | None:
    """Return the path of a relative reference; None for absolute paths, URLs and packages."""
    if is_url(reference) or reference.startswith((DOCSTRINGS_SCHEME, PACKAGE_PREFIX, "~", "/")):
        return None
    return Path(os.path.normpath(folder / reference))


def _files_below(path: Path) -> list[Path]:
    """List a file, or the files of a folder without hidden ones and caches."""
    if not path.is_dir():
        return [path]
    files = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in _SKIPPED)
        files += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
