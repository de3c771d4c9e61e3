"""Enlargement of a real corpus: runs of adjacent real sentences, recombined into new units."""

import random
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.corpus.units import sentences as lengths_of_sentences

MAX_WORDS = 100
METHOD = (
    "The corpus's own units are its paragraphs, cut between sentences to 100 words. Every further "
    "round uses each sentence once more: runs of one to three adjacent sentences of one unit, "
    "shuffled over all documents of the same source, joined up to the lengths of the corpus's own "
    "units. No unit is copied; a sentence appears once per round, each time with other runs. All "
    "units are shuffled at the end, in runs of 500."
)
_RUN_UNITS = 500


def enlarged_units(corpus: Path, rounds: int, seed: int = 1) -> pa.StringArray:
    """Return the units of a corpus, and `rounds` times as many made of its sentences (`METHOD`).

    Args:
        corpus: table with the columns `text` and `source`.
        rounds: number of repeated uses of each sentence.
        seed: seed of the shuffles.
    """
    rng = random.Random(seed)
    table = pq.read_table(corpus, columns=["text", "source"])
    units: list[str] = []
    sentences: dict[str, list[list[str]]] = defaultdict(list)
    for text, source in zip(table["text"].to_pylist(), table["source"].to_pylist(), strict=True):
        for group in _packed(text):
            units.append(" ".join(group))
            sentences[source].append(group)
    own = list(units)
    for _ in range(rounds):
        for documents in sentences.values():
            units += _recombined(documents, rng)
    new_units = units[len(own) :]
    rng.shuffle(own)
    runs = [
        part[start : start + _RUN_UNITS]
        for part in (own, new_units)
        for start in range(0, len(part), _RUN_UNITS)
    ]
    rng.shuffle(runs)
    return pa.array([unit for run in runs for unit in run], pa.string())


def _recombined(documents: list[list[str]], rng: random.Random) -> list[str]:
    runs: list[str] = []
    for sentences in documents:
        start = 0
        while start < len(sentences):
            stop = start + rng.randint(1, 3)
            runs.append(" ".join(sentences[start:stop]))
            start = stop
    rng.shuffle(runs)
    lengths = [sum(len(sentence.split()) for sentence in document) for document in documents]
    new_units: list[str] = []
    unit: list[str] = []
    num_words = 0
    target = rng.choice(lengths)
    for run in runs:
        unit.append(run)
        num_words += len(run.split())
        if num_words >= target:
            new_units.append(" ".join(unit))
            unit, num_words, target = [], 0, rng.choice(lengths)
    return new_units


def _packed(text: str) -> list[list[str]]:
    """Group adjacent sentences into runs of at most `MAX_WORDS` words."""
    groups: list[list[str]] = []
    room = 0
    position = 0
    for length in lengths_of_sentences(text):
        sentence = text[position : position + length].strip()
        position += length
        num_words = len(sentence.split())
        if num_words == 0:
            continue
        if num_words > room:
            groups.append([])
            room = MAX_WORDS
        groups[-1].append(sentence)
        room -= num_words
    return groups
