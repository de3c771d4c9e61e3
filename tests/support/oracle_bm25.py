"""Naive implementation of BM25 over all pairs of query and unit, in plain Python."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from raykd.text.analyzer import terms

Hit = tuple[int, Any, float]


def best_hits(
    units: Sequence[tuple[Any, str]],
    queries: Sequence[str],
    top_k: int,
    *,
    k1: float = 1.2,
    b: float = 0.75,
    stored_length: Callable[[int], int] = lambda length: length,
    variant: str = "lucene",
    delta: float = 0.0,
) -> list[Hit]:
    """Return (query, unit_id, score) of the best units in the order of ranks."""
    analyzed_units = [(unit_id, terms(text)) for unit_id, text in units]
    average = sum(len(unit_terms) for _, unit_terms in analyzed_units) / len(analyzed_units) or 1.0
    hits: list[Hit] = []
    for number, query in enumerate(queries):
        query_terms = terms(query)
        scored = []
        for unit_id, unit_terms in analyzed_units:
            relative = 1 - b + b * (stored_length(len(unit_terms)) / average)
            score = 0.0
            for term in sorted(set(query_terms)):
                tf = unit_terms.count(term)
                df = sum(term in other for _, other in analyzed_units)
                if tf:
                    idf = idf_of(variant, df, len(units))
                    counted = saturation_of(variant, tf, relative, k1, delta)
                    score += query_terms.count(term) * (idf * counted)
            if score > 0:
                scored.append((number, unit_id, score))
        hits += sorted(scored, key=lambda hit: (-hit[2], hit[1]))[:top_k]
    return hits


def idf_of(variant: str, df: int, num_units: int) -> float:
    """Return the inverse document frequency (Kamphuis et al. 2020, table 1), at least 0."""
    return {
        "lucene": math.log1p((num_units - df + 0.5) / (df + 0.5)),
        "robertson": max(math.log((num_units - df + 0.5) / (df + 0.5)), 0.0),
        "atire": math.log(num_units / df),
        "bm25l": math.log((num_units + 1) / (df + 0.5)),
        "bm25+": math.log((num_units + 1) / df),
    }[variant]


def saturation_of(variant: str, tf: int, relative: float, k1: float, delta: float) -> float:
    """Return the factor of tf (Kamphuis et al. 2020, table 1).

    Args:
        relative: 1 - b + b * length / average length.
    """
    if variant in ("lucene", "robertson"):
        return tf / (tf + k1 * relative)
    if variant == "bm25l":
        shifted = tf / relative + delta
        return (k1 + 1) * shifted / (k1 + shifted)
    return (k1 + 1) * tf / (tf + k1 * relative) + (delta if variant == "bm25+" else 0.0)
