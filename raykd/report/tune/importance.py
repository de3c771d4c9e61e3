"""Importance of the searched keys for the score, in numbers and in words."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator
from scipy.stats import spearmanr

from raykd.report.tune.study import Key
from raykd.report.tune.trials import Trial, rank

# With fewer trials, shares change with each further trial.
MIN_TRIALS = 10
_TOP_SHARE = 0.25
# Spearman correlations below are not reported as a trend.
_MIN_CORRELATION = 0.4


@dataclass(frozen=True)
class Importance:
    """Importance of a key: its share of that of all keys, and one sentence."""

    key: str
    share: float
    words: str


def importances(trials: Sequence[Trial], keys: Sequence[Key]) -> list[Importance]:
    """Importance of each key by PED-ANOVA, largest first; empty if there are too few trials.

    The measure is how much the values of the best quarter of the trials differ from those of all.
    Only the order of the trials counts, in which stopped ones come last, so all of them contribute.
    Watanabe, Bansal and Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces, 2023, arXiv:2304.10255.

    Args:
        trials: ended trials; failed ones are left out.
        keys: the searched keys.
    """
    ranked = rank(trials)
    if len(ranked) < MIN_TRIALS or len({trial.score for trial in ranked}) == 1:
        return []
    positions = _positions(ranked)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize")
    spaces = {key.name: _distribution(key, ranked) for key in keys}
    study.add_trials(
        [
            optuna.create_trial(
                value=position,
                params={
                    key.name: key.place(trial.values[key.name])
                    for key in keys
                    if key.name in trial.values
                },
                distributions={
                    key.name: spaces[key.name] for key in keys if key.name in trial.values
                },
            )
            for position, trial in zip(positions, ranked, strict=True)
        ]
    )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP_SHARE)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    found = [Importance(key.name, shares.get(key.name, 0.0), _words(key, ranked)) for key in keys]
    return sorted(found, key=lambda one: (-one.share, one.key))


def _positions(ranked: Sequence[Trial]) -> list[float]:
    """Position of each trial; tied ones share their mean position."""
    positions: list[float] = []
    for _, group in groupby(ranked, key=lambda trial: (trial.whole, trial.score)):
        tied = list(group)
        positions += [len(positions) + (len(tied) - 1) / 2] * len(tied)
    return positions


def _distribution(key: Key, trials: Sequence[Trial]) -> BaseDistribution:
    places = [key.place(trial.values[key.name]) for trial in trials if key.name in trial.values]
    if key.categories is not None or not places:
        return CategoricalDistribution(range(len(key.categories or [0])))
    return FloatDistribution(min(places), max(places), log=key.log)


def _words(key: Key, ranked: Sequence[Trial]) -> str:
    known = [trial for trial in ranked if key.name in trial.values]
    whole = [trial for trial in known if trial.whole]
    if len(whole) < 2:
        return "too few trials were trained to their end"
    if key.categories is not None:
        return _words_on_categories(key, whole)
    values = [float(trial.values[key.name]) for trial in whole]
    scores = [trial.score or 0.0 for trial in whole]
    top = values[: max(2, math.ceil(_TOP_SHARE * len(known)))]
    words = f"the best quarter has {_range(top)}, all trials {_range(_numbers(key, known))}"
    if min(values) < max(values) and min(scores) < max(scores):
        rho = float(spearmanr(values, scores).statistic)
        if abs(rho) >= _MIN_CORRELATION:
            trend = "higher" if rho > 0 else "lower"
            words += f"; {trend} values score higher (rank correlation {rho:+.2f})"
    return words


def _words_on_categories(key: Key, whole: Sequence[Trial]) -> str:
    groups: dict[str, list[float]] = {}
    for trial in whole:
        groups.setdefault(key.label(trial.values[key.name]), []).append(trial.score or 0.0)
    order = sorted(groups.items(), key=lambda group: -statistics.median(group[1]))
    shown = [
        f"{label} {statistics.median(scores):.4f} ({len(scores)})" for label, scores in order[:4]
    ]
    more = f", and {len(order) - 4} more" if len(order) > 4 else ""
    return f"median score per value (complete trials): {', '.join(shown)}{more}"


def _numbers(key: Key, trials: Sequence[Trial]) -> list[Any]:
    return [trial.values[key.name] for trial in trials]


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
