import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from raykd.evaluation.differences import Models, interval, write_differences
from raykd.evaluation.resampling import resampled_scores
from raykd.storage.locations import location_of
from raykd.storage.manifest import write_once
from raykd.storage.schemas import PREDICTIONS
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import read_task, write_task


def accuracy_interval(labels, first, second, num_resamples=2000):
    """Models without seeds."""
    labels, answers = np.array(labels, float), np.array([first, second], float)
    scores = (answers == labels).mean(axis=1)
    found = resampled_scores(labels, answers, ["accuracy"], num_resamples=num_resamples, seed=1)
    drawn = found["accuracy"]
    return interval(scores[:1], scores[1:], drawn[:, :1], drawn[:, 1:], is_paired=True)


def test_models_with_the_same_answers_have_no_difference_at_all():
    assert accuracy_interval([0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]) == (0.0, 0.0, 0.0)


def test_the_interval_of_two_accuracies_is_that_of_the_normal_approximation():
    # Of 400 rows, 80 are right for the first model only, and 40 for the second only.
    first = [1] * 220 + [1] * 80 + [0] * 40 + [0] * 60
    second = [1] * 220 + [0] * 80 + [1] * 40 + [0] * 60
    found = accuracy_interval([1] * 400, first, second)
    half = 1.96 * math.sqrt(80 + 40 - (80 - 40) ** 2 / 400) / 400
    assert found.difference == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.005)


def test_seeds_are_compared_as_pairs():
    # Rows change nothing: two seeds with differences of 0.1 and 0.3, whose mean has a variance of
    # 0.02 / 2; Student's t of one degree of freedom is 12.706.
    own, other = np.tile([0.5, 0.9], (2000, 1)), np.tile([0.4, 0.6], (2000, 1))
    paired = interval([0.5, 0.9], [0.4, 0.6], own, other, is_paired=True)
    assert paired == pytest.approx((0.2, 0.2 - 1.2706, 0.2 + 1.2706), abs=1e-3)
    # Variances of 0.08 / 2 and 0.02 / 2, so 0.05**2 / (0.04**2 + 0.01**2) = 1.47 degrees.
    unpaired = interval([0.5, 0.9], [0.4, 0.6], own, other, is_paired=False)
    half = stats.t.ppf(0.975, 1.4706) * math.sqrt(0.05)
    assert unpaired == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-3)


def test_a_model_without_seeds_is_compared_with_all_of_them():
    own, other = np.tile([0.5, 0.9], (2000, 1)), np.full((2000, 1), 0.6)
    found = interval([0.5, 0.9], [0.6], own, other, is_paired=False, limit=1.0)
    assert found == pytest.approx((0.1, -1.0, 1.0))


def test_rows_and_seeds_add_their_variances():
    random = np.random.default_rng(3)
    on_rows = random.normal(0.0, 0.02, (20_000, 1)) + np.array([0.1, 0.2, 0.3])
    found = interval([0.1, 0.2, 0.3], [0.0] * 3, on_rows, np.zeros((20_000, 3)), is_paired=True)
    # Of rows 0.0004, of seeds 0.01 / 3; degrees of freedom 2 * 0.003733**2 / 0.003333**2 = 2.51.
    half = stats.t.ppf(0.975, 2.5088) * math.sqrt(0.0004 + 0.01 / 3)
    assert found == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=2e-3)


def test_resamples_that_are_all_below_the_score_do_not_move_the_interval():
    on_rows = np.random.default_rng(5).normal(0.6, 0.01, (20_000, 1))
    found = interval([0.7], [0.0], on_rows, np.zeros((20_000, 1)), is_paired=True)
    assert found == pytest.approx((0.7, 0.7 - 0.0196, 0.7 + 0.0196), abs=1e-3)


@pytest.mark.parametrize(
    ("num_seeds", "deviation"), [(2, 0.01), (3, 0.0), (3, 0.017), (3, 0.09), (5, 0.034)]
)
def test_equally_good_models_differ_by_chance_in_about_one_of_20(num_seeds, deviation):
    random = np.random.default_rng(17)
    num_seen, num_trials = 0, 1000
    for _ in range(num_trials):
        gaps = random.normal(0.0, deviation, num_seeds) + random.normal(0.0, 0.012)
        on_rows = gaps + random.normal(0.0, 0.012, (200, 1))
        found = interval(gaps, [0.0] * num_seeds, on_rows, np.zeros_like(on_rows), is_paired=True)
        num_seen += not found.low <= 0 <= found.high
    # Exact for no variation or for many seeds; percentiles of drawn seeds have up to 0.3.
    assert 0.03 <= num_seen / num_trials <= 0.09


