"""Pareto fronts and hypervolumes, against brute force and against Optuna."""

import itertools
import random
import warnings
from dataclasses import replace

import optuna
import pytest

from raykd.report.tune.hypervolume import hypervolume, hypervolumes
from raykd.report.tune.targets import by_targets, devices_text, direction_of, front, value_text
from raykd.report.tune.trials import Trial

BOTH = ("accuracy", "latency_ms")
ALL = (*BOTH, "num_parameters")


def trial(number: int, accuracy: float, latency: float, size: int = 1000, **changes) -> Trial:
    one = Trial(
        number,
        {"student.num_layers": number},
        1,
        accuracy,
        True,
        scores={"accuracy": accuracy, "f1": 1 - accuracy},
        costs={"latency_ms": latency},
        num_parameters=size,
    )
    return replace(one, **changes)


def numbers(trials: list[Trial]) -> list[int]:
    return [one.number for one in trials]


def random_trials(seed: int, num_trials: int) -> list[Trial]:
    """Trials on a coarse grid, so that many are equal; some failed or were stopped."""
    chance = random.Random(seed)
    return [
        trial(
            number,
            chance.randint(0, 6) / 8,
            float(chance.randint(1, 6)),
            chance.randint(1, 4),
            whole=number % 7 != 3,
            error="loss nan" if number % 11 == 5 else None,
        )
        for number in range(num_trials)
    ]


def is_dominated(one: Trial, other: Trial, targets: tuple[str, ...]) -> bool:
    """Return whether `other` is at least as good by all targets, and better by one or first."""
    gains = []
    for target in targets:
        gain = (other.value(target) or 0.0) - (one.value(target) or 0.0)
        gains.append(gain if target in ("accuracy", "f1") else -gain)
    is_first = other.number < one.number and not any(gains)
    return min(gains) >= 0 and (max(gains) > 0 or is_first)


@pytest.mark.parametrize("targets", [("accuracy",), BOTH, ALL, ("accuracy", "f1")])
@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_complete_trial_dominates(seed, targets):
    trials = random_trials(seed, 60)
    complete = [one for one in trials if one.whole and not one.failed]
    expected = {
        one.number
        for one in complete
        if not any(is_dominated(one, other, targets) for other in complete)
    }
    found = front(trials, targets)
    assert set(numbers(found)) == expected
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_less_of_a_cost_and_more_of_a_metric_are_better():
    assert [direction_of(one) for one in ("accuracy", "f1", *ALL[1:], "flops")] == [
        *("maximize", "maximize"),
        *("minimize", "minimize", "minimize"),
    ]
    trials = [trial(0, 0.8, 5.0), trial(1, 0.8, 4.0), trial(2, 0.9, 9.0), trial(3, 0.7, 4.5)]
    assert numbers(front(trials, BOTH)) == [2, 1]
    assert numbers(by_targets(trials, BOTH)) == [2, 1, 0, 3]


def test_trials_without_a_finite_value_of_a_target_are_left_out():
    trials = [
        trial(0, 0.5, 1.0, costs={}),
        trial(1, 0.4, 1.0, costs={"latency_ms": float("nan")}),
        trial(2, 0.3, 1.0),
        trial(3, 0.9, 0.1, whole=False),
        trial(4, 0.9, 0.1, error="out of memory"),
    ]
    assert numbers(front(trials, BOTH)) == [2]
    assert front([], BOTH) == []


def test_equal_trials_are_represented_by_the_first():
    trials = [trial(1, 0.5, 2.0), trial(0, 0.5, 2.0), trial(2, 0.5, 2.0)]
    assert numbers(front(trials, BOTH)) == [0]


def cells_dominated(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> int:
    """Number of unit cells below the reference and above a point, for whole coordinates."""
    cells = itertools.product(*(range(int(end)) for end in reference))
    return sum(
        any(all(a <= b for a, b in zip(point, cell, strict=True)) for point in points)
        for cell in cells
    )


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(15))
def test_the_hypervolume_is_the_number_of_dominated_unit_cells(seed, dimensions):
    chance = random.Random(seed)
    reference = tuple(float(chance.randint(3, 6)) for _ in range(dimensions))
    points = [
        tuple(float(chance.randint(0, 7)) for _ in range(dimensions))
        for _ in range(chance.randint(0, 12))
    ]
    assert hypervolume(points, reference) == cells_dominated(points, reference)


