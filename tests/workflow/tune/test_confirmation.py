"""Choice of the winner among repeated trials."""

from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tune_studies import study_of

from raykd.errors import InputError
from raykd.report.tune.page import render
from raykd.report.tune.trials import Trial
from raykd.storage.schemas import EXAMPLES
from raykd.workflow.tune.best import lines_of
from raykd.workflow.tune.choice.confirmation import (
    Confirmation,
    choose,
    half_width,
    standard_error,
)
from raykd.workflow.tune.choice.rows import split_rows
from raykd.workflow.tune.study_result import StudyResult

# Deviations of 0.01 over three seeds, in another order for each trial: a standard error of the
# difference of 0.01 for two trials per seed, and at most 0.00816 for two that vary like the best.
NOISE = (-0.01, 0.0, 0.01)


def trial(number: int, parameters: int | None = 100, seconds: float = 10.0) -> Trial:
    values = {"student.width": number}
    return Trial(number, values, 2, 0.9, True, num_parameters=parameters, seconds=seconds)


def around(mean: float, number: int = 0) -> list[float]:
    return [mean + NOISE[(seed + number) % 3] for seed in range(3)]


def order(trials: list[Trial], means: list[float]) -> list[int]:
    scores = {one.number: around(mean, one.number) for one, mean in zip(trials, means, strict=True)}
    return [one.number for one in choose(trials, scores)]


def test_the_interval_is_that_of_student_with_the_own_deviation_of_each_trial():
    # t(0.975, 2) = 4.302653; deviations 0.01 and 0.02, three scores.
    assert half_width([0.49, 0.5, 0.51]) == pytest.approx(4.302653 * 0.01 / 3**0.5)
    scores = {0: [0.5, 0.49, 0.51], 1: [0.4, 0.38, 0.42]}
    first, second = choose([trial(0), trial(1)], scores)
    assert first.high - first.mean == pytest.approx(4.302653 * 0.01 / 3**0.5)
    assert second.mean - second.low == pytest.approx(4.302653 * 0.02 / 3**0.5)


def test_the_interval_ends_at_the_highest_score_there_is():
    [one] = choose([trial(0)], {0: [1.0, 0.98]})
    assert one.low == pytest.approx(0.99 - 12.706205 * 0.01)
    assert one.high == 1.0


def test_the_standard_error_is_that_of_the_differences_per_seed():
    # Differences 0.01, 0.02, 0.03: deviation 0.01. The trials themselves vary by 0.1.
    best, other = [0.9, 0.8, 0.7], [0.89, 0.78, 0.67]
    assert standard_error(best, other) == pytest.approx(0.01 / 3**0.5)


def test_the_standard_error_of_an_unstable_trial_is_that_of_two_like_the_best():
    assert standard_error([0.79, 0.8, 0.81], [0.8, 0.51, 0.8]) == pytest.approx((2e-4 / 3) ** 0.5)


def test_a_failed_seed_of_one_trial_ties_no_other():
    trials = [trial(0), trial(1), trial(2), trial(3, 50)]
    scores = {
        0: [0.800, 0.802, 0.801],
        1: [0.791, 0.793, 0.792],
        2: [0.800, 0.510, 0.800],
        3: [0.740, 0.741, 0.742],
    }
    repeated = choose(trials, scores)
    assert [one.number for one in repeated] == [0, 1, 3, 2]
    assert [one.number for one in repeated if one.is_tied] == [0]


def test_a_failed_seed_does_not_tie_its_own_trial():
    # The difference of the means, 0.0967, is below the standard error of those per seed, 0.0977.
    scores = {0: [0.800, 0.802, 0.801], 1: [0.803, 0.510, 0.800]}
    assert [one.number for one in choose([trial(0, 100), trial(1, 50)], scores)] == [0, 1]


def test_the_highest_mean_wins_beyond_the_noise():
    trials = [trial(0, 900), trial(1, 100)]
    assert order(trials, [0.8, 0.79]) == [0, 1]
    assert order(trials, [0.79, 0.8]) == [1, 0]


