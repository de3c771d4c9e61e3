"""Records of trials: scores, learning curve, time and resources."""

import math

from raykd.report.tune.trials import Trial
from raykd.workflow.tune.resources import TrialResources
from raykd.workflow.tune.running import RunningTrials
from raykd.workflow.tune.terminal.lines import TrialLines


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_record_has_all_metrics_the_curve_the_time_and_the_resources():
    clock = Clock()
    running = RunningTrials(("mcc", "accuracy"), TrialResources(2.0, 0.5, None), clock=clock)
    running.start("a", {"student.width": 64})
    running.start("b", {"student.width": 32})
    running.report("a", {"epoch": 1, "whole": 0, "mcc": 0.1, "accuracy": 0.6, "pid": 7})
    clock.now_s = 103.5
    running.report(
        "a", {"epoch": 2, "whole": 1, "mcc": 0.2, "accuracy": 0.7, "num_parameters": 900}
    )
    assert running.end("a", {"student.width": 64}, None) == Trial(
        number=0,
        values={"student.width": 64},
        epochs=2,
        score=0.2,
        whole=True,
        scores={"mcc": 0.2, "accuracy": 0.7},
        curve=[[1.0, 0.1], [2.0, 0.2]],
        seconds=3.5,
        num_cpus=2.0,
        num_gpus=0.5,
        num_parameters=900,
    )


def test_a_stopped_trial_has_its_curve_until_then():
    running = RunningTrials(("mcc",), TrialResources(1.0, 0.0, None))
    running.start("a", {})
    running.report("a", {"epoch": 1, "whole": 0, "mcc": 0.1})
    trial = running.end("a", {}, None)
    assert (trial.whole, trial.curve, trial.num_parameters) == (False, [[1.0, 0.1]], None)


def test_scores_that_are_not_finite_are_left_out():
    running = RunningTrials(("mcc", "accuracy"), TrialResources(1.0, 0.0, None))
    running.start("a", {})
    running.report("a", {"epoch": 1, "whole": 0, "mcc": 0.1, "accuracy": 0.5})
    running.report("a", {"epoch": 2, "whole": 1, "mcc": math.nan, "accuracy": 0.5})
    trial = running.end("a", {}, None)
    assert trial.score is None
    assert trial.scores == {"accuracy": 0.5}
    assert trial.curve == [[1.0, 0.1]]
    assert trial.failed


def test_an_epoch_that_is_reported_again_has_one_point():
    running = RunningTrials(("mcc",), TrialResources(1.0, 0.0, None))
    running.start("a", {})
    for epoch, score in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25), (3, 0.35)):
        running.report("a", {"epoch": epoch, "whole": 0, "mcc": score})
    assert running.end("a", {}, None).curve == [[1.0, 0.1], [2.0, 0.25], [3.0, 0.35]]


def test_a_trial_that_failed_before_its_start_is_recorded():
    trial = RunningTrials(("mcc",), TrialResources(1.0, 0.0, None)).end(
        "a", {"student.width": 64}, "no node"
    )
    assert (trial.epochs, trial.score, trial.error) == (0, None, "no node")
    assert trial.values == {"student.width": 64}


def test_a_started_trial_has_the_smallest_number_that_no_other_trial_has():
    running = RunningTrials(("mcc",), TrialResources(1.0, 0.0, None), ended=[0, 2])
    for trial_id in ("a", "b", "a"):
        running.start(trial_id, {})
    assert [trial.number for trial in running.trials()] == [1, 3]
    assert running.end("b", {}, None).number == 3
    assert running.end("never started", {}, "no node").number == 4


def test_trials_are_numbered_in_the_order_of_their_proposals():
    running = RunningTrials(("mcc",), TrialResources(1.0, 0.0, None))
    assert [running.number(trial_id) for trial_id in ("first", "second")] == [0, 1]
    running.start("second", {})
    running.start("first", {})
    assert running.end("second", {}, None).number == 1
    assert running.end("first", {}, None).number == 0


def test_each_ended_trial_is_printed_with_the_best_score_so_far(capsys):
    counted: list[int] = []
    lines = TrialLines(counted.append, [Trial(0, {}, 1, 0.5, True)], 5)
    rate = {"adaptation.learning_rate": 0.00123456}
    lines.on_end(Trial(1, rate, 1, 0.75, True, costs={"latency_ms": 3.456}), "a")
    lines.on_end(Trial(2, rate, 1, 0.9, False), "b")
    lines.on_end(Trial(3, rate, 0, None, False, "out of memory"), "c")
    values = "adaptation.learning_rate=0.001235; best so far 0.7500"
    assert capsys.readouterr().err.splitlines() == [
        f"trial 1 of 5: 0.7500, latency_ms 3.46; {values}",
        f"trial 2 of 5: 0.9000 (stopped early); {values}",
        f"trial 3 of 5: failed: out of memory; {values}",
    ]
    assert counted == [1, 1, 1]