def test_the_hypervolume_of_two_overlapping_boxes_by_hand():
    assert hypervolume([(1.0, 3.0), (2.0, 1.0)], (4.0, 4.0)) == 3 * 1 + 2 * 3 - 2 * 1
    assert hypervolume([(0.0, 0.0, 0.5)], (1.0, 2.0, 3.0)) == 1 * 2 * 2.5
    assert hypervolume([(4.0, 0.0)], (4.0, 4.0)) == 0


def test_the_history_in_shares_by_hand():
    trials = [
        trial(0, 0.5, 10.0),  # scaled: (1, 1)
        trial(1, 0.9, 10.0),  # (0, 1)
        trial(2, 0.6, 9.0, whole=False),
        trial(3, 0.5, 2.0),  # (1, 0)
        trial(4, 0.5, 5.0),  # dominated by trial 3
    ]
    box = 1.1 * 1.1
    assert hypervolumes(trials, BOTH) == [
        (0, pytest.approx(0.01 / box)),
        (1, pytest.approx(0.11 / box)),
        (3, pytest.approx(0.21 / box)),
    ]


def test_a_target_that_is_the_same_in_all_trials_does_not_hide_the_growth():
    trials = [trial(0, 0.5, 3.0), trial(1, 0.6, 3.0)]
    assert [number for number, _ in hypervolumes(trials, BOTH)] == [0, 1]
    assert hypervolumes(trials, BOTH)[-1][1] == pytest.approx(1.0)


@pytest.mark.parametrize("targets", [BOTH, ALL])
def test_the_history_is_that_of_optunas_chart(targets):
    trials = [one for one in random_trials(3, 60) if one.whole and not one.failed]
    columns = {target: [one.value(target) or 0.0 for one in trials] for target in targets}
    ends = {target: (min(values), max(values)) for target, values in columns.items()}
    study = optuna.create_study(directions=[direction_of(target) for target in targets])
    study.add_trials(
        [
            optuna.create_trial(values=[columns[target][k] for target in targets])
            for k in range(len(trials))
        ]
    )
    reference, box = [], 1.0
    for target in targets:
        low, high = ends[target]
        is_cost = direction_of(target) == "minimize"
        reference.append(low + 1.1 * (high - low) if is_cost else high - 1.1 * (high - low))
        box *= 1.1 * (high - low)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        chart = optuna.visualization.plot_hypervolume_history(study, reference)
    by_optuna = [volume / box for volume in chart.data[0].y]
    ours, present = dict(hypervolumes(trials, targets)), 0.0
    assert len(ours) > 3
    for one, expected in zip(trials, by_optuna, strict=True):
        present = ours.get(one.number, present)
        assert present == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("targets", [("accuracy",), (*ALL, "flops")])
def test_one_target_or_more_than_three_have_no_hypervolume(targets):
    trials = [trial(0, 0.5, 2.0, costs={"latency_ms": 2.0, "flops": 5.0})]
    assert hypervolumes(trials, targets) == []
    assert hypervolumes([], BOTH) == []


def test_values_are_written_with_the_digits_of_their_kind():
    assert value_text("accuracy", 0.81234567) == "0.8123"
    assert value_text("num_parameters", 2_100_000) == "2,100,000"
    assert value_text("latency_ms", 3.21456) == "3.21"
    assert value_text("flops", 118_752.0) == "118,752"
    assert value_text("flops", None) == "unknown"


def test_different_processors_are_pointed_out():
    assert devices_text([]) == []
    assert len(devices_text(["A"])) == 1
    [first, second] = devices_text(["A", "B"])
    assert "measured on A and B, with one thread" in first
    assert "may not be comparable" in second
