"""Steps that a run and the corpora of several tasks have in common."""

import functools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.cluster import datasets
from raykd.contextualize.card import GeneralFacts, SearchFacts
from raykd.contextualize.sample import SAMPLE_SEED, Draw, draw_from_shard, write_sample
from raykd.contextualize.select import ReferenceTexts
from raykd.corpus.rows import QUOTES_COUNTS
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.queries import make_queries, task_sentences
from raykd.storage.manifest import Draft, Manifest, digest_of_file, write_once
from raykd.storage.remote.task_files import TaskFiles
from raykd.tasks.store import read_task
from raykd.tasks.task import Task

QUERIES_FILE = "queries.parquet"
READING_COUNTS = (
    "num_quarantined",
    "num_empty",
    "num_dropped_documents",
    "num_dropped_short",
    *QUOTES_COUNTS,
)


def write_queries(task_folder: Path, config: RetrievalConfig, out: Path) -> Manifest:
    """Write `out/queries.parquet`, the queries of a task's sentences."""

    def write(draft: Draft) -> None:
        queries = make_queries(
            task_sentences(read_task(task_folder).train),
            config.query_keywords,
            functools.partial(datasets.for_each, files=None),
            stop_words=config.keyword_stop_words,
        )
        pq.write_table(queries, draft.directory / QUERIES_FILE)

    inputs = {"train": digest_of_file(task_folder / "train.parquet")}
    settings: dict[str, object] = {"keywords": config.query_keywords}
    if config.query_keywords == "rake":
        settings["stop_words"] = config.keyword_stop_words
    return write_once(out, "queries", settings, inputs, write)


def reference_texts(
    task: Task, shards: Sequence[Path], units: Manifest, sample: Path, whole: Task | None = None
) -> ReferenceTexts:
    """Collect the texts that a task's corpora are filtered by and compared with; write `sample`.

    Args:
        task: the task.
        shards: shards of the general corpus.
        units: manifest of these.
        sample: folder of the units that represent the corpus in figures.
        whole: the task that the rows are part of, whose reported rows no student may learn from.
    """
    num_units = int(units.counts["num_units"])
    draw = drawing(shards, SAMPLE_SEED, "sample of the general corpus")
    evaluated = [task.train.slice(0, 0), *task.evaluation_splits()]
    if whole is not None:
        evaluated += whole.evaluation_splits()
    write_sample(num_units, draw, sample, {"units": units.digest})
    return ReferenceTexts(
        evaluation_sentences=task_sentences(pa.concat_tables(evaluated)),
        task_sentences=task_sentences(task.train),
        sample=sample,
        general=GeneralFacts(
            num_units=num_units,
            num_bytes=int(units.counts["num_bytes"]),
            **{name: int(units.counts[name]) for name in READING_COUNTS},
        ),
    )


def drawing(shards: Sequence[Path], seed: int, label: str) -> Draw:
    """Draws units at random, one task per shard."""

    def draw(fraction: float) -> list[pa.Table]:
        function = functools.partial(draw_from_shard, fraction=fraction, seed=seed)
        return datasets.for_each(
            function,
            shards,
            label=f"drawing the {label}",
            files=lambda path: TaskFiles((path,)),
        )

    return draw


def search_facts(config: RetrievalConfig, top_k: int, hits: Manifest) -> SearchFacts:
    """Return the facts about a search for the corpus card."""
    names = ("num_empty_queries", "num_fallback_queries")
    return SearchFacts(
        ranker=config.ranker,
        model=config.dense.model if config.dense else None,
        top_k=top_k,
        num_queries=int(hits.counts["num_queries"]),
        **{name: int(hits.counts[name]) for name in names},
    )
