"""Submission of a recipe as a Ray job: the command, its files, and the runtime environment.

A path in a recipe means the same as in a job that Ray's own command submits: a relative one is sent
with the job, an absolute one is read on the cluster, a URL from the object store. Only files that
the recipe names are sent.
"""

import json
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from raykd import progress
from raykd.config import is_path
from raykd.corpus.config import CorpusConfig
from raykd.corpus.dataset.readers import references_of
from raykd.errors import InputError
from raykd.operations.expected_version import VARIABLE as EXPECTED_VERSION
from raykd.operations.wheel import requirements_of, unpack
from raykd.storage.locations import is_url, location_of
from raykd.storage.yaml_files import load_yaml
from raykd.tasks.config import SPLITS, TaskConfig
from raykd.workflow.recipe.corpora_recipe import CorporaRecipe, is_corpora_recipe
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME
from raykd.workflow.recipe.recipe_file import (
    file_references,
    model_references,
    read_recipe,
    set_references,
)

COMMANDS = (
    *("run", "tune", "distill", "corpus"),
    *("docstrings", "task", "ingest", "retrieve", "contextualize", "generator"),
    *("teacher", "inject", "adapt", "evaluate", "report"),
)
MAX_BYTES = 100 << 20
_PACKAGE_PREFIX = "package:"
_SKIPPED = ("__pycache__",)
_USAGE = "raykd submit -- run RECIPE --out URL"


@dataclass(frozen=True)
class Command:
    """Command of a job: one that takes a recipe, and its output."""

    name: str
    recipe: Path
    out: str

    def entrypoint(self, recipe: str) -> str:
        """Command line on the cluster, for the recipe's path in the working directory."""
        # As a module: the interpreter of the job's own environment, not that of a script.
        return shlex.join(["python", "-m", "raykd", self.name, recipe, "--out", self.out])


@dataclass(frozen=True)
class Submission:
    """Job that is ready to be sent.

    Attributes:
        job_id: id of the job.
        entrypoint: command line on the cluster.
        folder: working directory, sent with the job.
        files: the files in it, relative, without those of a wheel.
        num_bytes: their size.
        runtime_env: Ray's runtime environment, without the working directory.
        notes: remarks for the user.
    """

    job_id: str
    entrypoint: str
    folder: Path
    files: tuple[str, ...]
    num_bytes: int
    runtime_env: Mapping[str, Any]
    notes: tuple[str, ...]

    def ray_command(self, url: str) -> str:
        """Build the equivalent `ray job submit` command."""
        words = ["ray", "job", "submit", "--address", url, "--submission-id", self.job_id]
        words += ["--working-dir", str(self.folder)]
        words += ["--runtime-env-json", json.dumps(self.runtime_env)]
        return f"{shlex.join(words)} -- {self.entrypoint}"


def parse_command(words: Sequence[str]) -> Command:
    """Parse the command after `--`.

    Raises:
        InputError: not a command with a recipe, or its output is not an absolute path or URL.
    """
    if not words or words[0] not in COMMANDS:
        given = f"{words[0]!r} cannot be submitted" if words else "no command is given"
        raise InputError(
            f"raykd submit: {given}; write `{_USAGE}` (commands: {', '.join(COMMANDS)})"
        )
    recipes, outs, rest = [], [], list(words[1:])
    while rest:
        word = rest.pop(0)
        if word == "--out" and rest:
            outs.append(rest.pop(0))
        elif word.startswith("--out="):
            outs.append(word.removeprefix("--out="))
        elif word.startswith("-"):
            raise InputError(
                f"raykd submit: {word}: only --out OUT can be given after {words[0]}; options of "
                "the submission are in front of `--`"
            )
        else:
            recipes.append(word)
    if len(recipes) != 1 or len(outs) != 1:
        raise InputError(f"raykd submit: give one recipe and one --out: `{_USAGE}`")
    out = outs[0]
    if is_url(out):
        location_of(out, to_write=True)
    elif not Path(out).is_absolute():
        raise InputError(
            f"raykd submit: --out {out}: relative to a temporary folder of the job, which Ray "
            "deletes; give a URL (s3://BUCKET/RUN), or an absolute path on storage that every "
            "node mounts"
        )
    return Command(words[0], Path(recipes[0]), out)


