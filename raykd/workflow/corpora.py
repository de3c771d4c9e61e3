"""Contextualized corpora of several tasks: one ingest, one search, one corpus per task."""

import functools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd import progress
from raykd.cluster.sources import Dataset
from raykd.config import dump_yaml
from raykd.contextualize.card import CorpusCard, read_card
from raykd.contextualize.select import Gather, contextualize
from raykd.corpus import pipeline as corpus_pipeline
from raykd.corpus.dataset.copy import copied
from raykd.errors import InputError
from raykd.retrieval import pipeline as retrieval_pipeline
from raykd.retrieval.query_sets import QuerySet
from raykd.storage.locations import location_of
from raykd.storage.manifest import (
    Draft,
    Manifest,
    check_replaceable,
    digest_of_directory,
    finished,
    make_output_directory,
    read_manifest,
    stage_key,
    write_once,
)
from raykd.storage.outputs import output_path
from raykd.storage.working_files import discard, discard_parts, write_if_new
from raykd.tasks.class_counts import describe
from raykd.tasks.store import read_task, write_task
from raykd.workflow.embedder import load_embedder
from raykd.workflow.recipe.corpora_recipe import (
    CorporaRecipe,
    TaskCorpus,
    is_corpora_recipe,
    load_corpora,
)
from raykd.workflow.steps import QUERIES_FILE, reference_texts, search_facts, write_queries

CONTEXTUALIZED = "contextualized"
GATHERED = ".gathered"
SUMMARY_FILE = "corpora.json"


@dataclass(frozen=True)
class MadeCorpus:
    """Folder and card of a task's contextualized corpus."""

    task: str
    folder: Path
    card: CorpusCard


def contextualize_recipe(
    recipe_file: Path, out: Path | None, dataset: Dataset | None = None
) -> list[MadeCorpus]:
    """Build the corpora of a recipe of several tasks, or of a run's task.

    Args:
        recipe_file: the recipe.
        out: the directory to write; None for `runs/NAME`.
        dataset: the corpus, in place of the files of a recipe of several tasks; it has the column
            `corpus.text_column`.

    Raises:
        InputError: the recipe is not valid, or no variant of a run uses a contextualized corpus, or
            a dataset is given for a recipe of a run.
    """
    if is_corpora_recipe(recipe_file):
        corpora = load_corpora(recipe_file)
        out = output_path(out or Path("runs") / corpora.name)
        if dataset is None:
            return make_corpora(corpora, out)
        with copied(dataset, corpora.corpus.text_column, out) as files:
            update = {"paths": tuple(map(str, files)), "reader": None, "text_column": "text"}
            corpus = corpora.corpus.model_copy(update=update)
            return make_corpora(corpora.model_copy(update={"corpus": corpus}), out)
    if dataset is not None:
        raise InputError(
            f"{recipe_file}: is the recipe of a run, which reads its own corpus; give a recipe "
            "with `tasks`, or name the source in corpus.reader"
        )
    # These import torch, which a recipe for several tasks does not need.
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    run = open_run(recipe_file, out)
    run_stages(run, "contextualize")
    texts = [text for text in run.recipe.corpus_texts if text.kind == "contextualized"]
    if not texts:
        raise InputError(f"{recipe_file}: no variant uses a contextualized corpus")
    name = run.recipe.task.name
    return [
        MadeCorpus(
            name if text.corpus is None else f"{name}@{text.corpus}",
            run.training_text(text),
            read_card(run.training_text(text)),
        )
        for text in texts
    ]


