"""Surfaces of the score over pairs of keys."""

import random

import pytest

from raykd.report.tune.contours import GRID_SIZE, contours
from raykd.report.tune.importance import Importance
from raykd.report.tune.study import keys_of
from raykd.report.tune.trials import Trial


def trials_on(num_trials: int, score) -> list[Trial]:
    chance = random.Random(1)
    trials = []
    for number in range(num_trials):
        rate, decay = 10 ** chance.uniform(-5, -1), chance.uniform(0, 4)
        values = {"rate": rate, "decay": decay, "name": "a" if number % 2 else "b"}
        trials.append(Trial(number, values, 1, score(rate, decay), True))
    return trials


def importance_of(*names: str) -> list[Importance]:
    return [Importance(name, 1 / len(names), "") for name in names]


def surface_of(trials: list[Trial], *names: str):
    return contours(trials, keys_of(trials, ["rate"]), importance_of(*names))


def test_the_surface_follows_the_score_and_is_on_the_scales_of_the_keys():
    trials = trials_on(400, lambda rate, decay: decay)
    [surface] = surface_of(trials, "rate", "decay", "name")
    assert (surface.x, surface.y) == (0, 1)
    assert len(surface.grid) == GRID_SIZE
    middle = GRID_SIZE // 2
    # Half of the axis of the decay is 2, at every rate; half of the log axis of the rate is 1e-3.
    assert surface.grid[middle][4] == pytest.approx(2.0, abs=0.25)
    assert surface.grid[middle][-4] == pytest.approx(2.0, abs=0.25)
    assert surface.grid[4][middle] < 1.1
    assert surface.grid[-5][middle] > 2.9
    assert surface.x_range == (
        min(one.values["rate"] for one in trials),
        max(one.values["rate"] for one in trials),
    )


def test_the_highest_point_is_near_the_best_values():
    trials = trials_on(400, lambda rate, decay: -abs(decay - 3) - (0 if 1e-4 < rate < 1e-3 else 5))
    [surface] = surface_of(trials, "decay", "rate")
    best = max(
        (value, row, column)
        for row, values in enumerate(surface.grid)
        for column, value in enumerate(values)
        if value is not None
    )
    assert best[1] / (GRID_SIZE - 1) == pytest.approx(0.375, abs=0.1)  # 10 ** -3.5
    assert best[2] / (GRID_SIZE - 1) == pytest.approx(0.75, abs=0.1)


def test_there_is_no_value_where_no_trial_is_near():
    trials = trials_on(200, lambda rate, decay: 1.0)
    diagonal = [one for one in trials if abs((one.values["decay"] / 4) - 0.1) < 0.1]
    corner = Trial(999, {"rate": 0.1, "decay": 4.0, "name": "a"}, 1, 1.0, True)
    [surface] = surface_of([*diagonal, corner], "rate", "decay")
    assert surface.grid[GRID_SIZE // 2][GRID_SIZE // 2] is None
    assert surface.grid[-1][-1] == 1.0


def test_pairs_are_of_the_three_most_important_numbers():
    trials = [
        Trial(
            k,
            {name: (k * p) % 17 / 17 for name, p in zip("abcd", (3, 5, 7, 11), strict=True)},
            1,
            k / 30,
            True,
        )
        for k in range(30)
    ]
    found = contours(trials, keys_of(trials), importance_of("d", "b", "a", "c"))
    assert [(one.x, one.y) for one in found] == [(3, 1), (3, 0), (1, 0)]


def test_too_few_trials_one_number_or_no_importance_have_no_surface():
    trials = trials_on(40, lambda rate, decay: decay)
    assert surface_of(trials[:9], "rate", "decay") == []
    assert surface_of(trials, "rate", "name") == []
    assert surface_of(trials) == []
    constant = [Trial(one.number, {**one.values, "decay": 1.0}, 1, 0.5, True) for one in trials]
    assert surface_of(constant, "rate", "decay") == []
