"""Text that is on every machine: the docstrings of installed packages, and a task made of them.

The task asks which subject a sentence documents; a class is a set of package folders. Files that
give labelled or evaluation sentences give none to the general corpus.
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
# Tests' docstrings are few and say little; other people's packages are not the one asked for.
_SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "test", "tests", "idle_test"})


class DocstringsConfig(Config):
    """Which docstrings are read, and how their files are split."""

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
    """Runs a function on every item, somewhere, and returns the results in the items' order."""

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

    Rows of the corpus stand in the order of packages, files and lines; rows of a split in a random
    order that depends on the seed and the text alone, so that its first rows are a fair sample.

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
    """Sentences of all docstrings of one installed package, files sorted by name; not imported.

    Returns:
        Columns text and source, a source being such as `sympy/solvers/ode.py`; files that are not
        Python of this version are left out.

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
            found = sentences(docstring, min_words=min_words)
            texts.extend(found)
            sources.extend([f"{name}/{relative.as_posix()}"] * len(found))
    if not texts:
        raise InputError(
            f"docstrings.packages: {name!r} has no docstrings below {root}; "
            "install it as source files or remove it from the list"
        )
    return pa.table([texts, sources], schema=CORPUS)


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a file's module, classes and functions, in the order of the file."""
    try:
        with warnings.catch_warnings():
            # Invalid escapes in other people's strings are no concern of the reader of a report.
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
        # Only statements can hold a definition: expressions are most of a tree, and are skipped.
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
    """The version of the distribution that installed a package, whatever its own name is."""
    if name == STDLIB:
        return platform.python_version()
    root = _root_of(name)
    found = sorted({version(distribution) for distribution in distributions.get(name, ())})
    return ", ".join(found) or f"unknown, at {root}"


def _without_repetitions(table: pa.Table) -> pa.Table:
    """Keep the first of sentences that have the same letters, whatever stands between them."""
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
    """Sentences of one class by file, and the files each split got."""

    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    splits: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def assign(self, name: str, fraction: float, seed: int) -> None:
        """Give a split whole files, in a random order, until it has its share of sentences."""
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
        """The sentences of a split, in a random order."""
        pooled = [text for source in self.splits[name] for text in self.files[source]]
        return sorted(pooled, key=partial(_random_key, seed=seed))


def _split(table: pa.Table, config: DocstringsConfig) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Corpus and splits by file; a split holds at most so many sentences a class."""
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
            found = pool.sentences_of(name, config.split_seed)[:num_rows]
            rows[name].extend((text, label) for text in found)
            _check_size(label, name, len(found), num_rows if name == "train" else 1)
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


def _check_size(label: str, split: str, num_found: int, num_needed: int) -> None:
    if num_found < num_needed:
        raise InputError(
            f"docstrings.classes.{label}: {num_found} sentences for {split}, {num_needed} needed; "
            f"add folders to the class or ask for fewer rows (docstrings.{split}_rows_per_class)"
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
