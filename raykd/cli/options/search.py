"""Option groups of `raykd search`.

An option that is not given is None, so that a given one can be refused even if it has the default
value. The defaults in the help are those of the settings classes.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from raykd.config import Config
from raykd.retrieval.bm25.scoring import Bm25Config, Variant
from raykd.retrieval.dense.config import DenseConfig
from raykd.text.analyzer import AnalyzerConfig


def default_of(settings: type[Config], key: str) -> str:
    """Return the default of a key, as the help shows it."""
    value = settings.model_fields[key].default
    return str(value.name if isinstance(value, Config) else value)  # type: ignore[attr-defined]  # configs of a union


def given_options(options: Any) -> dict[str, Any]:
    """Return the options of a group that were given on the command line, by their names."""
    names = [field.name for field in dataclasses.fields(options)]
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def flags(names: dict[str, Any]) -> str:
    """Return the options as a user writes them: `--top-k, --k1`."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


@Parameter(name="*", group=Group("BM25", sort_key=3))
@dataclass(frozen=True)
class Bm25Options:
    """Options of the BM25 formula."""

    k1: Annotated[
        float | None,
        Parameter(
            help="Saturation of repeated terms; a larger value weights repeats more.",
            show_default=default_of(Bm25Config, "k1"),
        ),
    ] = None
    b: Annotated[
        float | None,
        Parameter(
            help="Length normalization, from 0 (none) to 1 (full).",
            show_default=default_of(Bm25Config, "b"),
        ),
    ] = None
    variant: Annotated[
        Variant | None,
        Parameter(help="Form of BM25.", show_default=default_of(Bm25Config, "variant")),
    ] = None
    norms: Annotated[
        Literal["exact", "lucene"] | None,
        Parameter(
            help="Unit lengths: exact, or rounded to one byte as in Lucene.",
            show_default=default_of(Bm25Config, "norms"),
        ),
    ] = None


@Parameter(name="*", group=Group("Terms", sort_key=4))
@dataclass(frozen=True)
class TermOptions:
    """Options of the terms that BM25 counts."""

    keywords: Annotated[
        Literal["none", "rake"] | None,
        Parameter(
            help="Query terms: all words (none), or RAKE keywords only.", show_default="none"
        ),
    ] = None
    stemmer: Annotated[
        str | None,
        Parameter(
            help="Snowball stemmer for corpus and queries, such as english.",
            show_default=default_of(AnalyzerConfig, "stemmer").lower(),
        ),
    ] = None
    stop_words: Annotated[
        bool | None,
        Parameter(negative="", help="Ignore Lucene's 33 English stop words.", show_default="no"),
    ] = None


@Parameter(name="*", group=Group("Embeddings", sort_key=5))
@dataclass(frozen=True)
class DenseOptions:
    """Options of a search by embeddings."""

    model: Annotated[
        str | None, Parameter(help="Encoder: folder, package:NAME/FOLDER, or hub name.")
    ] = None
    pooling: Annotated[
        Literal["mean", "cls"] | None,
        Parameter(
            help="Embedding of a text: mean over its tokens, or the first token (cls).",
            show_default=default_of(DenseConfig, "pooling"),
        ),
    ] = None
    max_length: Annotated[
        int | None,
        Parameter(
            help="Tokens per text; longer texts are truncated.",
            show_default=default_of(DenseConfig, "max_length"),
        ),
    ] = None
    index: Annotated[
        Literal["flat", "ivf", "hnsw"] | None,
        Parameter(
            help="Index: flat (exact), ivf or hnsw (approximate, faster).",
            show_default=default_of(DenseConfig, "index"),
        ),
    ] = None
    embeddings: Annotated[
        Path | None,
        Parameter(help="Folder that stores the units' embeddings for later searches."),
    ] = None
