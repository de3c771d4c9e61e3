"""Importance of the searched keys."""

from dataclasses import replace

from tune_studies import LAYERS, OBJECTIVE, RATE, TEMPERATURE, trials_of

from raykd.report.tune.importance import importances
from raykd.report.tune.study import keys_of
from raykd.report.tune.trials import Trial


def found(trials: list[Trial]) -> dict[str, float]:
    return {one.key: one.share for one in importances(trials, keys_of(trials, [RATE]))}


def test_the_key_that_decides_the_score_has_the_largest_share():
    shares = found(trials_of(120))
    assert next(iter(shares)) == RATE
    assert shares[RATE] > 0.6
    assert shares.keys() == {RATE, OBJECTIVE, LAYERS, TEMPERATURE}
    assert abs(sum(shares.values()) - 1) < 1e-9


def test_the_largest_share_follows_the_key_that_decides():
    trials = [
        replace(one, score=float(one.values[OBJECTIVE] == "cilda") + one.number / 1e6, error=None)
        for one in trials_of(120)
    ]
    shares = found(trials)
    assert shares[RATE] < 0.2
    assert shares[OBJECTIVE] > 0.5


def test_the_words_state_the_values_of_the_best_quarter_and_the_trend():
    trials = [
        Trial(k, {"student.width": k + 1, "student.init": "ab"[k % 2]}, 1, 0.1 * k, True)
        for k in range(12)
    ]
    words = {one.key: one.words for one in importances(trials, keys_of(trials))}
    assert words["student.width"] == (
        "the best quarter has 10 to 12, all trials 1 to 12; higher values score higher (rank "
        "correlation +1.00)"
    )
    assert words["student.init"] == (
        "median score per value (complete trials): b 0.6000 (6), a 0.5000 (6)"
    )


def test_too_few_or_tied_trials_have_no_importance():
    trials = trials_of(40)
    assert importances(trials[:10], keys_of(trials[:10])) == []
    tied = [replace(one, score=0.5, error=None) for one in trials]
    assert importances(tied, keys_of(tied)) == []
