"""The command `raykd search`."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from raykd.cli import summaries
from raykd.cli.options.reading import NO_READING_OPTIONS, ColumnNames, ReadingOptions
from raykd.cli.options.recipe import OutFolder, run_until
from raykd.cli.options.search import (
    Bm25Options,
    DenseOptions,
    TermOptions,
    default_of,
    flags,
    given_options,
)
from raykd.errors import InputError
from raykd.retrieval.config import Ranker, RetrievalConfig
from raykd.retrieval.pipeline import search_files
from raykd.storage.delimited import Layout
from raykd.storage.locations import location_of
from raykd.storage.remote.output import output_at

_COMMAND = "raykd search"
_DEFAULT_TOP_K = 10
_NO_BM25_OPTIONS = Bm25Options()
_NO_TERM_OPTIONS = TermOptions()
_NO_DENSE_OPTIONS = DenseOptions()


def search(
    recipe: Annotated[
        Path | None, Parameter(help="Recipe whose stages are run up to retrieval.")
    ] = None,
    /,
    *,
    corpus: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="Files or folders to search."),
    ] = None,
    queries: Annotated[
        str | None, Parameter(help="Table with the columns query_id and text.")
    ] = None,
    out: OutFolder = None,
    top_k: Annotated[
        int | None, Parameter(help="Hits per query.", show_default=str(_DEFAULT_TOP_K))
    ] = None,
    ranker: Annotated[
        Ranker | None,
        Parameter(
            help="Rank by bm25, by embeddings (dense), or by both, fused by rank (hybrid).",
            show_default=default_of(RetrievalConfig, "ranker"),
        ),
    ] = None,
    shard_bytes: Annotated[
        int | None,
        Parameter(
            help="Bytes of text per task; limits memory, does not change the hits.",
            show_default="64 MiB",
        ),
    ] = None,
    query_columns: ColumnNames = None,
    keep: Annotated[
        Path | None,
        Parameter(
            help="Folder that keeps units and statistics for later searches of the same corpus, "
            "also after files were added."
        ),
    ] = None,
    bm25: Bm25Options = _NO_BM25_OPTIONS,
    terms: TermOptions = _NO_TERM_OPTIONS,
    dense: DenseOptions = _NO_DENSE_OPTIONS,
    reading: ReadingOptions = NO_READING_OPTIONS,
    method: Annotated[str | None, Parameter(show=False)] = None,
) -> None:
    """Run the search of a recipe, or search any corpus with any queries."""
    if method is not None:
        raise InputError(f"{_COMMAND}: `--method` is now `--ranker`")
    general = {
        "corpus": corpus,
        "queries": queries,
        "top_k": top_k,
        "ranker": ranker,
        "shard_bytes": shard_bytes,
        "query_columns": query_columns,
        "keep": keep,
    }
    if recipe is not None:
        given = {name: value for name, value in general.items() if value is not None}
        for group in (bm25, terms, dense, reading):
            given |= given_options(group)
        if given:
            raise InputError(
                f"{_COMMAND} {recipe}: {flags(given)} cannot be combined with a recipe, which "
                "contains these settings; only --out can"
            )
        run_until("retrieve", recipe, out)
        return
    if corpus is None or queries is None or out is None:
        raise InputError(f"{_COMMAND}: give a RECIPE, or --corpus PATH... --queries PATH --out DIR")
    settings = _settings(ranker or "bm25", top_k, bm25, terms, dense)
    embedder = None
    if settings.dense is not None:
        from raykd.workflow.embedder import load_embedder  # imports torch

        embedder = load_embedder(_COMMAND, settings)
    with output_at(out) as folder:
        manifest = search_files(
            [location_of(path) for path in corpus],
            location_of(queries),
            folder,
            top_k=settings.top_k,
            bm25=settings.bm25,
            analyzer=settings.analyzer,
            keywords=terms.keywords or "none",
            shard_bytes=shard_bytes,
            ranker=settings.ranker,
            dense=settings.dense,
            embedder=embedder,
            embeddings=dense.embeddings,
            keep=keep,
            reading=reading.reading(),
            query_layout=Layout(None if query_columns is None else tuple(query_columns)),
        )
    print(summaries.of_search(out, folder, manifest))  # noqa: T201  # the command's answer


def _settings(
    ranker: Ranker,
    top_k: int | None,
    bm25: Bm25Options,
    terms: TermOptions,
    dense: DenseOptions,
) -> RetrievalConfig:
    """Return the settings of a search; refuse options that the ranker does not use."""
    of_terms = given_options(bm25) | given_options(terms)
    of_embeddings = given_options(dense)
    if ranker == "bm25" and of_embeddings:
        raise InputError(f"{_COMMAND}: {flags(of_embeddings)}: use with --ranker dense or hybrid")
    if ranker == "dense" and of_terms:
        raise InputError(f"{_COMMAND}: {flags(of_terms)}: use with --ranker bm25 or hybrid")
    if ranker != "bm25" and dense.model is None:
        raise InputError(f"{_COMMAND}: --ranker {ranker} requires --model, the encoder of texts")
    analyzer: dict[str, Any] = {"stemmer": terms.stemmer}
    if terms.stop_words:
        analyzer["stop_words"] = "english"
    values: dict[str, Any] = {
        "ranker": ranker,
        "top_k": _DEFAULT_TOP_K if top_k is None else top_k,
        "bm25": given_options(bm25),
        "analyzer": analyzer,
    }
    if ranker != "bm25":
        section = {name: value for name, value in of_embeddings.items() if name != "embeddings"}
        if dense.index is not None:
            section["index"] = {"name": dense.index}
        values["dense"] = section
    return RetrievalConfig.parse(values, _COMMAND)
