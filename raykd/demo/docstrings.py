"""Quickstart data: a corpus and a task made from the docstrings of installed packages.

The task is to classify the subject that a sentence documents; a class is a set of package folders.
Files with training or evaluation sentences are not part of the general corpus.
"""

import ast
import platform
import re
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pydantic import Field

from raykd.config import Config
from raykd.demo.prose import sentences
from raykd.errors import InputError
from raykd.storage.manifest import Draft, Manifest, write_once

STAGE = "docstrings"
STDLIB = "stdlib"
CORPUS = pa.schema([("text", pa.string()), ("source", pa.string())])
SPLIT = pa.schema([("sentence", pa.string()), ("label", pa.string())])

_NOT_LETTERS = re.compile(r"[\W\d_]+")
# Docstrings of tests are few and short; site-packages contains other packages.
_SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "test", "tests", "idle_test"})


class DocstringsConfig(Config):
    """Packages whose docstrings are read, and split of their files."""

    packages: tuple[str, ...] = Field(
        min_length=1,
        description="Installed packages whose docstrings are read; stdlib is Python's standard "
        "library.",
    )
    classes: dict[str, tuple[str, ...]] = Field(
        min_length=2,
        description="Classes of the task: label -> folders of packages whose files belong to it.",
    )
    excluded: tuple[str, ...] = Field((), description="Folders of packages to leave out.")
    min_words: int = Field(8, ge=1, description="Fewest words of a sentence of the task.")
    train_fraction: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="Share of a class's files whose sentences are the train split.",
    )
    dev_fraction: float = Field(
        0.15, gt=0, lt=1, description="Share of a class's files whose sentences are the dev split."
    )
    test_fraction: float = Field(
        0.15, gt=0, lt=1, description="Share of a class's files whose sentences are the test split."
    )
    train_rows_per_class: int = Field(
        40, ge=1, description="Most rows per class in the train split."
    )
    dev_rows_per_class: int = Field(125, ge=1, description="Most rows per class in the dev split.")
    test_rows_per_class: int = Field(
        125, ge=1, description="Most rows per class in the test split."
    )
    split_seed: int = Field(0, description="Seed of the split of files.")


class ForEach(Protocol):
    """Parallel map: run a function on every item, and return the results in order."""

    def __call__(
        self,
        function: Callable[..., pa.Table],
        items: Sequence[str],
        *,
        label: str,
        unit: str,
        shared: Mapping[str, Any] | None,
    ) -> list[pa.Table]:
        """Map `function(item, **shared)` over `items`."""


def build(config: DocstringsConfig, out: Path, for_each: ForEach) -> Manifest:
    """Write corpus.parquet (text, source), and train, dev and test.parquet (sentence, label).

    Rows of the corpus are in the order of packages, files and lines. Rows of a split are in a
    random order that depends only on the seed and the text, so that its first rows are a sample.

    Raises:
        InputError: a package is not installed, or a class has too few sentences.
    """
    distributions = packages_distributions()
    versions = {name: _version_of(name, distributions) for name in config.packages}

    def write(draft: Draft) -> None:
        tables = for_each(
            read_package,
            config.packages,
            label="Reading docstrings",
            unit="packages",
            shared={"min_words": config.min_words},
        )
        corpus, splits = _split(_without_repetitions(pa.concat_tables(tables)), config)
        for name, table in {"corpus": corpus, **splits}.items():
            pq.write_table(table, draft.directory / f"{name}.parquet", compression="zstd")
            draft.counts[f"num_{name}_rows"] = table.num_rows

    return write_once(out, STAGE, config.model_dump(mode="json"), versions, write)


def read_package(name: str, min_words: int = 8) -> pa.Table:
    """Read the sentences of all docstrings of an installed package, without importing it.

    Returns:
        Columns text and source, such as `sympy/solvers/ode.py`, sorted by source; files that this
        version of Python cannot parse are skipped.

    Raises:
        InputError: the package is not installed as source files.
    """
    texts: list[str] = []
    sources: list[str] = []
    root = _root_of(name)
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _SKIPPED_FOLDERS.isdisjoint(relative.parts):
            continue
        for docstring in _docstrings(path):
            prose = sentences(docstring, min_words=min_words)
            texts.extend(prose)
            sources.extend([f"{name}/{relative.as_posix()}"] * len(prose))
    if not texts:
        raise InputError(
            f"docstrings.packages: {name!r} has no docstrings below {root}; "
            "install it as source files or remove it from the list"
        )
    return pa.table([texts, sources], schema=CORPUS)