@contextmanager
def prepared(
    command: Command,
    *,
    raykd: str,
    include: Sequence[Path] = (),
    job_id: str | None = None,
    is_kept: bool = False,
) -> Iterator[Submission]:
    """Build the working directory of a job; it is removed at the end of the block.

    Args:
        command: command of the job.
        raykd: origin of raykd on the cluster: "pip", "image", or the path of a wheel.
        include: additional files and folders to send.
        job_id: id of the job; None for a new one.
        is_kept: whether the directory remains if there is no error.

    Raises:
        InputError: the recipe is invalid, a file is missing, or the files are too large.
    """
    folder = Path(tempfile.mkdtemp(prefix="raykd-submit-"))
    is_whole = False
    try:
        yield prepare(command, folder, raykd=raykd, include=include, job_id=job_id)
        is_whole = True
    finally:
        if not (is_kept and is_whole):
            shutil.rmtree(folder, ignore_errors=True)


def prepare(
    command: Command,
    folder: Path,
    *,
    raykd: str,
    include: Sequence[Path] = (),
    job_id: str | None = None,
) -> Submission:
    """Build the working directory of a job in an empty folder; see `prepared`."""
    recipe = Path(os.path.normpath(command.recipe.absolute()))
    references = _References(recipe)
    files, notes = _files_to_send(recipe, references, include)
    root = Path(os.path.commonpath([recipe.parent, *(file.parent for file in files)]))
    num_bytes = _copy(files, root, folder)
    packages = _model_packages(references.models)
    variables = {EXPECTED_VERSION: version("raykd")}
    if log_format := os.environ.get(progress.LOG_VARIABLE):
        variables[progress.LOG_VARIABLE] = log_format
    runtime_env: dict[str, Any] = {"env_vars": variables}
    if raykd == "pip":
        runtime_env["pip"] = [f"raykd=={version('raykd')}", *packages]
    elif raykd != "image":
        wheel = Path(raykd)
        variables[EXPECTED_VERSION] = unpack(wheel, folder)
        runtime_env["pip"] = [*requirements_of(wheel), *packages]
    elif packages:
        notes.append(f"the cluster's image must have {', '.join(packages)}")
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Submission(
        job_id=job_id or f"raykd-{references.name}-{started}-{uuid.uuid4().hex[:6]}",
        entrypoint=command.entrypoint(recipe.relative_to(root).as_posix()),
        folder=folder,
        files=tuple(file.relative_to(root).as_posix() for file in files),
        num_bytes=num_bytes,
        runtime_env=runtime_env,
        notes=tuple(notes),
    )


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
    files = [recipe]
    for path in included:
        if not path.exists():
            raise InputError(f"--include {path}: no such file or folder; correct the path")
        files += _files_below(path)
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
        if not any(path == one or one in path.parents for one in included):
            raise InputError(
                f"{recipe}: {key} {reference}: corpora and models are not sent with a job; name a "
                "URL or an absolute path that the cluster can read, or send a small one: "
                f"raykd submit --include {_shown(path)}"
            )


def _sent(folder: Path, reference: str) -> Path | None:
    """Return the path of a relative reference; None for absolute paths, URLs and packages."""
    if is_url(reference) or reference.startswith((DOCSTRINGS_SCHEME, _PACKAGE_PREFIX, "~", "/")):
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


def _copy(files: Sequence[Path], root: Path, folder: Path) -> int:
    """Copy files to the working directory, unless they are too large; return their size."""
    sizes = {file: file.stat().st_size for file in files}
    num_bytes = sum(sizes.values())
    if num_bytes > MAX_BYTES:
        largest = max(files, key=lambda file: sizes[file])
        raise InputError(
            f"raykd submit: {len(files):,} files of {size_text(num_bytes)} would be sent with the "
            f"job (the largest: {largest}, {size_text(sizes[largest])}), more than "
            f"{size_text(MAX_BYTES)}; put large files in an object store and name them by URL"
        )
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return num_bytes


def _model_packages(models: Mapping[str, str]) -> list[str]:
    """Pin the distributions of models that are named as `package:NAME/FOLDER`."""
    names = [
        model.removeprefix(_PACKAGE_PREFIX).partition("/")[0]
        for model in models.values()
        if model.startswith(_PACKAGE_PREFIX)
    ]
    distributions = packages_distributions() if names else {}
    found = [distributions.get(name) for name in dict.fromkeys(names)]
    return [f"{one[0]}=={version(one[0])}" for one in found if one]


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def size_text(num_bytes: float) -> str:
    """Format a size, such as `12.3 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"
