"""BM25 scores in float64: Lucene's form and four variants.

    score(query, unit) = sum over the query's terms in the unit of count * (idf * saturation)

Sources: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond",
doi:10.1561/1500000019; for the variants Kamphuis et al. 2020, "Which BM25 Do You Mean? A
Large-Scale Reproducibility Study of Scoring Variants", doi:10.1007/978-3-030-45442-5_4, table 1;
for BM25L and BM25+ Lv and Zhai 2011, "When Documents Are Very Long, BM25 Fails!",
doi:10.1145/2009916.2010070, and "Lower-Bounding Term Frequency Normalization",
doi:10.1145/2063576.2063584. `robertson` and `lucene` have no constant factor k1 + 1; the others do.
Lucene's N excludes units without any term; here N counts every unit.

Implementations differ in two points. A term that occurs in more than half of the units has a
negative idf in `robertson`: here it is 0, as in bm25s. A term that is not in a unit scores 0, as
Lv and Zhai define; bm25s and rank-bm25 add the share of delta for it in `bm25+` and `bm25l`, which
makes every unit a hit and, in `bm25+`, cancels delta.

Scores are summed over the distinct terms of a query in the order of their UTF-8 bytes, so that a
score does not depend on shards, workers or other queries.
"""

import math
from typing import Literal, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field, model_validator

from raykd.config import Config

Variant = Literal["lucene", "robertson", "atire", "bm25l", "bm25+"]

# Lucene's one-byte encoding stores lengths below this exactly.
_NUM_EXACT_LENGTHS = 24

# The deltas of Lv and Zhai.
_DELTA = {"bm25l": 0.5, "bm25+": 1.0}

# Forms of `saturation`.
_PLAIN, _SCALED, _SHIFTED = 0, 1, 2
_FORM = {
    "lucene": _PLAIN,
    "robertson": _PLAIN,
    "atire": _SCALED,
    "bm25+": _SCALED,
    "bm25l": _SHIFTED,
}

# (form, k1, delta)
SaturationForm = tuple[int, float, float]


class Bm25Config(Config):
    """Parameters of BM25; defaults as in Lucene and Elasticsearch."""

    variant: Variant = Field("lucene", description="Form of BM25 (Kamphuis et al. 2020, Table 1).")
    k1: float = Field(
        1.2,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Saturation of repeated terms: the larger, the more repeats count. 1.2 as in "
        "Lucene.",
    )
    b: float = Field(
        0.75, ge=0, le=1, description="Length normalization: 0 none, 1 full. 0.75 as in Lucene."
    )
    delta: float | None = Field(
        None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Lower bound of bm25l and bm25+. Default: 0.5 for bm25l, 1 for bm25+ (Lv and "
        "Zhai 2011).",
    )
    norms: Literal["exact", "lucene"] = Field(
        "exact", description="Unit lengths: exact, or rounded above 40 as in Lucene's one byte."
    )

    @model_validator(mode="after")
    def _check_delta(self) -> Self:
        if self.delta is not None and self.variant not in _DELTA:
            raise ValueError(
                f"delta is a parameter of {' and '.join(_DELTA)}, not of {self.variant}; "
                "leave it out or choose another variant"
            )
        return self


def idf(df: NDArray[np.int64], num_units: int, config: Bm25Config) -> NDArray[np.float64]:
    """Compute the inverse document frequency of each term, which is never negative.

    Args:
        df: (V,) number of units that contain each term, may be 0.
        num_units: number N of units.
        config: parameters of BM25; the variant is used.
    """
    # numpy's logarithm may round differently on other CPUs.
    values = [_idf(count, num_units, config.variant) for count in df.tolist()]
    return np.array(values, np.float64)


def _idf(df: int, num_units: int, variant: Variant) -> float:
    odds = (num_units - df + 0.5) / (df + 0.5)
    if variant == "lucene":
        return math.log1p(odds)
    if variant == "robertson":
        return math.log(max(odds, 1.0))
    if variant == "bm25l":
        return math.log((num_units + 1) / (df + 0.5))
    if df == 0:
        return 0.0
    return math.log((num_units + 1 if variant == "bm25+" else num_units) / df)


def saturation_form(config: Bm25Config) -> SaturationForm:
    """Parameters of `saturation` for the settings."""
    delta = _DELTA.get(config.variant, 0.0) if config.delta is None else config.delta
    return _FORM[config.variant], config.k1, delta


# The norm of an empty unit may be 0; no posting refers to its table entry.
@njit(cache=True, nogil=True, error_model="numpy")
def saturation(tf: float, norm: float, form: SaturationForm) -> float:
    """Compute the saturation of `tf` >= 1 occurrences in a unit with length norm `norm`, > 0."""
    kind, k1, delta = form
    if kind == _PLAIN:
        return tf / (tf + norm)
    if kind == _SCALED:
        return (k1 + 1) * tf / (tf + norm) + delta
    shifted = tf / norm + delta
    return (k1 + 1) * shifted / (k1 + shifted)


def length_norm(
    length: NDArray[np.integer], average_length: float, config: Bm25Config
) -> NDArray[np.float64]:
    """Compute `k1 * (1 - b + b * length / average_length)` of each unit; without k1 in `bm25l`.

    Args:
        length: (U,) number of terms of each unit.
        average_length: mean number of terms in the whole corpus, of the exact lengths.
        config: parameters of BM25: k1, b, and whether lengths are rounded as in Lucene.
    """
    stored = lucene_length(length) if config.norms == "lucene" else length
    relative = 1 - config.b + config.b * (stored / max(average_length, 1e-300))
    return relative if config.variant == "bm25l" else config.k1 * relative


def lucene_length(length: NDArray[np.integer]) -> NDArray[np.int64]:
    """Round lengths as Lucene (`SmallFloat.intToByte4`) and tantivy store them in one byte.

    Lengths up to 40 are exact; above, the excess over 24 keeps its four leading bits.
    """
    exact = np.asarray(length, np.int64)
    excess = np.maximum(exact - _NUM_EXACT_LENGTHS, 0)
    # frexp is exact for lengths below 2**53.
    num_bits = np.frexp(excess.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(num_bits - 4, 0)
    stored: NDArray[np.int64] = np.minimum(exact, _NUM_EXACT_LENGTHS) + ((excess >> shift) << shift)
    return stored
