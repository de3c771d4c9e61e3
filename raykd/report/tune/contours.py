"""Score over pairs of numeric keys, as a smooth surface on a grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from raykd.report.tune.importance import Importance
from raykd.report.tune.study import Key
from raykd.report.tune.trials import Trial

GRID_SIZE = 25
# Keys of which all pairs are shown, the most important ones.
_MAX_KEYS = 3
_MIN_TRIALS = 10
# Of the axis: the deviation of the weights, and the distance from the nearest trial up to which
# there is a value.
_BANDWIDTH = 0.1
_REACH = 0.2


@dataclass(frozen=True)
class Contour:
    """Surface of the score over two keys, given by their positions among all keys.

    `grid` has `GRID_SIZE` rows from the lowest to the highest value of `y`, of as many values from
    the lowest to the highest of `x`, on the scales of the keys; None where no trial is near.
    """

    x: int
    y: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    grid: list[list[float | None]]


def contours(
    trials: Sequence[Trial], keys: Sequence[Key], importance: Sequence[Importance]
) -> list[Contour]:
    """Surfaces of the score over pairs of the most important keys that are numbers.

    A value is the mean score of the complete trials, weighted by a Gaussian of their distance.
    Nadaraya, On Estimating Regression, 1964, doi:10.1137/1109020.

    Args:
        trials: ended trials.
        keys: the searched keys.
        importance: importance of each key, largest first; without it there are no surfaces.
    """
    places = {key.name: place for place, key in enumerate(keys)}
    numeric = [places[one.key] for one in importance if keys[places[one.key]].categories is None][
        :_MAX_KEYS
    ]
    surfaces = []
    for x, y in combinations(numeric, 2):
        names = (keys[x].name, keys[y].name)
        known = [
            trial
            for trial in trials
            if trial.whole and not trial.failed and trial.values.keys() >= set(names)
        ]
        if len(known) < _MIN_TRIALS:
            continue
        points = np.array([[_scaled(keys[k], t) for k in (x, y)] for t in known])
        low, high = points.min(axis=0), points.max(axis=0)
        if not (high > low).all():
            continue
        scores = np.array([trial.score or 0.0 for trial in known])
        grid = _surface((points - low) / (high - low), scores)
        x_range, y_range = (_range(keys[k], known) for k in (x, y))
        surfaces.append(Contour(x, y, x_range, y_range, grid))
    return surfaces


def _range(key: Key, trials: Sequence[Trial]) -> tuple[float, float]:
    values = [key.place(trial.values[key.name]) for trial in trials]
    return min(values), max(values)


def _scaled(key: Key, trial: Trial) -> float:
    place = key.place(trial.values[key.name])
    return math.log10(place) if key.log else place


def _surface(points: NDArray[np.float64], scores: NDArray[np.float64]) -> list[list[float | None]]:
    """Weighted means on the grid over the unit square.

    Args:
        points: (N, 2) coordinates.
        scores: (N,) values.
    """
    axis = np.linspace(0, 1, GRID_SIZE)
    nodes = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2)
    squares = ((nodes - points) ** 2).sum(axis=-1)
    nearest = squares.min(axis=1)
    # The nearest trial has the weight 1, so that the sum is never 0.
    weights = np.exp((nearest[:, None] - squares) / (2 * _BANDWIDTH**2))
    means = (weights * scores).sum(axis=1) / weights.sum(axis=1)
    values = [
        round(float(mean), 5) if square <= _REACH**2 else None
        for mean, square in zip(means, nearest, strict=True)
    ]
    return [values[start : start + GRID_SIZE] for start in range(0, len(values), GRID_SIZE)]
