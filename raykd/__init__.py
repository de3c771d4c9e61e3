"""Distillation of a fine-tuned text classifier into a small one.

storage/        files, tables and manifests that every stage reads and writes
cluster/        Ray: connection, tasks, preemption, progress of workers
text/           characters, words, and the analyzer
tasks/          task data: examples, labels, metrics
corpus/         general text -> units; demo/, text for the quickstart
retrieval/      queries of a task -> hits, by exact BM25 (bm25/), embeddings (dense/), or both
dedup/          exact and near duplicates
contextualize/  hits -> the contextualized corpus; the random corpus as its baseline
models/         teacher and student with a common output type
objectives/     distillation methods, one file per method
training/       teacher, injection, adaptation
evaluation/     predictions, costs, and comparison of student and teacher
augment/        data augmentation by word replacement (TaskDA)
report/         results -> one HTML page
prediction/     predictions of a trained classifier for the rows of any files
workflow/       recipe/, the typed recipe; checks/, checks before the first stage; the stages of a
                run; hyper-parameter tuning
cli/            command line

Shared by all: config.py, errors.py, progress.py.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# Loaded at first use, so that `import raykd` takes no time.
if TYPE_CHECKING:
    from raykd.api import contextualize, dedup, load_student, predict, run, search, tune

__all__ = ["contextualize", "dedup", "load_student", "predict", "run", "search", "tune"]


class _Package(ModuleType):
    """The package, with the functions of the API by name.

    `raykd.dedup` and `raykd.contextualize` are functions and folders. Python would store a folder
    under its name as soon as anything in it is imported; `from raykd.dedup.exact import ...` does
    not need that.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in __all__:
            return getattr(import_module("raykd.api"), name)
        raise AttributeError(f"module 'raykd' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
