"""Choice of a trial by conditions on its score and its costs."""

import pytest
from test_targets import ALL, BOTH, trial

from raykd.report.tune.pick import (
    Condition,
    check_pick,
    known_names,
    parse_pick,
    picked,
    unmet_text,
    winner_of,
)

TRIALS = [
    trial(0, 0.900, 9.0, 40),
    trial(1, 0.895, 4.0, 30),
    trial(2, 0.892, 3.0, 20),
    trial(3, 0.850, 1.0, 10),
    trial(4, 0.990, 0.1, 1, whole=False),
    trial(5, 0.990, 0.1, 1, error="out of memory"),
]


def choice(text: str, targets=BOTH) -> int | None:
    chosen = picked(TRIALS, targets, parse_pick(text))
    return None if chosen is None else chosen.number


def test_conditions_are_parsed():
    assert parse_pick("accuracy within 1%, latency_ms <= 5e0 ,f1>=0.25") == [
        Condition("accuracy", "within", 0.01, is_share=True),
        Condition("latency_ms", "<=", 5.0),
        Condition("f1", ">=", 0.25),
    ]
    assert parse_pick("matthews is within 0.02, matthews >= -0.5") == [
        Condition("matthews", "within", 0.02),
        Condition("matthews", ">=", -0.5),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "latency_ms < 5", "accuracy within", "latency_ms <= 5 ms", "5 >= latency_ms"],
)
def test_what_is_no_condition_is_refused_with_the_form(text):
    with pytest.raises(ValueError, match="is no condition; write conditions separated by commas"):
        parse_pick(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("latency_ms <= 5", 1),  # the best score among the fast ones
        ("latency_ms <= 4", 1),  # a limit is met by itself
        ("latency_ms <= 3.9", 2),
        ("num_parameters <= 10", 3),
        ("accuracy within 1%", 2),  # 0.892 >= 0.891: the cheapest of 0, 1 and 2
        ("accuracy within 0.007", 1),  # 0.892 < 0.893
        ("accuracy within 0%", 0),
        ("accuracy within 10%", 3),
        ("accuracy within 1%, latency_ms <= 3.5", 2),
        ("accuracy within 10%, num_parameters >= 25", 1),
        ("accuracy >= 0.87, latency_ms <= 5", 1),
    ],
)
def test_the_trial_that_meets_the_conditions_is_chosen(text, number):
    assert choice(text) == number


def test_the_cheapest_is_decided_by_the_costs_in_their_order_then_by_size():
    trials = [trial(0, 0.9, 5.0, 10), trial(1, 0.9, 4.0, 20), trial(2, 0.9, 4.0, 15)]
    within = parse_pick("accuracy within 1%")
    assert picked(trials, BOTH, within).number == 2
    assert picked(trials, ("accuracy", "num_parameters", "latency_ms"), within).number == 0
    assert picked(trials, ("accuracy",), within).number == 0


def test_conditions_that_no_trial_meets_name_the_nearest():
    assert choice("accuracy within 1%, latency_ms <= 2") is None
    text = unmet_text(TRIALS, BOTH, parse_pick("accuracy within 1%, latency_ms <= 2"))
    assert text == (
        "no trial meets 'accuracy within 1%, latency_ms <= 2'; the nearest is trial 2 with "
        "accuracy 0.8920, latency_ms 3, which misses latency_ms <= 2"
    )
    both = unmet_text(TRIALS, BOTH, parse_pick("accuracy >= 0.99, latency_ms <= 0.5"))
    assert both.endswith("which misses accuracy >= 0.99, latency_ms <= 0.5")
    none = unmet_text(TRIALS[4:], BOTH, parse_pick("latency_ms <= 2"))
    assert none == "no trial that was trained to its end meets 'latency_ms <= 2'"


def test_names_are_checked_against_what_trials_have():
    known = known_names(TRIALS)
    assert known == ["accuracy", "f1", "latency_ms", "num_parameters"]
    check_pick(parse_pick("f1 >= 0.1, num_parameters <= 9"), BOTH, known)
    with pytest.raises(ValueError, match="have no 'speed'; choose from accuracy, f1, latency_ms"):
        check_pick(parse_pick("speed <= 3"), BOTH, known)
    with pytest.raises(ValueError, match="num_parameters; add flops to tune.targets"):
        check_pick(parse_pick("flops <= 3"), BOTH, known)
    with pytest.raises(ValueError, match="only the first target, accuracy, can be within"):
        check_pick(parse_pick("latency_ms within 10%"), BOTH, known)


def test_a_negative_best_score_has_a_distance_too():
    trials = [trial(0, -0.50, 9.0), trial(1, -0.52, 1.0)]
    assert picked(trials, BOTH, parse_pick("accuracy within 5%")).number == 1
    assert picked(trials, BOTH, parse_pick("accuracy within 3%")).number == 0


def test_the_winner_is_that_of_the_conditions_the_confirmation_or_the_first_target():
    confirmation = {"winner": 3}
    assert winner_of(TRIALS, ALL, None, None).number == 0
    assert winner_of(TRIALS, ALL, None, confirmation).number == 3
    assert winner_of(TRIALS, ALL, "latency_ms <= 5", confirmation).number == 1
    assert winner_of(TRIALS, ALL, "latency_ms <= 0.5", None) is None
    assert winner_of(TRIALS[4:], ("accuracy",), None, None).number == 4  # only a stopped one
    assert winner_of(TRIALS[5:], ("accuracy",), None, None) is None


def test_ties_by_the_first_target_are_decided_by_the_next():
    trials = [trial(0, 0.9, 5.0), trial(1, 0.9, 3.0)]
    assert winner_of(trials, BOTH, None, None).number == 1
    assert winner_of(trials, ("accuracy",), None, None).number == 0
