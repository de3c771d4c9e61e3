"""The command `raykd search`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd.cli.reading_options import AS_FOUND, ColumnNames, ReadingOptions
from raykd.cli.recipe_options import OutFolder, run_until
from raykd.errors import InputError

_TERM_DEFAULTS = (1.2, 0.75, "lucene", "exact", "none", None, False)
_DENSE_DEFAULTS = (None, "mean", 128, "flat", None)
_FILE_DEFAULTS = (None, AS_FOUND)
_SEARCH_DEFAULTS = (
    *(None, None, 10, None, "bm25"),
    *_TERM_DEFAULTS,
    *_DENSE_DEFAULTS,
    *_FILE_DEFAULTS,
)


def search(
    recipe: Annotated[
        Path | None, Parameter(help="A recipe, to run its stages up to this.")
    ] = None,
    /,
    *,
    corpus: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="Files or folders to search."),
    ] = None,
    queries: Annotated[
        str | None, Parameter(help="A table with columns query_id and text.")
    ] = None,
    out: OutFolder = None,
    top_k: Annotated[int, Parameter(help="Hits a query.")] = 10,
    k1: Annotated[float, Parameter(help="BM25: how soon a repeated term stops counting.")] = 1.2,
    b: Annotated[float, Parameter(help="BM25: how much a long unit is held back.")] = 0.75,
    variant: Annotated[
        Literal["lucene", "robertson", "atire", "bm25l", "bm25+"], Parameter(help="Which BM25.")
    ] = "lucene",
    norms: Annotated[
        Literal["exact", "lucene"], Parameter(help="Lengths as they are, or in Lucene's one byte.")
    ] = "exact",
    keywords: Annotated[
        Literal["none", "rake"], Parameter(help="Search texts as given, or their RAKE keywords.")
    ] = "none",
    stemmer: Annotated[
        str | None, Parameter(help="A Snowball stemmer, as english, of corpus and queries.")
    ] = None,
    stop_words: Annotated[
        bool, Parameter(negative="", help="Leave out Lucene's 33 English stop words.")
    ] = False,
    shard_bytes: Annotated[
        int | None, Parameter(help="Text a task reads; memory and CPUs decide (default: 64 MiB).")
    ] = None,
    ranker: Annotated[
        Literal["bm25", "dense", "hybrid"],
        Parameter(help="Search terms, the embeddings of --model, or both, fused by their ranks."),
    ] = "bm25",
    model: Annotated[
        str | None,
        Parameter(help="The encoder: a folder, package:NAME/FOLDER, or a name on the hub."),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls"], Parameter(help="What of the model's output is the embedding.")
    ] = "mean",
    max_length: Annotated[int, Parameter(help="Tokens that the model reads of a text.")] = 128,
    index: Annotated[
        Literal["flat", "ivf", "hnsw"], Parameter(help="flat is exact; the others are faster.")
    ] = "flat",
    embeddings: Annotated[
        Path | None,
        Parameter(help="Keep the embeddings of units here, for searches with other queries."),
    ] = None,
    query_columns: ColumnNames = None,
    reading: ReadingOptions = AS_FOUND,
    method: Annotated[str | None, Parameter(show=False)] = None,
) -> None:
    """Find the top-k units of each query by exact BM25, by embeddings, or by both.

    The queries are those of a recipe, or of any table, and so is the corpus.

    Either RECIPE, or --corpus and --queries and --out. Corpus rows have `text`, and may have
    `unit_id` or `doc_id` (kept) and `title` (searched with the text).
    """
    if method is not None:
        raise InputError("raykd search: `--method` is now `--ranker`")
    of_terms = (k1, b, variant, norms, keywords, stemmer, stop_words)
    of_dense = (model, pooling, max_length, index, embeddings)
    if recipe is not None:
        of_files = (query_columns, reading)
        given = (corpus, queries, top_k, shard_bytes, ranker, *of_terms, *of_dense, *of_files)
        if given != _SEARCH_DEFAULTS:
            raise InputError(
                f"raykd search {recipe}: the recipe says what is searched and how; of the options "
                "only --out goes with it"
            )
        run_until("retrieve", recipe, out)
        return
    if corpus is None or queries is None or out is None:
        raise InputError(
            "raykd search: give a RECIPE, or --corpus PATH... --queries PATH --out DIR"
        )
    from raykd.cli import summaries
    from raykd.retrieval.bm25.scoring import Bm25Config
    from raykd.retrieval.pipeline import search_files
    from raykd.storage.delimited import Layout
    from raykd.storage.locations import location_of
    from raykd.text.analyzer import AnalyzerConfig

    bm25 = Bm25Config.parse({"k1": k1, "b": b, "variant": variant, "norms": norms}, "raykd search")
    analyzer = AnalyzerConfig.parse(
        {"stemmer": stemmer, "stop_words": "english" if stop_words else None}, "raykd search"
    )
    dense = embedder = None
    if ranker == "bm25":
        if of_dense != _DENSE_DEFAULTS:
            raise InputError(
                "raykd search: --model, --pooling, --max-length, --index and --embeddings go with "
                "--ranker dense or hybrid"
            )
    else:
        from raykd.retrieval.config import RetrievalConfig
        from raykd.workflow.embedder import load_embedder

        if model is None:
            raise InputError(f"raykd search: --ranker {ranker} needs the --model that embeds")
        if ranker == "dense" and of_terms != _TERM_DEFAULTS:
            raise InputError(
                "raykd search: --k1, --b, --variant, --norms, --keywords, --stemmer and "
                "--stop-words go with --ranker bm25 or hybrid"
            )
        section = {
            "model": model,
            "pooling": pooling,
            "max_length": max_length,
            "index": {"name": index},
        }
        config = RetrievalConfig.parse(
            {"ranker": ranker, "top_k": top_k, "dense": section}, "raykd search"
        )
        dense, embedder = config.dense, load_embedder("raykd search", config)
    manifest = search_files(
        [location_of(path) for path in corpus],
        location_of(queries),
        out,
        top_k=top_k,
        bm25=bm25,
        analyzer=analyzer,
        keywords=keywords,
        shard_bytes=shard_bytes,
        ranker=ranker,
        dense=dense,
        embedder=embedder,
        embeddings=embeddings,
        reading=reading.reading(),
        query_layout=Layout(None if query_columns is None else tuple(query_columns)),
    )
    print(summaries.of_search(out, manifest))  # noqa: T201  # the command's answer