def _docstrings(path: Path) -> Iterator[str]:
    """Iterate over the docstrings of a file's module, classes and functions, in order."""
    try:
        with warnings.catch_warnings():
            # Invalid escapes in other packages are not the user's concern.
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield docstring
        # Only statements can contain definitions; expressions, most of the tree, are skipped.
        for blocks in ("handlers", "finalbody", "orelse", "body"):
            children = getattr(node, blocks, ())
            if isinstance(children, list):
                pending.extend(reversed(children))


def _root_of(name: str) -> Path:
    if name == STDLIB:
        return Path(sysconfig.get_paths()["stdlib"])
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"docstrings.packages: no installed package {name!r}; "
            f"install it (`pip install {name}`) or remove it from the list"
        )
    return Path(spec.submodule_search_locations[0])


def _version_of(name: str, distributions: Mapping[str, Sequence[str]]) -> str:
    """Look up the version of the distribution that installed a package."""
    if name == STDLIB:
        return platform.python_version()
    root = _root_of(name)
    versions = sorted({version(distribution) for distribution in distributions.get(name, ())})
    return ", ".join(versions) or f"unknown, at {root}"


def _without_repetitions(table: pa.Table) -> pa.Table:
    """Keep the first of all sentences with the same letters, ignoring other characters."""
    seen: set[str] = set()
    kept = []
    for row, text in enumerate(table["text"].to_pylist()):
        letters = _NOT_LETTERS.sub("", text).casefold()
        if letters not in seen:
            seen.add(letters)
            kept.append(row)
    return table.take(pa.array(kept, pa.int64()))


@dataclass
class _Pools:
    """Sentences of one class by file, and the files of each split."""

    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    splits: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def assign(self, name: str, fraction: float, seed: int) -> None:
        """Assign files in random order to a split until it has its share of sentences."""
        target = fraction * sum(map(len, self.files.values()))
        taken = {source for sources in self.splits.values() for source in sources}
        num_sentences = 0
        for source in sorted(self.files, key=partial(_random_key, seed=seed)):
            if num_sentences >= target:
                break
            if source not in taken:
                self.splits[name].append(source)
                num_sentences += len(self.files[source])

    def sentences_of(self, name: str, seed: int) -> list[str]:
        """List the sentences of a split in random order."""
        pooled = [text for source in self.splits[name] for text in self.files[source]]
        return sorted(pooled, key=partial(_random_key, seed=seed))


def _split(table: pa.Table, config: DocstringsConfig) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Split the files into corpus and splits; the sentences per class and split are limited."""
    sources = table["source"].to_pylist()
    labels = {source: _label_of(source, config) for source in set(sources)}
    pools = {label: _Pools() for label in config.classes}
    for source, text in zip(sources, table["text"].to_pylist(), strict=True):
        label = labels[source]
        if label is not None:
            pools[label].files[source].append(text)
    sizes = {
        "train": (config.train_fraction, config.train_rows_per_class),
        "dev": (config.dev_fraction, config.dev_rows_per_class),
        "test": (config.test_fraction, config.test_rows_per_class),
    }
    rows: dict[str, list[tuple[str, str]]] = {name: [] for name in sizes}
    for label, pool in pools.items():
        for name, (fraction, num_rows) in sizes.items():
            pool.assign(name, fraction, config.split_seed)
            chosen_texts = pool.sentences_of(name, config.split_seed)[:num_rows]
            rows[name].extend((text, label) for text in chosen_texts)
            _check_size(label, name, len(chosen_texts), num_rows if name == "train" else 1)
    taken = {
        source for pool in pools.values() for chosen in pool.splits.values() for source in chosen
    }
    keep = pa.array([source not in taken for source in sources])
    return table.filter(keep), {
        name: _split_table(pairs, config.split_seed) for name, pairs in rows.items()
    }


def _split_table(pairs: list[tuple[str, str]], seed: int) -> pa.Table:
    pairs = sorted(pairs, key=lambda pair: _random_key(pair[0], seed=seed))
    return pa.table([[text for text, _ in pairs], [label for _, label in pairs]], schema=SPLIT)


def _check_size(label: str, split: str, num_sentences: int, num_needed: int) -> None:
    if num_sentences < num_needed:
        raise InputError(
            f"docstrings.classes.{label}: {num_sentences} sentences for {split}, {num_needed} "
            "needed; add folders to the class or ask for fewer rows "
            f"(docstrings.{split}_rows_per_class)"
        )


def _label_of(source: str, config: DocstringsConfig) -> str | None:
    if any(_is_below(source, folder) for folder in config.excluded):
        return None
    for label, folders in config.classes.items():
        if any(_is_below(source, folder) for folder in folders):
            return label
    return None


def _is_below(source: str, folder: str) -> bool:
    return source.startswith(f"{folder.rstrip('/')}/")


def _random_key(text: str, *, seed: int) -> tuple[int, str]:
    return xxhash.xxh3_64_intdigest(text.encode(), seed=seed), text
