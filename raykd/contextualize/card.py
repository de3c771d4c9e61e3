"""What a corpus is like, in figures that can be compared with those of another one."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from raykd.contextualize.filter import ContaminationPolicy
from raykd.text.figures import TextFigures

FILE_NAME = "card.json"


class Compared(BaseModel):
    """What a corpus is compared with: the general corpus, or the task's sentences."""

    num_units: int
    num_bytes: int
    text: TextFigures


class SearchFacts(BaseModel):
    """What the card repeats of the stages before: the search's settings and its counts."""

    model_config = ConfigDict(frozen=True)

    ranker: str = "bm25"
    model: str | None = None
    top_k: int
    num_anchors: int
    num_empty_queries: int
    num_fallback_queries: int


class GeneralFacts(BaseModel):
    """What the card repeats of the general corpus: its size, and what ingest left out.

    Rows that cannot be read, empty documents, documents of which every piece is too short,
    and pieces that are too short.
    """

    model_config = ConfigDict(frozen=True)

    num_units: int
    num_bytes: int
    num_quarantined: int
    num_empty: int = 0
    num_dropped_documents: int = 0
    num_dropped_short: int = 0


class CorpusCard(BaseModel):
    """A contextualized corpus, or the random one it is compared with, in figures.

    `num_candidates` are the different units retrieved, or all units of the general corpus.
    `num_wanted` is the limit in units, `target_bytes` the one in bytes, `top_percent` the share of
    the ranks, each None where it was not set; `num_missing` and `num_missing_bytes` say by how much
    the corpus stays below, `num_beyond_limit` how many units were left out because of it. `k` are
    the hits an anchor that were looked at. `num_duplicates`, `num_near_duplicates`, `num_leaks` and
    `num_leaked_ngrams` are those that stood before the last unit kept, so that they can be compared
    with those of a corpus drawn until it is as large; `leaks` states whether units that hold an
    evaluation sentence were removed or kept. A random corpus has None where only a search has a
    figure; `kept_fraction` is units kept a hit, and `max_rank` the rank of the last one kept.
    """

    kind: Literal["contextualized", "random"]
    num_units: int
    num_bytes: int
    bytes_per_unit: float
    num_candidates: int
    num_wanted: int | None
    num_missing: int
    target_bytes: int | None
    num_missing_bytes: int
    top_percent: float | None
    num_beyond_limit: int | None
    num_duplicates: int
    num_near_duplicates: int
    leaks: ContaminationPolicy
    num_leaks: int
    num_leaked_ngrams: int
    num_evaluation_sentences: int
    leak_min_words: int
    leak_ngram: int | None
    num_quarantined: int
    num_empty: int = 0
    num_dropped_documents: int = 0
    num_dropped_short: int = 0
    search: SearchFacts | None
    k: int | None
    num_hits: int | None
    kept_fraction: float | None
    max_rank: int | None
    text: TextFigures
    general: Compared
    task: Compared


def read_card(directory: Path) -> CorpusCard:
    """The card that was written with a corpus."""
    return CorpusCard.model_validate_json((directory / FILE_NAME).read_bytes())
