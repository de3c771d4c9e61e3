"""Share of failed trials at which a sweep is stopped."""

import pytest

from raykd.errors import InputError
from raykd.report.tune.trials import Trial
from raykd.workflow.tune.failures import FailedShare


def trials_of(pattern: str) -> list[Trial]:
    """Trials that failed (F) or have a score (s)."""
    return [
        Trial(number, {}, 1, None, False, "loss nan")
        if letter == "F"
        else Trial(number, {}, 1, 0.5, True)
        for number, letter in enumerate(pattern)
    ]


def is_stopped(pattern: str, most: float = 0.5) -> bool:
    trials = trials_of(pattern)
    share = FailedShare(most)
    share.count(trials[-1], lambda: trials)
    try:
        share.check()
    except InputError:
        return True
    return False


def test_a_sweep_is_stopped_when_more_than_half_of_at_least_four_trials_failed():
    stopped = [
        pattern for pattern in ("FFF", "FFFF", "sFFF", "ssFF", "FFFs") if is_stopped(pattern)
    ]
    assert stopped == ["FFFF", "sFFF"]


def test_the_share_of_failed_trials_can_be_set():
    assert is_stopped("sssF", most=0.2)
    assert not is_stopped("ssssF", most=0.2)
    assert not is_stopped("FFFFFFFF", most=1.0)


def test_the_error_names_the_most_frequent_reason_even_if_a_library_replaces_it():
    trials = trials_of("sFFF")
    share = FailedShare(0.5)
    message = r"3 of 4 trials failed.* 3 of them: loss nan"
    with pytest.raises(InputError, match=message) as raised, share:
        share.count(trials[-1], lambda: trials)
        try:
            share.check()
        except InputError as error:
            raise RuntimeError("the run failed") from error
    assert raised.value.__suppress_context__


def test_ctrl_c_is_not_replaced():
    share = FailedShare(0.5)
    trials = trials_of("FFFF")
    with pytest.raises(KeyboardInterrupt), share:
        share.count(trials[-1], lambda: trials)
        with pytest.raises(InputError):
            share.check()
        raise KeyboardInterrupt
