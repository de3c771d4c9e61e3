"""Table of the running trials: columns, widths, rows and estimates of time."""

import io

import pytest
from rich.console import Console

from raykd.report.tune.trials import Trial
from raykd.workflow.tune.resources import TrialResources
from raykd.workflow.tune.running import RunningTrials
from raykd.workflow.tune.terminal.table import TrialTable, with_short_names

RATE, BATCH = "adaptation.learning_rate", "adaptation.batch_size"


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def drawn(table: TrialTable, width: int, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as output:
        console.print(table)
    return [line.rstrip() for line in output.get().splitlines()]


def table_of(clock: Clock, ended: list[Trial], num_trials: int = 20) -> TrialTable:
    return TrialTable(ended, num_trials, lambda values: 4, clock)


def ended_trial(number: int, score: float | None, seconds: float) -> Trial:
    return Trial(number, {}, 4, score, True, seconds=seconds)


def running_trials(clock: Clock, num: int) -> RunningTrials:
    running = RunningTrials(("mcc",), TrialResources(1.0, 0.0, None), ended=[0], clock=clock)
    for number in range(num):
        running.start(f"t{number}", {RATE: 0.00123456, BATCH: 16 + number})
    return running


def test_a_row_has_number_epoch_scores_times_and_short_values(clock):
    running, table = running_trials(clock, 2), table_of(clock, [ended_trial(0, 0.5, 60.0)])
    clock.now_s = 110.0
    running.report("t0", {"epoch": 1, "mcc": 0.75})
    table.on_tick(running)
    clock.now_s = 120.0
    running.report("t0", {"epoch": 2, "mcc": 0.7})
    table.on_tick(running)
    clock.now_s = 125.0
    assert [line.split() for line in drawn(table, 120)] == [
        ["running", "2,", "best", "so", "far", "0.5000", "(trial", "0)"],
        ["trial", "epoch", "score", "best", "elapsed", "left", "values"],
        [
            *("1", "2", "of", "4", "0.7000", "0.7500", "0:00:25", "0:00:15"),
            *("learning_rate=0.001235,", "batch_size=16"),
        ],
        ["2", "0", "of", "4", "0:00:25", "learning_rate=0.001235,", "batch_size=17"],
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 80, 100, 200])
def test_the_table_fits_its_terminal(clock, width):
    running, table = running_trials(clock, 5), table_of(clock, [])
    running.report("t0", {"epoch": 1, "mcc": -0.7512345})
    table.on_tick(running)
    lines = drawn(table, width)
    assert len(lines) == 7
    assert max(map(len, lines)) <= width
    assert all("1 of 4" in line for line in lines[2:3] if width >= 30)
    assert ("elapsed" in lines[1]) == (width >= 64)
    assert ("batch_size=16" in lines[2]) == (width >= 100)


def test_rows_that_do_not_fit_are_counted(clock):
    running, table = running_trials(clock, 30), table_of(clock, [])
    table.on_tick(running)
    tall, low = drawn(table, 80, 50), drawn(table, 80, 10)
    assert (len(tall), tall[-1]) == (11, "and 22 more")
    assert (len(low), low[-1]) == (7, "and 26 more")


def test_the_time_left_is_unknown_until_a_trial_has_a_score(clock):
    table = table_of(clock, [ended_trial(0, None, 5.0)])
    table.on_tick(running_trials(clock, 2))
    assert table.left_s() is None
    table.on_end(ended_trial(1, 0.5, 30.0), "t0")
    assert table.left_s() is not None


def test_the_time_left_is_unknown_until_a_trial_runs(clock):
    table = table_of(clock, [ended_trial(0, 0.5, 30.0)])
    assert table.left_s() is None
    table.on_tick(running_trials(clock, 1))
    assert table.left_s() is not None


def test_the_time_left_is_that_of_all_trials_divided_by_those_that_run_at_once(clock):
    table = table_of(clock, [ended_trial(0, 0.5, 30.0)], num_trials=7)
    table.on_tick(running_trials(clock, 2))
    assert table.left_s() == (6 * 30.0) / 2
    clock.now_s += 10.0
    assert table.left_s() == (6 * 30.0 - 2 * 10.0) / 2


def test_the_last_trials_end_when_the_longest_of_them_does(clock):
    table, running = table_of(clock, [ended_trial(0, 0.5, 30.0)], 3), running_trials(clock, 2)
    clock.now_s += 20.0
    running.report("t1", {"epoch": 1, "mcc": 0.5})
    table.on_tick(running)
    assert table.left_s() == 60.0


def test_short_names_are_the_shortest_ends_that_differ():
    values = {RATE: 1, "injection.learning_rate": 2, BATCH: 3, "weights": 4}
    assert with_short_names(values) == {
        RATE: 1,
        "injection.learning_rate": 2,
        "batch_size": 3,
        "weights": 4,
    }
