"""Stages from the general corpus and the task to the texts that students learn from."""

import functools

import pyarrow.parquet as pq

from raykd import cluster, contextualize, corpora, progress, random_corpus
from raykd.corpora import QUERIES_FILE
from raykd.corpus import docstrings
from raykd.corpus import pipeline as corpus_pipeline
from raykd.corpus_card import read_card
from raykd.evaluation.class_counts import describe
from raykd.evaluation.store import write_task
from raykd.manifest import digest_of_directory, read_manifest
from raykd.preflight import search_embedder
from raykd.retrieval import pipeline as retrieval_pipeline
from raykd.retrieval.query_sets import QuerySet
from raykd.run import Run


def make_docstrings(run: Run) -> None:
    """docstrings: the demo's corpus and task, from the documentation of installed packages."""
    if run.recipe.docstrings is not None:
        docstrings.build(run.recipe.docstrings, run.out / "docstrings", cluster.for_each)


def load_task(run: Run) -> None:
    """task: training and evaluation examples, checked."""
    write_task(run.recipe.task, run.resolve, run.task_folder)
    for line in describe(run.task()):
        progress.say(line)


def ingest(run: Run) -> None:
    """ingest: the general corpus, cut into units and shards."""
    config = run.recipe.corpus
    if config is not None:
        paths = [run.resolve(path) for path in config.paths]
        corpus_pipeline.ingest(config, paths, run.units)


def search(run: Run) -> None:
    """search: the units nearest to each sentence of the task, by BM25, embeddings, or both."""
    config = run.recipe.retrieval
    if config is None:
        return
    queries = corpora.write_queries(run.task_folder, config.query_keywords, run.queries)
    retrieval_pipeline.search(
        corpus_pipeline.shard_paths(run.units),
        [QuerySet("hits", pq.read_table(run.queries / QUERIES_FILE), config.top_k)],
        config,
        run.hits,
        {"units": digest_of_directory(run.units), "queries": queries.digest},
        search_embedder(run),
        run.embeddings,
    )


def make_textbooks(run: Run) -> None:
    """contextualize: the contextualized corpus, and a random one of the same size."""
    recipe = run.recipe
    if not recipe.corpus_arms or recipe.retrieval is None:
        return
    hits, units = read_manifest(run.hits), read_manifest(run.units)
    assert hits is not None
    assert units is not None
    shards = corpus_pipeline.shard_paths(run.units)
    surroundings = corpora.surroundings(run.task(), shards, units, run.sample)
    made = contextualize.contextualize(
        run.hits / retrieval_pipeline.HITS_FILE,
        functools.partial(retrieval_pipeline.gather, shards),
        surroundings,
        recipe.contextualize,
        run.textbook("contextualized"),
        {"hits": hits.digest, "units": units.digest},
        search=corpora.search_facts(recipe.retrieval, recipe.retrieval.top_k, hits),
    )
    if "random" in recipe.arms:
        random_corpus.random_corpus(
            shards,
            int(made.counts["num_units"]),
            surroundings,
            recipe.contextualize,
            run.textbook("random"),
            {"units": units.digest},
            draw=corpora.drawing(shards, recipe.contextualize.random_seed, "random corpus"),
            like=read_card(run.textbook("contextualized")).text,
        )
