"""Settings of the contextualized corpus, and of the corpora that it is compared with."""

import math
from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.contextualize.dsir import DsirConfig
from raykd.contextualize.filter import ContaminationPolicy
from raykd.dedup.minhash import NearDuplicatesConfig

LIMITS = ("max_units", "target_bytes", "top_percent")

BaselineSize = Literal["units", "bytes"]


class ContextualizeConfig(Config):
    """Filters for the retrieved units, and at most one limit of their number.

    `max_units`, `target_bytes` and `top_percent` do not change the search. Contaminated units that
    are kept are counted in the card and listed in leaks.parquet; `ContaminationIndex` cites the
    definitions of other papers.
    """

    max_units: int | None = Field(
        None,
        ge=1,
        description="Most units of the corpus, lowest ranks first; of the last rank, units are "
        "drawn. Give at most one of max_units, target_bytes and top_percent.",
    )
    target_bytes: int | None = Field(
        None,
        ge=1,
        description="Size of the corpus in bytes of text: hits are kept up to the smallest rank "
        "whose union, without duplicates and leaks, is that large.",
    )
    top_percent: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Keep hits up to this percentage of retrieval.top_k (0 to 100), rounded up.",
    )
    leaks: ContaminationPolicy = Field(
        "remove",
        description="Units that hold a sentence of the task's evaluation splits: remove them, or "
        "keep them in the corpus; they are counted and recorded in either case.",
    )
    leak_min_words: int = Field(
        5,
        ge=1,
        description="An evaluation sentence of fewer words leaks only into a unit equal to it.",
    )
    leak_ngram: int | None = Field(
        None,
        ge=2,
        description="Also count a unit as leaked that shares this many consecutive words with an "
        "evaluation sentence. Default: off.",
    )
    near_duplicates: NearDuplicatesConfig | None = Field(
        None,
        description="Also remove near duplicates of a unit that is kept; {} takes the defaults. "
        "Equal texts are always removed.",
    )
    random_seed: int = Field(
        0,
        ge=0,
        lt=2**64,
        description="Seed of the units of a random corpus, and of the noise of a DSIR corpus.",
    )
    baseline_size: BaselineSize = Field(
        "units",
        description="Size of random and DSIR corpora without num_units: units (as many units as "
        "the contextualized corpus has) or bytes (as many bytes of text).",
    )
    dsir: DsirConfig = Field(
        DsirConfig(),
        description="Importance weights of a DSIR corpus, for variants with the step dsir.",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        limits = [name for name in LIMITS if getattr(self, name) is not None]
        if len(limits) > 1:
            raise ValueError(f"{' and '.join(limits)} limit the corpus in different ways; give one")
        return self

    def last_rank(self, top_k: int) -> int:
        """Largest rank of the hits that are used."""
        if self.top_percent is None:
            return top_k
        return math.ceil(Decimal(str(self.top_percent)) * top_k / 100)