def test_the_interval_covers_the_true_difference_in_about_95_of_100_samples():
    random = np.random.default_rng(11)
    covered = 0
    for _ in range(300):
        # The first model is right with probability 0.7, the second with 0.6: differs by 0.1.
        is_right = random.uniform(size=(2, 150)) < [[0.7], [0.6]]
        found = accuracy_interval([1] * 150, *is_right.astype(float), num_resamples=400)
        covered += found.low <= 0.1 <= found.high
    # Four standard deviations of a binomial draw (300, 0.95) are 15.
    assert 285 - 15 <= covered <= 300


@pytest.fixture
def task_folder(tmp_path):
    for split, labels in (("train", "aaab"), ("dev", "aabb" * 25)):
        rows = [{"text": f"{split} {n}", "label": label} for n, label in enumerate(labels)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TaskConfig(
        name="task", train="train.jsonl", dev="dev.jsonl", sentence_columns=("text",)
    ).model_copy(update={split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev")})
    write_task(config, location_of, tmp_path / "task")
    return tmp_path / "task"


def write_predictions(out, task_folder, answers):
    reported = read_task(task_folder).reported

    def write(draft):
        columns = [
            reported["row_id"],
            reported["label"],
            pa.array(answers, pa.float64()),
            pa.array([[0.0, 0.0]] * len(answers), PREDICTIONS.field("logits").type),
        ]
        pq.write_table(pa.table(columns, PREDICTIONS), draft.directory / "predictions.parquet")

    write_once(out, "evaluate", {}, {"answers": str(answers)}, write)
    return out


def test_differences_are_computed_from_predictions_and_written_once(tmp_path, task_folder):
    right = [0, 0, 1, 1] * 25
    # The third row of four is wrong, and for the other seed also the last.
    seeds = {
        1: write_predictions(tmp_path / "one", task_folder, [0, 0, 0, 1] * 25),
        2: write_predictions(tmp_path / "two", task_folder, [0, 0, 0, 0] * 25),
    }
    good = {seed: write_predictions(tmp_path / "good", task_folder, right) for seed in (1, 2)}
    student, best = Models("alone", "random", seeds), Models("task", "random", good)
    constant = Models("majority", None, {})
    pairs = [(best, student), (student, constant), (best, best), (best, constant)]
    found = write_differences(pairs, task_folder, tmp_path / "out")
    assert [(one.variant, one.other, one.metric) for one in found] == [
        ("task", "alone", "accuracy"),
        ("alone", "majority", "accuracy"),
        ("task", "task", "accuracy"),
        ("task", "majority", "accuracy"),
    ]
    # Accuracies: 0.75 and 0.5 against 1, and against 0.5 of the constant "a".
    assert [one.difference for one in found] == pytest.approx([0.375, 0.125, 0.0, 0.5])
    # Two seeds that differ as much as this show nothing.
    assert [one.is_seen for one in found] == [False, False, False, True]
    assert (found[0].low, found[0].high) == pytest.approx((-0.7, 1.0), abs=0.05)
    assert 0.35 < found[3].low < 0.45 < 0.55 < found[3].high < 0.65
    assert (found[2].low, found[2].high) == (0.0, 0.0)
    assert [(one.num_seeds, one.num_other_seeds, one.is_paired) for one in found] == [
        (2, 2, True),
        (2, 1, False),
        (2, 2, True),
        (2, 1, False),
    ]
    assert (found[0].num_rows, found[0].num_resamples) == (100, 2000)
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    assert write_differences(pairs, task_folder, tmp_path / "out") == found
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    write_predictions(tmp_path / "two", task_folder, [0, 0, 0, 1] * 25)
    changed = write_differences(pairs, task_folder, tmp_path / "out")
    assert changed[0].difference == pytest.approx(0.25)


def test_a_constant_answer_is_that_of_its_own_training_rows(tmp_path, task_folder):
    rows = [{"text": f"train {n}", "label": label} for n, label in enumerate("abbb")]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TaskConfig(
        name="task",
        train=str(tmp_path / "other.jsonl"),
        dev=str(tmp_path / "dev.jsonl"),
        sentence_columns=("text",),
    )
    write_task(config, location_of, tmp_path / "other")
    right = Models(
        "right", None, {1: write_predictions(tmp_path / "p", task_folder, [0, 0, 1, 1] * 25)}
    )
    always_a, always_b = Models("a", None, {}), Models("b", None, {}, tmp_path / "other")
    found = write_differences(
        [(always_a, always_b), (right, always_b)], task_folder, tmp_path / "d"
    )
    # Half of the rows each, and never the same.
    assert [one.difference for one in found] == pytest.approx([0.0, 0.5])
    assert found[0].high > 0.1
