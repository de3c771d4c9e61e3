"""Functions on corpora: search, deduplication, contextualized corpora."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast, overload

from raykd.api.arguments import StrPath, is_dataset, listed_paths, optional_path
from raykd.errors import InputError

# Heavy imports are inside the functions, so that `import raykd` takes no time.
if TYPE_CHECKING:
    from raykd.cluster.sources import Dataset
    from raykd.storage.locations import Location


class SearchSettings(TypedDict, total=False):
    """Settings of `search`."""

    top_k: int
    ranker: Literal["bm25", "dense", "hybrid"]
    keywords: Literal["none", "rake"] | None
    bm25: dict[str, Any] | None
    analyzer: dict[str, Any] | None
    dense: dict[str, Any] | None
    fusion: dict[str, Any] | None
    embeddings: StrPath | None
    keep: StrPath | None
    shard_bytes: int | None


@overload
def search(
    corpus: "Dataset",
    queries: "StrPath | Dataset",
    out: StrPath,
    **settings: Unpack[SearchSettings],
) -> "Dataset": ...


@overload
def search(
    corpus: StrPath | Sequence[StrPath],
    queries: "StrPath | Dataset",
    out: StrPath,
    **settings: Unpack[SearchSettings],
) -> Path: ...


def search(
    corpus: "StrPath | Sequence[StrPath] | Dataset",
    queries: "StrPath | Dataset",
    out: StrPath,
    *,
    top_k: int = 10,
    ranker: Literal["bm25", "dense", "hybrid"] = "bm25",
    keywords: Literal["none", "rake"] | None = None,
    bm25: dict[str, Any] | None = None,
    analyzer: dict[str, Any] | None = None,
    dense: dict[str, Any] | None = None,
    fusion: dict[str, Any] | None = None,
    embeddings: StrPath | None = None,
    keep: StrPath | None = None,
    shard_bytes: int | None = None,
) -> "Path | Dataset":
    """Find the top-k units of each query, as `raykd search --corpus` does.

    Args:
        corpus: files, folders or URLs of rows with `text`, and optionally `unit_id` or `doc_id`
            (kept) and `title` (searched with the text); or a dataset of such rows. Without ids,
            the units of a dataset are numbered by the hash of their texts.
        queries: table, or dataset, with the columns `query_id` and `text`.
        out: directory or URL to write.
        top_k: hits per query.
        ranker: exact BM25, embeddings, or both.
        keywords: search for whole texts (none), or for their RAKE keywords (rake); None: whole
            texts.
        bm25: keys of the recipe's section `retrieval.bm25`.
        analyzer: keys of `retrieval.analyzer`.
        dense: keys of `retrieval.dense`, for the rankers dense and hybrid.
        fusion: keys of `retrieval.fusion`, for the ranker hybrid.
        embeddings: directory that keeps the units' embeddings for later searches.
        keep: directory that keeps units and statistics for later searches of the same corpus, also
            after files were added.
        shard_bytes: bytes of text per task; None: 64 MiB.

    Returns:
        The file of the hits, `out/hits.parquet`: query_id, unit_id, score, rank. For a dataset,
        the hits as a dataset.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.retrieval.config import RetrievalConfig
    from raykd.retrieval.pipeline import search_files
    from raykd.storage.remote.output import output_at
    from raykd.workflow.embedder import load_embedder

    if ranker == "dense":
        # A recipe's section cannot refuse the value that is its default.
        if keywords is not None:
            raise InputError("raykd.search: ranker 'dense' has no keywords; remove keywords")
    elif keywords is None:
        keywords = "none"
    given = {
        "keywords": keywords,
        "bm25": bm25,
        "analyzer": analyzer,
        "dense": dense,
        "fusion": fusion,
    }
    if embeddings is not None and ranker == "bm25":
        raise InputError("raykd.search: ranker 'bm25' has no embeddings to keep; remove embeddings")
    config = RetrievalConfig.parse(
        {
            "ranker": ranker,
            "top_k": top_k,
            **{key: value for key, value in given.items() if value is not None},
        },
        "raykd.search",
    )
    with ExitStack() as stack:
        folder = stack.enter_context(output_at(Path(out)))
        search_files(
            _corpus_files(corpus, folder, stack),
            _query_file(queries, folder, stack),
            folder,
            top_k=config.top_k,
            bm25=config.bm25,
            analyzer=config.analyzer,
            keywords=config.query_keywords,
            shard_bytes=shard_bytes,
            ranker=ranker,
            dense=config.dense,
            fusion=config.fusion,
            embedder=load_embedder("raykd.search", config),
            embeddings=None if embeddings is None else Path(embeddings),
            keep=None if keep is None else Path(keep),
        )
    hits = folder / "hits.parquet"
    return _dataset_of(hits) if is_dataset(corpus) else hits


