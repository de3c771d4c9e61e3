"""The contextualized corpora of several tasks as one typed object, read from one YAML file."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.contextualize.config import LIMITS, ContextualizeConfig
from raykd.corpus.config import CorpusConfig
from raykd.corpus.dataset.readers import with_absolute_paths
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.hits import MAX_TOP_K
from raykd.storage.locations import absolute_reference
from raykd.storage.yaml_files import load_yaml
from raykd.tasks.config import SPLITS, TaskConfig
from raykd.tasks.dataset import with_absolute_path
from raykd.workflow.embedder import with_absolute_model

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# Names of files and folders next to the tasks' folders.
RESERVED_NAMES = ("units", "sample", "search", "embeddings", "kept", "corpora.json", "recipe.yaml")


class TaskCorpus(Config):
    """A task, and limits of its own for its corpus."""

    task: TaskConfig = Field(
        description="The labeled task: its files, columns, labels and metrics."
    )
    top_k: int | None = Field(
        None,
        ge=1,
        le=MAX_TOP_K,
        description="Hits per query of this task. Default: retrieval.top_k.",
    )
    max_units: int | None = Field(
        None,
        ge=1,
        description="Most units of this task's corpus; replaces the limit in `contextualize`.",
    )
    target_bytes: int | None = Field(
        None,
        ge=1,
        description="Size of this task's corpus in bytes of text; replaces the limit in "
        "`contextualize`.",
    )
    top_percent: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Percentage of top_k up to which this task's hits are kept; replaces the "
        "limit in `contextualize`.",
    )

    def limits(self) -> dict[str, Any]:
        """The limits that are given."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if len(self.limits()) > 1:
            raise ValueError(f"task {self.task.name!r}: give one of {' and '.join(self.limits())}")
        return self


class CorporaRecipe(Config):
    """One corpus per task, all retrieved in one pass. Paths are relative to the recipe's file."""

    name: str = Field(
        pattern=_NAME,
        description="Name of the job; its directory is runs/NAME unless --out is given. Letters, "
        "digits, '.', '_' and '-'.",
    )
    tasks: tuple[TaskCorpus, ...] = Field(
        min_length=1,
        description="Tasks, each of which gets a corpus of its own; all are searched in one pass.",
    )
    corpus: CorpusConfig = Field(
        description="The general corpus from which texts are retrieved, and how it is cut into "
        "units."
    )
    retrieval: RetrievalConfig = Field(
        description="How units of the corpus are ranked for each sentence of the tasks."
    )
    contextualize: ContextualizeConfig = Field(
        ContextualizeConfig(),
        description="Which of the retrieved units are kept, for tasks without a limit of their "
        "own.",
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        seen: set[str] = set()
        for entry in self.tasks:
            name = entry.task.name
            if name.lower() in seen:
                raise ValueError(f"tasks: the name {name!r} appears twice; a task has one corpus")
            seen.add(name.lower())
            if name in RESERVED_NAMES or not re.match(_NAME, name):
                raise ValueError(
                    f"tasks: {name!r} cannot be a folder's name here; take letters, digits, '.', "
                    f"'_' and '-', and none of {', '.join(RESERVED_NAMES)}"
                )
        return self

    def top_k(self, entry: TaskCorpus) -> int:
        """Return the hits per query of a task."""
        return entry.top_k or self.retrieval.top_k

    def last_rank(self, entry: TaskCorpus) -> int:
        """The rank up to which a task's hits are looked at."""
        return self.contextualize_for(entry).last_rank(self.top_k(entry))

    def contextualize_for(self, entry: TaskCorpus) -> ContextualizeConfig:
        """Return the settings for selecting a task's units from its hits."""
        if not entry.limits():
            return self.contextualize
        return self.contextualize.model_copy(update=dict.fromkeys(LIMITS) | entry.limits())


def load_corpora(path: Path) -> CorporaRecipe:
    """Read and validate a recipe; its paths become absolute, so that it can be kept anywhere.

    Raises:
        InputError: names the file, the path of each wrong key, and what is accepted there.
    """
    recipe = CorporaRecipe.parse(load_yaml(path), str(path))
    folder = path.absolute().parent
    tasks = []
    for entry in recipe.tasks:
        update: dict[str, object] = {
            split: paths[0] if len(paths) == 1 else paths
            for split in SPLITS
            if (paths := tuple(absolute_reference(folder, f) for f in entry.task.files_of(split)))
        }
        if entry.task.dataset is not None:
            update["dataset"] = with_absolute_path(entry.task.dataset, folder)
        tasks.append(entry.model_copy(update={"task": entry.task.model_copy(update=update)}))
    paths = tuple(absolute_reference(folder, reference) for reference in recipe.corpus.paths)
    reader = recipe.corpus.reader and with_absolute_paths(recipe.corpus.reader, folder)
    corpus = recipe.corpus.model_copy(update={"paths": paths, "reader": reader})
    retrieval = with_absolute_model(recipe.retrieval, folder)
    return recipe.model_copy(
        update={"tasks": tuple(tasks), "corpus": corpus, "retrieval": retrieval}
    )


def is_corpora_recipe(path: Path) -> bool:
    """Return whether a file contains several tasks, unlike the recipe of a run.

    Raises:
        InputError: as `load_yaml`.
    """
    return "tasks" in load_yaml(path)
