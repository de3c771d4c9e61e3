"""BM25 over all pairs of query and unit, in plain Python: slow and obvious."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from raykd.corpus.analyze import terms

Hit = tuple[int, Any, float]


def best_hits(
    units: Sequence[tuple[Any, str]],
    queries: Sequence[str],
    top_k: int,
    *,
    k1: float = 1.2,
    b: float = 0.75,
    stored_length: Callable[[int], int] = lambda length: length,
) -> list[Hit]:
    """(query, unit_id, score) of the best units, in the order of ranks."""
    analysed = [(unit_id, terms(text)) for unit_id, text in units]
    average = sum(len(found) for _, found in analysed) / len(analysed) or 1.0
    hits: list[Hit] = []
    for number, query in enumerate(queries):
        wanted = terms(query)
        scored = []
        for unit_id, found in analysed:
            norm = k1 * (1 - b + b * (stored_length(len(found)) / average))
            score = 0.0
            for term in sorted(set(wanted)):
                tf = found.count(term)
                df = sum(term in other for _, other in analysed)
                idf = math.log1p((len(units) - df + 0.5) / (df + 0.5))
                if tf:
                    score += wanted.count(term) * (idf * (tf / (tf + norm)))
            if score > 0:
                scored.append((number, unit_id, score))
        hits += sorted(scored, key=lambda hit: (-hit[2], hit[1]))[:top_k]
    return hits
