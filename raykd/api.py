"""Python API: what the commands do, as functions.

Each function calls the same code as its command, raises `raykd.errors.InputError` for the user's
mistakes, and resumes or skips what is complete, as its command does. Where `out` is a URL, the
returned paths are of its local copy. The functions start a local Ray, or use the one that
`RAY_ADDRESS` or `ray.init` name. `search`, `dedup` and `contextualize` also take a corpus as a
dataset of Ray Data, and then return one; every call reads it again.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast, overload

from raykd.errors import InputError

# Heavy imports are inside the functions, so that `import raykd` takes no time.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from raykd.cluster.sources import Dataset
    from raykd.storage.locations import Location

StrPath = str | PathLike[str]


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
        )
    hits = folder / "hits.parquet"
    return _dataset_of(hits) if _is_dataset(corpus) else hits


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
    return _dataset_of(units) if _is_dataset(corpus) else units


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

    with optional_output_at(_out(out)) as folder:
        made = contextualize_recipe(Path(recipe), folder, corpus)
    if corpus is None:
        return {one.task: one.folder for one in made}
    return {one.task: _dataset_of(one.folder / TEXT_FILE) for one in made}


def run(recipe: StrPath, *, out: StrPath | None = None) -> Path:
    """Run every stage of a recipe, as `raykd run` does.

    Args:
        recipe: YAML file.
        out: run directory or URL; None: runs/NAME.

    Returns:
        The run directory: `results.json`, `report.html`, and the folder `student`.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    with optional_output_at(_out(out)) as folder:
        opened = open_run(Path(recipe), folder)
        run_stages(opened, "report")
    return opened.out


def tune(recipe: StrPath, *, out: StrPath | None = None) -> Path:
    """Search for the best settings of a recipe's section `tune`, as `raykd tune` does.

    Args:
        recipe: YAML file.
        out: run directory or URL; None: runs/NAME.

    Returns:
        The run directory, with the trials; `raykd best` shows them.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.run import open_run
    from raykd.workflow.tune.tuning import tune as tune_run

    with optional_output_at(_out(out)) as folder:
        opened = open_run(Path(recipe), folder)
        tune_run(opened)
    return opened.out


def load_student(folder: StrPath) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a student of a run as a transformers model, in evaluation mode, and its tokenizer.

    Args:
        folder: run directory, or a folder of a model in it; or the URL of one of these.

    Raises:
        InputError: there is no student in it.
    """
    from raykd.models.encoder import load_encoder, load_tokenizer
    from raykd.storage.remote.output import local_folder, student_of, url_of

    url = url_of(str(folder))
    path = Path(folder) if url is None else local_folder(student_of(url))
    if not path.is_dir():
        raise InputError(f"{folder}: no such directory; give a run directory or a model's folder")
    student = path / "student" if (path / "student").is_dir() else path
    reference = str(student.resolve())
    return load_encoder(reference).model, load_tokenizer(reference)


def _is_dataset(value: object) -> bool:
    # Its type is known by name, so that a search of files does not import Ray Data here.
    return type(value).__module__.startswith("ray.data")


def _dataset_of(path: Path) -> "Dataset":
    from raykd.cluster.sources import read_parquet

    return read_parquet(path)


def _corpus_files(
    corpus: "StrPath | Sequence[StrPath] | Dataset", out: Path, stack: ExitStack
) -> "list[Location]":
    from raykd.corpus.dataset.copy import copied
    from raykd.storage.locations import location_of

    if _is_dataset(corpus):
        return [*stack.enter_context(copied(cast("Dataset", corpus), "text", out))]
    return [location_of(path) for path in _paths(cast("StrPath | Sequence[StrPath]", corpus))]


def _query_file(queries: "StrPath | Dataset", out: Path, stack: ExitStack) -> "Location":
    from raykd.corpus.dataset.copy import copied_table
    from raykd.storage.locations import location_of

    if _is_dataset(queries):
        return stack.enter_context(copied_table(cast("Dataset", queries), "query_id", out))
    return location_of(str(queries))


def _paths(paths: StrPath | Sequence[StrPath]) -> list[str]:
    if isinstance(paths, str | PathLike):
        return [str(paths)]
    return [str(path) for path in paths]


def _out(out: StrPath | None) -> Path | None:
    return None if out is None else Path(out)
