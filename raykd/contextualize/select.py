"""Contextualized corpus: the union of the hits, deduplicated and decontaminated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from raykd import progress
from raykd.contextualize.card import FILE_NAME, Compared, CorpusCard, GeneralFacts, SearchFacts
from raykd.contextualize.config import ContextualizeConfig
from raykd.contextualize.contamination import ContaminationIndex
from raykd.contextualize.filter import (
    DUPLICATE,
    NEAR_DUPLICATE,
    FilteredCandidates,
    filter_candidates,
)
from raykd.contextualize.sample import SAMPLE_FILE
from raykd.errors import InputError
from raykd.storage import schemas
from raykd.storage.manifest import (
    Draft,
    Manifest,
    digest_of,
    digest_of_directory,
    write_once,
)
from raykd.storage.schemas import TEXT_FILE
from raykd.text.figures import TextFigures, compare, sample_rows

REMOVED_FILE = "removed.parquet"
CONTAMINATION_FILE = "leaks.parquet"
_WRITE_ROWS = 65_536
_RANK_SEED = 0x52414E4B

# unit ids -> rows of UNITS with these ids, in any order.
Gather = Callable[[pa.Array], pa.Table]


@dataclass(frozen=True)
class ReferenceTexts:
    """Evaluation sentences to remove from a corpus, and texts to compare it with in its card.

    Attributes:
        evaluation_sentences: all sentences of the task's evaluation splits.
        task_sentences: sentences of the task's training split.
        sample: output directory of `sample.write_sample`.
        general: size of the general corpus, and what ingest dropped.
    """

    evaluation_sentences: Sequence[str]
    task_sentences: Sequence[str]
    sample: Path
    general: GeneralFacts

    def digests(self) -> dict[str, str]:
        """Digests of sentences and facts; the digest of the units covers the sample."""
        return {
            "evaluation_sentences": digest_of(list(self.evaluation_sentences)),
            "task_sentences": digest_of(list(self.task_sentences)),
            "general": digest_of(self.general.model_dump()),
        }


def contextualize(
    hits_path: Path,
    gather: Gather,
    reference_texts: ReferenceTexts,
    config: ContextualizeConfig,
    out: Path,
    inputs: Mapping[str, str],
    *,
    search: SearchFacts,
) -> Manifest:
    """Write text.parquet, removed.parquet and card.json, unless `out` is complete.

    With `leaks: keep`, also write leaks.parquet.

    Memory: at most two copies of the candidates' texts, and about 150 bytes per hit.

    Args:
        hits_path: hits of the search, with string ids.
        gather: function that looks up the texts of units.
        reference_texts: sentences to remove, and texts for the card's comparison.
        config: filters and limits.
        out: output directory.
        inputs: digests of hits and units; digests of the other arguments are added.
        search: facts for the card; `top_percent` is relative to its `top_k`.

    Raises:
        InputError: there are no hits, `gather` does not find a unit, or nothing is left to keep.

    Source: union by smallest rank as in TLM (Yao et al. 2022, "NLP From Scratch Without Large-Scale
    Pretraining: A Simple and Efficient Framework", arXiv:2111.04130). TLM does not remove equal
    texts under different ids and evaluation sentences.
    """
    settings = config.model_dump(mode="json", exclude={"random_seed", "baseline_size", "dsir"})
    if config.max_units is not None:
        settings["order_in_rank"] = "drawn"
    all_inputs = {**inputs, **reference_texts.digests(), "facts": digest_of(search.model_dump())}

    def write(draft: Draft) -> None:
        last_rank = config.last_rank(search.top_k)
        hits = _read_hits(hits_path, last_rank)
        union = _union(hits, drawn=config.max_units is not None)
        candidates = _with_texts(union, gather, hits_path)
        del union
        hit_ranks = hits["rank"].to_numpy()
        del hits
        index = ContaminationIndex(
            reference_texts.evaluation_sentences, config.leak_min_words, config.leak_ngram
        )
        whole = filter_candidates(candidates, index, config.near_duplicates, config.leaks)
        num_whole = len(whole.kept_rows)
        if not num_whole:
            raise InputError(
                f"{hits_path}: all {candidates.num_rows} retrieved units contain a sentence of the "
                "task's evaluation splits; give a general corpus that is not made of the task's "
                "own data, or keep such units (contextualize.leaks: keep)"
            )
        filtered, k = _limited(whole, config, last_rank)
        num_hits = int((hit_ranks <= k).sum())
        corpus_figures = figures(filtered, config.max_units, reference_texts)
        num_kept, num_bytes = corpus_figures["num_units"], corpus_figures["num_bytes"]
        card = CorpusCard(
            kind="contextualized",
            **corpus_figures,
            num_candidates=candidates.num_rows,
            target_bytes=config.target_bytes,
            num_missing_bytes=max(0, (config.target_bytes or 0) - num_bytes),
            top_percent=config.top_percent,
            num_beyond_limit=num_whole - num_kept,
            search=search,
            k=k,
            num_hits=num_hits,
            kept_fraction=num_kept / num_hits,
            max_rank=int(filtered.candidates["rank"][int(filtered.kept_rows[-1])].as_py()),
        )
        if card.num_missing_bytes:
            progress.say(
                f"  contextualize.target_bytes {config.target_bytes:,}: all {k} hits per query are "
                f"{num_bytes:,} bytes; raise the top_k of the search to come closer"
            )
        if config.leaks == "keep" and (num_leaks := card.num_leaks + card.num_leaked_ngrams):
            progress.say(
                f"  contextualize.leaks keep: {num_leaks:,} retrieved units contain text of the "
                f"evaluation splits (listed in {CONTAMINATION_FILE})"
            )
        draft.counts = write_corpus(draft.directory, filtered, filtered.kept_rows, card)

    return write_once(out, "contextualize", settings, all_inputs, write)


def figures(
    filtered: FilteredCandidates,
    max_units: int | None,
    reference_texts: ReferenceTexts,
    *,
    like: TextFigures | None = None,
) -> dict[str, Any]:
    """Compute the fields of the card that every kind of corpus has."""
    rows = filtered.kept_rows
    texts, unit_ids = filtered.candidates["text"], filtered.candidates["unit_id"]
    num_bytes = int(num_bytes_of(filtered).sum())
    sampled = rows[sample_rows(unit_ids.take(pa.array(rows)))]
    general = pq.read_table(reference_texts.sample / SAMPLE_FILE, columns=["text"])["text"]
    task = reference_texts.task_sentences
    compared = compare(
        texts.take(pa.array(sampled)).to_pylist(), general.to_pylist(), task, like=like
    )
    facts = reference_texts.general
    return {
        "num_units": len(rows),
        "num_bytes": num_bytes,
        "bytes_per_unit": num_bytes / len(rows),
        "max_units": max_units,
        "num_missing": max(0, (max_units or 0) - len(rows)),
        "num_duplicates": filtered.count(DUPLICATE),
        "num_near_duplicates": filtered.count(NEAR_DUPLICATE),
        "leaks": filtered.policy,
        "num_leaks": filtered.num_leaks(ngram=False),
        "num_leaked_ngrams": filtered.num_leaks(ngram=True),
        "num_evaluation_sentences": len(reference_texts.evaluation_sentences),
        "leak_min_words": filtered.index.min_words,
        "leak_ngram": filtered.index.ngram,
        **facts.model_dump(exclude={"num_units", "num_bytes"}),
        "text": compared.corpus,
        "general": Compared(
            num_units=facts.num_units, num_bytes=facts.num_bytes, text=compared.general
        ),
        "task": Compared(
            num_units=len(task),
            num_bytes=sum(len(sentence.encode()) for sentence in task),
            text=compared.task,
        ),
    }


def write_corpus(
    directory: Path, filtered: FilteredCandidates, rows: npt.NDArray[np.int64], card: CorpusCard
) -> dict[str, float]:
    """Write the files of a corpus; return the counts for the manifest.

    Args:
        directory: output directory.
        filtered: candidates with the columns of TRAINING_TEXT, and their outcomes.
        rows: rows to write, in the order of TRAINING_TEXT.
        card: card of the corpus.
    """
    _write_text(directory / TEXT_FILE, filtered.candidates, rows)
    pq.write_table(filtered.removed(), directory / REMOVED_FILE, compression="zstd")
    if filtered.policy == "keep":
        pq.write_table(filtered.leaks(), directory / CONTAMINATION_FILE, compression="zstd")
    (directory / FILE_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    names = ("num_units", "num_bytes", "num_duplicates", "num_leaks", "num_missing")
    return {name: getattr(card, name) for name in names}


def write_slice(corpus: Path, last_rank: int, out: Path) -> Manifest:
    """Write the text that `contextualize` would make of the hits up to a rank, from a larger one.

    It is the first part, byte for byte: the text is in the order of ranks, and the outcome of a
    candidate depends only on those before it. Limits of the number of units or bytes are kept.

    Args:
        corpus: output of `contextualize` with the other settings equal.
        last_rank: largest rank of the slice.
        out: output directory.
    """

    def write(draft: Draft) -> None:
        rows = pq.read_table(corpus / TEXT_FILE, filters=pc.field("rank") <= last_rank)
        _write_text(draft.directory / TEXT_FILE, rows.combine_chunks(), np.arange(rows.num_rows))
        draft.counts["num_units"] = rows.num_rows

    return write_once(
        out, "slice", {"last_rank": last_rank}, {"corpus": digest_of_directory(corpus)}, write
    )


def num_bytes_of(filtered: FilteredCandidates) -> npt.NDArray[np.int64]:
    """Count the bytes of each kept text, in order of the candidates."""
    lengths = pc.binary_length(filtered.candidates["text"]).to_numpy()
    return np.asarray(lengths[filtered.kept_rows], np.int64)


def _write_text(path: Path, candidates: pa.Table, rows: npt.NDArray[np.int64]) -> None:
    columns = candidates.select(schemas.TRAINING_TEXT.names)
    with pq.ParquetWriter(path, schemas.TRAINING_TEXT, compression="zstd") as writer:
        for first in range(0, len(rows), _WRITE_ROWS):
            part = columns.take(pa.array(rows[first : first + _WRITE_ROWS]))
            writer.write_table(part.cast(schemas.TRAINING_TEXT))


def _limited(
    whole: FilteredCandidates, config: ContextualizeConfig, last_rank: int
) -> tuple[FilteredCandidates, int]:
    """Truncate the candidates at the limit; return them and the largest rank that is used."""
    if config.max_units is not None:
        return whole.cut(config.max_units), last_rank
    if config.target_bytes is not None:
        reached = np.flatnonzero(np.cumsum(num_bytes_of(whole)) >= config.target_bytes)
        if len(reached):
            ranks = whole.candidates["rank"].to_numpy()
            k = int(ranks[whole.kept_rows[reached[0]]])
            return whole.cut_at(int(np.searchsorted(ranks, k, side="right"))), k
    return whole, last_rank


def _read_hits(path: Path, last_rank: int) -> pa.Table:
    columns = ["query_id", "unit_id", "rank"]
    hits = pq.read_table(path, columns=columns, filters=pc.field("rank") <= last_rank)
    if not hits.num_rows:
        raise InputError(
            f"{path}: the search has no hits, so there is no corpus to contextualize; "
            "give a general corpus that shares words with the task's sentences"
        )
    assert hits.schema.field("unit_id").type == pa.string(), "ids of units are strings here"
    return hits


def _union(hits: pa.Table, *, drawn: bool) -> pa.Table:
    """Merge the hits: each unit once, with its smallest rank and the query of that hit.

    The result is sorted by rank, then by unit_id. If several queries have a unit at the same rank,
    the smallest query_id is kept, so the result does not depend on the order of the hits.

    Args:
        hits: to merge.
        drawn: whether to sort the units of a rank by a keyed hash of their ids instead. Ids follow
            the corpus's files, so that a limit on units would take the last rank's from the first
            files only.
    """
    units, queries = _ordinals(hits["unit_id"], drawn=drawn), _ordinals(hits["query_id"])
    ranks = hits["rank"].to_numpy()
    order = np.lexsort((queries, units, ranks))
    # Written in reverse, so that the value of the unit's first hit remains.
    first = np.full(int(units.max()) + 1, len(order), np.int64)
    first[units[order[::-1]]] = np.arange(len(order) - 1, -1, -1)
    return hits.take(pa.array(order[np.sort(first)]))


def _ordinals(names: pa.ChunkedArray, *, drawn: bool = False) -> npt.NDArray[np.int64]:
    """Count for each name the distinct smaller names, or those with a smaller hash if `drawn`."""
    encoded = names.dictionary_encode().unify_dictionaries()
    dictionary = encoded.chunk(0).dictionary
    order = pc.sort_indices(dictionary).to_numpy()
    if drawn:
        ids = (name.encode() for name in dictionary.to_pylist())
        keys = [xxhash.xxh3_64_intdigest(unit_id, _RANK_SEED) for unit_id in ids]
        # A stable sort keeps the order of names with equal hashes.
        order = order[np.argsort(np.array(keys, np.uint64)[order], kind="stable")]
    ordinals = np.empty(len(dictionary), np.int64)
    ordinals[order] = np.arange(len(dictionary))
    codes = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    return np.asarray(ordinals[np.concatenate(codes)])


def _with_texts(union: pa.Table, gather: Gather, hits_path: Path) -> pa.Table:
    units = gather(union["unit_id"].combine_chunks())
    rows = pc.index_in(union["unit_id"], value_set=units["unit_id"])
    if rows.null_count:
        lost = union.filter(pc.is_null(rows))["unit_id"][0].as_py()
        raise InputError(
            f"{hits_path}: {rows.null_count} retrieved units are missing in the corpus (the first: "
            f"{lost}), which has changed since the search; run the search again"
        )
    # take() on 32-bit offsets fails above 2 GiB of text.
    texts = units["text"].cast(pa.large_string()).combine_chunks()
    # At most two of the three copies (as gathered, in one chunk, in order) exist at a time.
    del units
    return union.append_column("text", texts.take(rows))
