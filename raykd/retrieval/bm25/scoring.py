"""BM25 in float64, in the form of Lucene and in four others.

    score(query, unit) = sum over the query's terms in the unit of count * (idf * saturation)

Sources: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond"; for
the variants Kamphuis et al. 2020, "Which BM25 Do You Mean?", table 1 (Lucene's accurate form,
Robertson et al., ATIRE, BM25L, BM25+); for BM25L and BM25+ Lv and Zhai 2011, "When Documents Are
Very Long, BM25 Fails!" and "Lower-Bounding Term Frequency Normalization". `robertson` and `lucene`
have no constant factor k1 + 1, the others have it. Lucene's N leaves out units without any term;
here N counts every unit.

Two points on which implementations differ. A term that more than half of the units hold has a
negative idf in `robertson`: here it is 0, as in bm25s. And a term that a unit does not hold scores
nothing, as in Lv and Zhai's definitions; bm25s and rank-bm25 add delta's share for it too in
`bm25+` and `bm25l`, which makes every unit a hit and, in `bm25+`, takes all effect from delta.

The sum runs over a query's distinct terms in the order of their UTF-8 bytes. No other order is
used anywhere, so that a score does not depend on shards, workers or the other queries.
"""

import math
from typing import Literal, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field, model_validator

from raykd.config import Config

Variant = Literal["lucene", "robertson", "atire", "bm25l", "bm25+"]

# Lengths below this are stored as they are in Lucene's one byte.
_NUM_EXACT_LENGTHS = 24

# The deltas of Lv and Zhai.
_DELTA = {"bm25l": 0.5, "bm25+": 1.0}

# The three forms of `saturation`, as compiled code tells them apart.
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
    def _delta_has_a_use(self) -> Self:
        if self.delta is not None and self.variant not in _DELTA:
            raise ValueError(
                f"delta is a parameter of {' and '.join(_DELTA)}, not of {self.variant}; "
                "leave it out or choose another variant"
            )
        return self


def idf(df: NDArray[np.int64], num_units: int, config: Bm25Config) -> NDArray[np.float64]:
    """Inverse document frequency of each term, never negative; terms that no unit holds included.

    Args:
        df: (V,) units that hold each term.
        num_units: N.
        config: says which variant.
    """
    # numpy's own logarithm rounds otherwise on other processors.
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
    """What `saturation` must know of the settings."""
    delta = _DELTA.get(config.variant, 0.0) if config.delta is None else config.delta
    return _FORM[config.variant], config.k1, delta


# An empty unit's norm may be 0; tables have a place for it, which no posting names.
@njit(cache=True, nogil=True, error_model="numpy")
def saturation(tf: float, norm: float, form: SaturationForm) -> float:
    """What `tf` >= 1 occurrences count in a unit whose length norm is `norm`; positive."""
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
    """`k1 * (1 - b + b * length / average_length)` of each unit; without k1 in `bm25l`.

    Args:
        length: number of terms of each unit.
        average_length: mean number of terms over the whole corpus, always of the true lengths.
        config: k1, b, and whether lengths are rounded as in Lucene's index.
    """
    stored = lucene_length(length) if config.norms == "lucene" else length
    relative = 1 - config.b + config.b * (stored / max(average_length, 1e-300))
    return relative if config.variant == "bm25l" else config.k1 * relative


def lucene_length(length: NDArray[np.integer]) -> NDArray[np.int64]:
    """The length that Lucene (`SmallFloat.intToByte4`) and tantivy keep in one byte.

    Up to 40 it is the length itself; above, what exceeds 24 keeps its four leading bits.
    """
    exact = np.asarray(length, np.int64)
    excess = np.maximum(exact - _NUM_EXACT_LENGTHS, 0)
    # frexp gives the number of bits exactly: a length is below 2**53.
    num_bits = np.frexp(excess.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(num_bits - 4, 0)
    stored: NDArray[np.int64] = np.minimum(exact, _NUM_EXACT_LENGTHS) + ((excess >> shift) << shift)
    return stored