@overload
def dedup(
    corpus: "Dataset", out: StrPath, *, near_duplicates: dict[str, Any] | None = None
) -> "Dataset": ...


@overload
def dedup(
    corpus: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    near_duplicates: dict[str, Any] | None = None,
) -> Path: ...


def dedup(
    corpus: "StrPath | Sequence[StrPath] | Dataset",
    out: StrPath,
    *,
    near_duplicates: dict[str, Any] | None = None,
) -> "Path | Dataset":
    """Remove units of equal text from a corpus, as `raykd dedup` does.

    Args:
        corpus: files, folders or URLs of rows with `text`, or a dataset of such rows.
        out: directory or URL to write.
        near_duplicates: keys of the recipe's section `contextualize.near_duplicates`, to remove
            near duplicates too; {} takes its defaults. None: equal texts only.

    Returns:
        The folder of the kept units, `out/units`; for a dataset, the units as a dataset.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.dedup.minhash import NearDuplicatesConfig
    from raykd.dedup.pipeline import DedupConfig
    from raykd.dedup.pipeline import dedup as dedup_corpus
    from raykd.storage.remote.output import output_at

    near = None
    if near_duplicates is not None:
        near = NearDuplicatesConfig.parse(near_duplicates, "raykd.dedup")
    with ExitStack() as stack:
        folder = stack.enter_context(output_at(Path(out)))
        files = _corpus_files(corpus, folder, stack)
        dedup_corpus(files, folder, DedupConfig(near_duplicates=near))
    units = folder / "units"
    return _dataset_of(units) if is_dataset(corpus) else units


@overload
def contextualize(
    recipe: StrPath, *, out: StrPath | None = None, corpus: "Dataset"
) -> "dict[str, Dataset]": ...


@overload
def contextualize(recipe: StrPath, *, out: StrPath | None = None) -> dict[str, Path]: ...


def contextualize(
    recipe: StrPath, *, out: StrPath | None = None, corpus: "Dataset | None" = None
) -> "dict[str, Path] | dict[str, Dataset]":
    """Make the contextualized corpora of a recipe, as `raykd corpus` does.

    Args:
        recipe: YAML file that names several tasks, or the recipe of a run.
        out: directory or URL to write; None: runs/NAME.
        corpus: dataset with the column `corpus.text_column`, in place of the files that a recipe of
            several tasks names.

    Returns:
        The folder of each task's corpus, by task; with `corpus`, its texts as a dataset.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.storage.remote.output import optional_output_at
    from raykd.storage.schemas import TEXT_FILE
    from raykd.workflow.corpora import contextualize_recipe

    with optional_output_at(optional_path(out)) as folder:
        made = contextualize_recipe(Path(recipe), folder, corpus)
    if corpus is None:
        return {one.task: one.folder for one in made}
    return {one.task: _dataset_of(one.folder / TEXT_FILE) for one in made}


def _dataset_of(path: Path) -> "Dataset":
    from raykd.cluster.sources import read_parquet

    return read_parquet(path)


def _corpus_files(
    corpus: "StrPath | Sequence[StrPath] | Dataset", out: Path, stack: ExitStack
) -> "list[Location]":
    from raykd.corpus.dataset.copy import copied
    from raykd.storage.locations import location_of

    if is_dataset(corpus):
        return [*stack.enter_context(copied(cast("Dataset", corpus), "text", out))]
    return [location_of(path) for path in listed_paths(cast("StrPath | Sequence[StrPath]", corpus))]


def _query_file(queries: "StrPath | Dataset", out: Path, stack: ExitStack) -> "Location":
    from raykd.corpus.dataset.copy import copied_table
    from raykd.storage.locations import location_of

    if is_dataset(queries):
        return stack.enter_context(copied_table(cast("Dataset", queries), "query_id", out))
    return location_of(str(queries))
