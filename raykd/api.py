"""Python API: what the commands do, as functions.

Each function calls the same code as its command, raises `raykd.errors.InputError` for the user's
mistakes, and resumes or skips what is complete, as its command does. The functions start a local
Ray, or use the one that `RAY_ADDRESS` or `ray.init` name. Keyword-only arguments are settings; a
type that is wider later, such as a Ray Data dataset in place of a path, keeps today's calls valid.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raykd.errors import InputError

# Heavy imports are inside the functions, so that `import raykd` takes no time.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

StrPath = str | PathLike[str]


def search(
    corpus: StrPath | Sequence[StrPath],
    queries: StrPath,
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
) -> Path:
    """Find the top-k units of each query, as `raykd search --corpus` does.

    Args:
        corpus: files, folders or URLs of rows with `text`, and optionally `unit_id` or `doc_id`
            (kept) and `title` (searched with the text).
        queries: table with the columns `query_id` and `text`.
        out: directory to write.
        top_k: hits per query.
        ranker: exact BM25, embeddings, or both.
        keywords: search for whole texts (none), or for their RAKE keywords (rake); None: whole
            texts.
        bm25: keys of the recipe's section `retrieval.bm25`.
        analyzer: keys of `retrieval.analyzer`.
        dense: keys of `retrieval.dense`, for the rankers dense and hybrid.
        fusion: keys of `retrieval.fusion`, for the ranker hybrid.
        embeddings: directory that keeps the units' embeddings for later searches.
        shard_bytes: bytes of text per task; None: by memory and CPUs.

    Returns:
        The file of the hits, `out/hits.parquet`: query_id, unit_id, score, rank.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.retrieval.config import RetrievalConfig
    from raykd.retrieval.pipeline import search_files
    from raykd.storage.locations import location_of
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
    search_files(
        [location_of(path) for path in _paths(corpus)],
        location_of(_path(queries)),
        Path(out),
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
    return Path(out) / "hits.parquet"


def dedup(
    corpus: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    near_duplicates: dict[str, Any] | None = None,
) -> Path:
    """Remove units of equal text from a corpus, as `raykd dedup` does.

    Args:
        corpus: files, folders or URLs of rows with `text`.
        out: directory to write.
        near_duplicates: keys of the recipe's section `contextualize.near_duplicates`, to remove
            near duplicates too; {} takes its defaults. None: equal texts only.

    Returns:
        The folder of the kept units, `out/units`.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.dedup.minhash import NearDuplicatesConfig
    from raykd.dedup.pipeline import DedupConfig
    from raykd.dedup.pipeline import dedup as dedup_corpus
    from raykd.storage.locations import location_of

    near = None
    if near_duplicates is not None:
        near = NearDuplicatesConfig.parse(near_duplicates, "raykd.dedup")
    paths = [location_of(path) for path in _paths(corpus)]
    dedup_corpus(paths, Path(out), DedupConfig(near_duplicates=near))
    return Path(out) / "units"


def contextualize(recipe: StrPath, *, out: StrPath | None = None) -> dict[str, Path]:
    """Make the contextualized corpora of a recipe, as `raykd corpus` does.

    Args:
        recipe: YAML file that names several tasks, or the recipe of a run.
        out: directory to write; None: runs/NAME.

    Returns:
        The folder of each task's corpus, by task.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.workflow.corpora import contextualize_recipe

    made = contextualize_recipe(Path(recipe), _out(out))
    return {corpus.task: corpus.folder for corpus in made}


def run(recipe: StrPath, *, out: StrPath | None = None) -> Path:
    """Run every stage of a recipe, as `raykd run` does.

    Args:
        recipe: YAML file.
        out: run directory; None: runs/NAME.

    Returns:
        The run directory: `results.json`, `report.html`, and the folder `student`.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    opened = open_run(Path(recipe), _out(out))
    run_stages(opened, "report")
    return opened.out


def tune(recipe: StrPath, *, out: StrPath | None = None) -> Path:
    """Search for the best settings of a recipe's section `tune`, as `raykd tune` does.

    Args:
        recipe: YAML file.
        out: run directory; None: runs/NAME.

    Returns:
        The run directory, with the trials; `raykd best` shows them.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.workflow.run import open_run
    from raykd.workflow.tuning import tune as tune_run

    opened = open_run(Path(recipe), _out(out))
    tune_run(opened)
    return opened.out


def load_student(folder: StrPath) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a student of a run as a transformers model, in evaluation mode, and its tokenizer.

    Args:
        folder: run directory, or a folder of a model in it.

    Raises:
        InputError: there is no student in it.
    """
    from raykd.models.encoder import load_encoder, load_tokenizer

    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{folder}: no such directory; give a run directory or a model's folder")
    student = path / "student" if (path / "student").is_dir() else path
    reference = str(student.resolve())
    return load_encoder(reference).model, load_tokenizer(reference)


def _path(path: StrPath) -> str:
    return str(path)


def _paths(paths: StrPath | Sequence[StrPath]) -> list[str]:
    if isinstance(paths, str | PathLike):
        return [str(paths)]
    return [str(path) for path in paths]


def _out(out: StrPath | None) -> Path | None:
    return None if out is None else Path(out)