def test_within_the_noise_the_smaller_student_wins():
    trials = [trial(0, 900), trial(1, 100), trial(2, 50)]
    assert order(trials, [0.8, 0.795, 0.7]) == [1, 0, 2]


def test_of_equally_large_tied_students_the_one_trained_clearly_shorter_wins():
    trials = [trial(0, seconds=30.0), trial(1, seconds=10.0)]
    assert order(trials, [0.8, 0.795]) == [1, 0]
    trials = [trial(0, seconds=10.5), trial(1, seconds=10.0)]
    assert order(trials, [0.8, 0.795]) == [0, 1]


def test_equal_scores_without_any_noise_are_a_tie():
    trials = [trial(0, 900), trial(1, 100)]
    scores = {0: [0.8, 0.8], 1: [0.8, 0.8]}
    assert [one.number for one in choose(trials, scores)] == [1, 0]
    assert all(one.is_tied for one in choose(trials, scores))


def test_a_student_of_unknown_size_is_the_largest():
    trials = [trial(0, None), trial(1, 10**9)]
    assert order(trials, [0.8, 0.8]) == [1, 0]


def confirmation(held_out: list[float]) -> Confirmation:
    trials = [trial(0, 900), trial(1, 100)]
    scores = {0: around(0.8), 1: around(0.795, 1)}
    repeated = choose(trials, scores)
    return Confirmation(
        winner=1,
        seeds=[2, 3, 4],
        repeated=repeated,
        seed_bias=0.9 - 0.795,
        held_out_scores=held_out,
        row_bias=0.795 - 0.775 if held_out else None,
    )


def test_the_outcome_states_intervals_ties_and_both_parts_of_the_bias():
    values = asdict(confirmation([0.77, 0.775, 0.78]))
    trials = [trial(0, 900), trial(1, 100)]
    text = "\n".join(lines_of(StudyResult("f1", "dev", 1, trials, confirmation=values), "b.yaml"))
    assert "winner: 0.9000  trial 1," in text
    assert "  trial 1  0.7950 [0.7702, 0.8198]  0.9000  winner" in text
    assert "  trial 0  0.8000 [0.7752, 0.8248]  0.9000  tied" in text
    assert "2 of 2 are tied: within one standard error of the difference, seed by seed, of" in text
    assert "on the same rows is +0.1050: the part of the search score that was its seed" in text
    assert "its mean is 0.7750, which is -0.0200 from that on the search rows" in text


def test_without_held_out_rows_the_bias_of_the_rows_is_not_measured():
    values = asdict(confirmation([]))
    trials = [trial(0, 900), trial(1, 100)]
    text = "\n".join(lines_of(StudyResult("f1", "dev", 1, trials, confirmation=values), "b.yaml"))
    assert "could not be measured: no rows were held out (tune.confirm.held_out)" in text
    study = replace(study_of(trials, edits={}), confirmation=values)
    page = render(study, "1")
    assert "<strong>Trial 1</strong> is the best: <strong>0.9000</strong>" in page
    assert "confirmed with new seeds" in page
    assert "could not be measured" in page


def examples(path, sentences: list[str]) -> None:
    rows = [
        {"row_id": number, "sentence1": text, "sentence2": None, "label": 0.0}
        for number, text in enumerate(sentences)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), path)


def test_held_out_rows_are_a_stated_share_and_equal_sentences_stay_together(tmp_path):
    path = tmp_path / "dev.parquet"
    examples(path, [f"sentence {number // 2}" for number in range(2000)])
    split_rows(path, 0.25, tmp_path / "rows")
    parts = [
        pq.read_table(tmp_path / "rows" / f"{name}.parquet")["sentence1"].to_pylist()
        for name in ("search", "held_out")
    ]
    assert len(parts[0]) + len(parts[1]) == 2000
    assert 430 < len(parts[1]) < 570
    assert not set(parts[0]) & set(parts[1])


def test_a_share_that_leaves_no_row_is_refused(tmp_path):
    path = tmp_path / "dev.parquet"
    examples(path, ["one", "two"])
    with pytest.raises(InputError, match=r"held_out 1e-06: takes 0 of 2 validation rows"):
        split_rows(path, 1e-6, tmp_path / "rows")