def make_corpora(recipe: CorporaRecipe, out: Path) -> list[MadeCorpus]:
    """Write `out/TASK/contextualized` for every task; completed outputs are skipped.

    The corpus is split into units once, and searched once for the queries of all tasks without
    hits.

    Raises:
        InputError: `out` cannot be a directory, or holds something of the user's where a stage
            writes; as the stages.
    """
    make_output_directory(out)
    for entry in recipe.tasks:
        for name in ("task", "queries", "hits", CONTEXTUALIZED):
            check_replaceable(out / entry.task.name / name)
    for name in ("sample", "search"):
        check_replaceable(out / name)
    load_embedder("retrieval.dense", recipe.retrieval)
    write_if_new(out / "recipe.yaml", dump_yaml(recipe))
    with _stage("task"):
        for entry in recipe.tasks:
            write_task(entry.task, location_of, out / entry.task.name / "task")
            for line in describe(read_task(out / entry.task.name / "task")):
                progress.say(line)
    with _stage("ingest"):
        paths = [location_of(path) for path in recipe.corpus.paths]
        units = corpus_pipeline.ingest(recipe.corpus, paths, out / "units")
    shards = corpus_pipeline.shard_paths(out / "units")
    with _stage("retrieve"):
        _search(recipe, shards, units, out)
    with _stage("contextualize"):
        gather = _gather_together(recipe, shards, units, out)
        made = [_contextualize(recipe, entry, gather, shards, units, out) for entry in recipe.tasks]
        discard(out / GATHERED)
    facts = [
        {
            "task": corpus.task,
            "folder": str(corpus.folder.relative_to(out)),
            "card": corpus.card.model_dump(mode="json"),
        }
        for corpus in made
    ]
    write_if_new(out / SUMMARY_FILE, json.dumps(facts, indent=2) + "\n")
    return made


def summary(made: Sequence[MadeCorpus]) -> str:
    """Format the corpora as a text table, one line per task."""
    columns: list[tuple[str, Callable[[CorpusCard], str]]] = [
        ("queries", lambda card: f"{card.search.num_queries:,}" if card.search else ""),
        ("k", lambda card: f"{card.k:,}"),
        ("hits", lambda card: f"{card.num_hits:,}"),
        ("units", lambda card: f"{card.num_units:,}"),
        ("MB", lambda card: f"{card.num_bytes / 1e6:,.1f}"),
        ("bytes/unit", lambda card: f"{card.bytes_per_unit:,.0f}"),
        ("duplicates", lambda card: f"{card.num_duplicates + card.num_near_duplicates:,}"),
        ("leaks", _leaks),
        ("task words", lambda card: f"{card.text.task_overlap:.1%}"),
        ("(general)", lambda card: f"{card.general.text.task_overlap:.1%}"),
    ]
    lines = [["task", *(title for title, _ in columns)]]
    lines += [[corpus.task, *(figure(corpus.card) for _, figure in columns)] for corpus in made]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        )
        for cells in lines
    ]
    note = (
        "task words: share of the task's most frequent words that are among the corpus's, and "
        "(general) among the general corpus's."
    )
    card = made[0].card
    counts = (
        (card.num_quarantined, "unreadable rows"),
        (card.num_empty, "empty documents"),
        (card.num_dropped_documents, "documents without a long enough unit"),
        (card.num_dropped_short, "units that are too short"),
    )
    losses = "; ".join(f"{number:,} {what}" for number, what in counts if number)
    lost = [f"dropped from the general corpus: {losses}"] if losses else []
    return "\n".join([*table, "", note, *lost])


def _leaks(card: CorpusCard) -> str:
    number = f"{card.num_leaks + card.num_leaked_ngrams:,}"
    return f"{number} kept" if card.leaks == "keep" else number


@dataclass(frozen=True)
class _Search:
    """Search for one task, with the settings and inputs of its hits."""

    name: str
    top_k: int
    folder: Path
    config: dict[str, Any]
    inputs: dict[str, str]

    @property
    def hits(self) -> Path:
        return self.folder / "hits"

    @property
    def key(self) -> str:
        return stage_key("hits", self.config, self.inputs)

    def query_set(self) -> QuerySet:
        table = pq.read_table(self.folder / "queries" / QUERIES_FILE)
        return QuerySet(self.name, table, self.top_k)


