"""Stages from the general corpus and the task to the texts that students learn from."""

import functools
from pathlib import Path

import pyarrow.parquet as pq

from raykd import progress
from raykd.augment.rows import select_rows
from raykd.cluster import datasets
from raykd.contextualize.baseline import CorpusSize
from raykd.contextualize.card import read_card
from raykd.contextualize.dsir_baseline import dsir_corpus
from raykd.contextualize.random_baseline import random_corpus
from raykd.contextualize.select import ReferenceTexts, contextualize
from raykd.corpus import pipeline as corpus_pipeline
from raykd.demo import docstrings
from raykd.retrieval import pipeline as retrieval_pipeline
from raykd.retrieval.query_sets import QuerySet
from raykd.storage.manifest import Manifest, digest_of_directory, read_manifest
from raykd.tasks.class_counts import describe
from raykd.tasks.store import read_task, write_task
from raykd.workflow import steps
from raykd.workflow.checks.preflight import search_embedder
from raykd.workflow.evaluation_sets import load_sets
from raykd.workflow.recipe.variants import Text
from raykd.workflow.run import Run
from raykd.workflow.steps import QUERIES_FILE


def make_docstrings(run: Run) -> None:
    """docstrings: the demo's corpus and task, from the documentation of installed packages."""
    if run.recipe.docstrings is not None:
        for_each = functools.partial(datasets.for_each, files=None)
        docstrings.build(run.recipe.docstrings, run.out / "docstrings", for_each)


def load_task(run: Run) -> None:
    """task: training and evaluation examples, and evaluation sets, checked."""
    write_task(run.recipe.task, run.resolve, run.task_folder)
    for line in describe(run.task()):
        progress.say(line)
    load_sets(run)


def ingest(run: Run) -> None:
    """ingest: the general corpora, cut into units and shards."""
    for corpus in corpora_of(run):
        config = run.recipe.all_corpora[corpus]
        paths = [run.resolve(path) for path in config.paths]
        corpus_pipeline.ingest(config, paths, run.units_of(corpus))


def retrieve(run: Run) -> None:
    """retrieve: the units nearest to each sentence of the task, by BM25, embeddings, or both."""
    config = run.recipe.retrieval
    if config is None:
        return
    for corpus in searched_corpora_of(run):
        queries = steps.write_queries(run.task_folder, config, run.queries)
        units = run.units_of(corpus)
        retrieval_pipeline.search_corpus(
            corpus_pipeline.shard_paths(units),
            [QuerySet("hits", pq.read_table(run.queries / QUERIES_FILE), config.top_k)],
            config,
            run.hits_in(corpus),
            {"units": digest_of_directory(units), "queries": queries.digest},
            search_embedder(run),
            run.embeddings_of(corpus),
            run.kept_of(corpus),
        )


def make_training_texts(run: Run) -> None:
    """contextualize: contextualized corpora, and those it is compared with."""
    recipe = run.recipe
    if recipe.adaptation.rows == "task_da":
        assert recipe.task_da is not None
        select_rows(Path(recipe.task_da), run.task_folder, run.augmented_rows)
    for text in recipe.corpus_texts:
        units = read_manifest(run.units_of(text.corpus))
        assert units is not None
        if text.kind == "contextualized":
            _contextualize(run, text, units)
        else:
            _draw(run, text, units)


def _contextualize(run: Run, text: Text, units: Manifest) -> None:
    retrieval, hits_folder = run.recipe.retrieval, run.hits_in(text.corpus)
    hits = read_manifest(hits_folder)
    assert retrieval is not None
    assert hits is not None
    contextualize(
        hits_folder / retrieval_pipeline.HITS_FILE,
        functools.partial(retrieval_pipeline.gather, _shards(run, text)),
        _reference_texts(run, text, units),
        run.recipe.contextualize,
        run.training_text(text),
        {"hits": hits.digest, "units": units.digest},
        search=steps.search_facts(retrieval, retrieval.top_k, hits),
    )


def _draw(run: Run, text: Text, units: Manifest) -> None:
    config, size, like = run.recipe.contextualize, CorpusSize(num_units=text.num_units), None
    if text.follows_contextualized:
        card = read_card(run.training_text(Text("contextualized", text.corpus)))
        size, like = CorpusSize.of(card, config.baseline_size), card.text
    shards = _shards(run, text)
    reference_texts = _reference_texts(run, text, units)
    out, inputs = run.training_text(text), {"units": units.digest}
    if text.kind == "dsir":
        for_each = datasets.for_each
        dsir_corpus(
            shards, size, reference_texts, config, out, inputs, for_each=for_each, like=like
        )
        return
    draw = steps.drawing(shards, config.random_seed, "random corpus")
    random_corpus(shards, size, reference_texts, config, out, inputs, draw=draw, like=like)


def _reference_texts(run: Run, text: Text, units: Manifest) -> ReferenceTexts:
    sample = run.sample_of(text.corpus)
    whole = None if run.whole_task is None else read_task(run.whole_task)
    return steps.reference_texts(run.task(), _shards(run, text), units, sample, whole)


def _shards(run: Run, text: Text) -> list[Path]:
    return corpus_pipeline.shard_paths(run.units_of(text.corpus))


def corpora_of(run: Run) -> list[str | None]:
    """The general corpora that are read: that of the section `corpus`, named ones for a variant."""
    used = {text.corpus for text in run.recipe.corpus_texts}
    return [corpus for corpus in run.recipe.all_corpora if corpus is None or corpus in used]


def searched_corpora_of(run: Run) -> list[str | None]:
    """The general corpora that a contextualized text is made from."""
    texts = run.recipe.corpus_texts
    used = {text.corpus for text in texts if text.kind == "contextualized"}
    return [corpus for corpus in corpora_of(run) if corpus is None or corpus in used]
