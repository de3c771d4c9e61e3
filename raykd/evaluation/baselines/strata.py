"""Stratified samples of rows or texts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stratified_sample(strata: NDArray[Any], size: int) -> NDArray[np.int64]:
    """Ascending places of at most `size` members, as many of each stratum as its share.

    The first members of a stratum are taken. Every stratum has one, if there are at most `size`.

    Args:
        strata: stratum of each member (N,), such as its class; members in random order.
        size: number of members to take.
    """
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    by_stratum = np.argsort(stratum, kind="stable")
    starts = np.cumsum(sizes) - sizes
    # Part of its stratum that comes before a member, in [0, 1).
    before = np.empty(len(stratum))
    before[by_stratum] = np.arange(len(stratum)) - np.repeat(starts, sizes)
    before /= sizes[stratum]
    return np.sort(np.argsort(before, kind="stable")[:size])
