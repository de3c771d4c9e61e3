"""Choice of the winner among trials that were repeated with several seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t

from raykd.report.tune.trials import Trial

_CONFIDENCE = 0.95
# Smaller differences are rounding errors of float64.
_ROUNDING = 1e-12
# Training times within this share of the shortest are equal.
_TIME_TOLERANCE = 0.1


@dataclass(frozen=True)
class Repeated:
    """A trial with its scores of new seeds.

    Attributes:
        number: number of the trial.
        search_score: score in the search, with the search's seed.
        scores: score per new seed, on the same rows.
        mean: mean of `scores`.
        low: lower end of the 95 % confidence interval of the mean, see `half_width`.
        high: upper end of it.
        num_parameters: size of the student.
        seconds: training time of the trial.
        is_tied: whether its mean is within one standard error of the best mean, see `choose`.
    """

    number: int
    search_score: float
    scores: list[float]
    mean: float
    low: float
    high: float
    num_parameters: int | None
    seconds: float | None
    is_tied: bool


@dataclass(frozen=True)
class Confirmation:
    """Outcome of the repetitions.

    Attributes:
        winner: number of the winning trial.
        seeds: new seeds.
        repeated: repeated trials, highest mean first.
        seed_bias: search score of the winner minus its mean over new seeds: the part of the search
            score that was a lucky seed.
        held_out_scores: scores of the winner per new seed on rows that the search did not use;
            empty if there are none.
        row_bias: mean of the winner on the search rows minus that on the held-out rows: the part
            that comes from choosing on these rows; None if there are no held-out rows.
    """

    winner: int
    seeds: list[int]
    repeated: list[Repeated]
    seed_bias: float
    held_out_scores: list[float]
    row_bias: float | None


def choose(trials: Sequence[Trial], scores: Mapping[int, Sequence[float]]) -> list[Repeated]:
    """Summarize repeated trials; the winner is first among those that are tied.

    A trial is tied with the one of the highest mean if the difference is at most one standard error
    (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984: the
    one-standard-error rule), see `standard_error`. Among tied trials, the student with fewer
    parameters wins, then the one trained for less time, then the one with the higher mean.

    Args:
        trials: the repeated trials.
        scores: scores of the new seeds by the trial's number, those of the same seeds for each.
    """
    means = {trial.number: statistics.fmean(scores[trial.number]) for trial in trials}
    halves = {trial.number: half_width(scores[trial.number]) for trial in trials}
    best = max(trials, key=lambda trial: means[trial.number]).number
    repeated = [
        Repeated(
            trial.number,
            trial.score or 0.0,
            list(scores[trial.number]),
            means[trial.number],
            means[trial.number] - halves[trial.number],
            # No metric exceeds 1.
            min(1.0, means[trial.number] + halves[trial.number]),
            trial.num_parameters,
            trial.seconds,
            is_tied=means[best] - means[trial.number]
            <= standard_error(scores[best], scores[trial.number]) + _ROUNDING,
        )
        for trial in trials
    ]
    tied = [one for one in repeated if one.is_tied]
    smallest = min(_size(one) for one in tied)
    times = [one.seconds or 0.0 for one in tied if _size(one) == smallest]
    limit = (1 + _TIME_TOLERANCE) * min(times)

    def order(one: Repeated) -> tuple[float, float, float, int]:
        seconds = max(one.seconds or 0.0, limit)
        return _size(one), seconds, -one.mean, one.number

    others = [one for one in repeated if not one.is_tied]
    return [
        *sorted(tied, key=order),
        *sorted(others, key=lambda one: (-one.mean, one.number)),
    ]


def _size(one: Repeated) -> float:
    return math.inf if one.num_parameters is None else one.num_parameters


def half_width(scores: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of a trial's mean over two or more seeds.

    By Student's t, with the deviation of the trial's own scores.
    """
    quantile = float(t.ppf((1 + _CONFIDENCE) / 2, len(scores) - 1))
    return quantile * statistics.stdev(scores) / math.sqrt(len(scores))


def standard_error(best: Sequence[float], other: Sequence[float]) -> float:
    """Standard error of the difference between the means of the best trial and another one.

    It is that of the differences per seed. If the other one varies more than the best, it is at
    most that of two trials that vary as the best does: a trial is not tied because a seed of its
    own failed.

    Args:
        best: (S,) score per seed, of the highest mean.
        other: (S,) score of the same seeds.
    """
    differences = [score - own for score, own in zip(best, other, strict=True)]
    like_best = math.sqrt(2) * statistics.stdev(best)
    return min(statistics.stdev(differences), like_best) / math.sqrt(len(best))