def _search(recipe: CorporaRecipe, shards: Sequence[Path], units: Manifest, out: Path) -> None:
    """Search together for all tasks without `out/TASK/hits`, and write these."""
    embedder = load_embedder("retrieval.dense", recipe.retrieval)
    model = {"model": embedder.digest} if embedder else {}
    searches = []
    for entry in recipe.tasks:
        name, top_k = entry.task.name, recipe.top_k(entry)
        folder = out / name
        queries = write_queries(folder / "task", recipe.retrieval, folder / "queries")
        config = recipe.retrieval.model_dump(mode="json") | {"top_k": top_k}
        inputs = {"units": units.digest, "queries": queries.digest} | model
        searches.append(_Search(name, top_k, folder, config, inputs))
    together = out / "search"
    # A killed process may have left a completed joint search, and hits of some tasks.
    _take_hits(searches, together)
    missing = [search for search in searches if finished(search.hits, search.key) is None]
    if missing:
        retrieval_pipeline.search_corpus(
            shards,
            [search.query_set() for search in missing],
            recipe.retrieval,
            together,
            {_input_of(search.name): search.key for search in missing},
            embedder,
            out / "embeddings",
            out / "kept",
        )
        _take_hits(missing, together)
    discard(together)
    discard_parts(together)


def _input_of(name: str) -> str:
    """Return the name of a task's key in the manifest of the joint search."""
    return f"hits.{name}"


def _take_hits(searches: Sequence[_Search], together: Path) -> None:
    """Copy the hits of a completed joint search to the tasks' folders.

    The joint search is kept until all sets are copied.
    """
    found = read_manifest(together)
    if not found or not finished(together, stage_key(found.stage, found.config, found.inputs)):
        return
    for search in searches:
        if found.inputs.get(_input_of(search.name)) == search.key:
            write = functools.partial(_copy_hits, search.name, together, found.counts)
            write_once(search.hits, "hits", search.config, search.inputs, write)


def _copy_hits(name: str, together: Path, counts: Mapping[str, float], draft: Draft) -> None:
    shutil.copyfile(together / f"{name}.parquet", draft.directory / retrieval_pipeline.HITS_FILE)
    prefix = f"{name}."
    own = {key.removeprefix(prefix): counts[key] for key in counts if key.startswith(prefix)}
    # A search for one set has no counts by name.
    draft.counts.update(own or counts)


def _gather_together(
    recipe: CorporaRecipe, shards: Sequence[Path], units: Manifest, out: Path
) -> Gather:
    """Return a function that gathers units from `out/.gathered`.

    The first call fills it for all tasks in one read of the shards; it survives a killed process.
    """
    folder = out / GATHERED

    def write(draft: Draft) -> None:
        chunks = []
        for entry in recipe.tasks:
            hits = out / entry.task.name / "hits" / retrieval_pipeline.HITS_FILE
            is_used = pc.field("rank") <= recipe.last_rank(entry)
            unit_ids = pq.read_table(hits, columns=["unit_id"], filters=is_used)["unit_id"]
            # The ids of all tasks may exceed 32-bit offsets.
            chunks.append(unit_ids.unique().cast(pa.large_string()))
        retrieval_pipeline.gather_into(draft.directory, shards, pa.chunked_array(chunks))

    @functools.cache
    def gathered() -> list[Path]:
        settings = {entry.task.name: recipe.last_rank(entry) for entry in recipe.tasks}
        inputs = {name: digest_of_directory(out / name / "hits") for name in settings}
        write_once(folder, "gather", settings, inputs | {"units": units.digest}, write)
        return sorted(folder.glob(retrieval_pipeline.GATHERED_FILES))

    return lambda unit_ids: retrieval_pipeline.gather(gathered(), unit_ids)


def _contextualize(
    recipe: CorporaRecipe,
    entry: TaskCorpus,
    gather: Gather,
    shards: Sequence[Path],
    units: Manifest,
    out: Path,
) -> MadeCorpus:
    folder = out / entry.task.name
    hits = read_manifest(folder / "hits")
    assert hits is not None
    contextualize(
        folder / "hits" / retrieval_pipeline.HITS_FILE,
        gather,
        reference_texts(read_task(folder / "task"), shards, units, out / "sample"),
        recipe.contextualize_for(entry),
        folder / CONTEXTUALIZED,
        {"hits": hits.digest, "units": units.digest},
        search=search_facts(recipe.retrieval, recipe.top_k(entry), hits),
    )
    made = folder / CONTEXTUALIZED
    return MadeCorpus(entry.task.name, made, read_card(made))


@contextmanager
def _stage(name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    progress.say(f"{name:14} {time.monotonic() - started:6.1f} s")
