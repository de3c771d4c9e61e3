"""Statistics card of a corpus, comparable between corpora."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from raykd.contextualize.filter import ContaminationPolicy
from raykd.text.figures import TextFigures

FILE_NAME = "card.json"

CorpusKind = Literal["contextualized", "random", "dsir"]


class Compared(BaseModel):
    """Statistics of a reference: the general corpus, or the task's sentences."""

    num_units: int
    num_bytes: int
    text: TextFigures


class SearchFacts(BaseModel):
    """Settings and counts of the search that the card repeats."""

    model_config = ConfigDict(frozen=True)

    ranker: str = "bm25"
    model: str | None = None
    top_k: int
    # Cards of earlier versions have the second name.
    num_queries: int = Field(validation_alias=AliasChoices("num_queries", "num_anchors"))
    num_empty_queries: int
    num_fallback_queries: int


class GeneralFacts(BaseModel):
    """Size of the general corpus, what ingest dropped, and how it read quotation marks.

    Dropped are unreadable rows, empty documents, documents whose pieces are all too short, and
    pieces that are too short. `num_quotes_removed` counts the TSV files whose quotation marks
    enclose fields, `num_quotes_kept` those that keep them as text.
    """

    model_config = ConfigDict(frozen=True)

    num_units: int
    num_bytes: int
    num_quarantined: int
    num_empty: int = 0
    num_dropped_documents: int = 0
    num_dropped_short: int = 0
    num_quotes_removed: int = 0
    num_quotes_kept: int = 0


class DsirFacts(BaseModel):
    """Importance weights of a DSIR corpus (see `dsir`), and the n-grams they were computed from.

    `mean_log_weight` is the mean log importance weight of the corpus's units, and
    `mean_log_weight_general` that of all units of the general corpus.
    """

    num_task_ngrams: int
    num_general_ngrams: int
    num_buckets: int
    smoothing: float
    mean_log_weight: float
    mean_log_weight_general: float


class CorpusCard(BaseModel):
    """Statistics of a contextualized corpus, or of one that it is compared with.

    `num_candidates` counts the distinct units retrieved, or all units of the general corpus.
    `max_units` is the limit in units, `target_bytes` the one in bytes, `top_percent` the share of
    the ranks; each is None if not set. `num_missing` and `num_missing_bytes` are the shortfall to
    the limit, and `num_beyond_limit` counts the units dropped because of it. `k` is the number of
    hits per query that were used. `num_duplicates`, `num_near_duplicates`, `num_leaks` and
    `num_leaked_ngrams` count the candidates before the last kept unit, so that they are comparable
    with a random corpus of the same size. `leaks` states whether units that contain an evaluation
    sentence were removed or kept. `kept_fraction` is kept units per hit, and `max_rank` the rank of
    the last kept unit. Fields of a search are None for a random and a DSIR corpus.
    """

    kind: CorpusKind
    num_units: int
    num_bytes: int
    bytes_per_unit: float
    num_candidates: int
    max_units: int | None
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
    num_quotes_removed: int = 0
    num_quotes_kept: int = 0
    search: SearchFacts | None
    k: int | None
    num_hits: int | None
    kept_fraction: float | None
    max_rank: int | None
    text: TextFigures
    general: Compared
    task: Compared
    dsir: DsirFacts | None = None


def read_card(directory: Path) -> CorpusCard:
    """Read the card of a corpus."""
    return CorpusCard.model_validate_json((directory / FILE_NAME).read_bytes())
