from typing import get_args

import pytest

from raykd.models.student.init import Init
from raykd.report.charts import _INIT_TITLES
from raykd.report.notes import notes_on
from raykd.report.results import PhaseFacts, Results, Score, TaskFacts
from raykd.report.scores import INIT_TITLES, Numbers, Spread, reference_rows, student_rows


def score(variant, seed, value, stage="adapted", init="random"):
    return Score(variant=variant, init=init, seed=seed, stage=stage, metrics={"accuracy": value})


def results(*scores, trains_classifier=True, num_rows=1000):
    return Results(
        run="r",
        recipe="",
        versions={},
        digests={},
        task=TaskFacts(
            name="t",
            labels=["a", "b"],
            regression=False,
            metrics=["accuracy"],
            num_rows={"train": 10, "dev": num_rows},
            report_split="dev",
            sources={},
        ),
        corpora=[],
        injection=PhaseFacts(objective="kd", trains_classifier=trains_classifier),
        adaptation=None,
        scores=list(scores),
        curves=[],
        curve_split="dev",
        times_s={},
        models=[],
    )


def rows_of(found, init="random"):
    return {row.variant: row for row in student_rows(found, "accuracy")[init]}


def test_mean_and_sample_standard_deviation_over_seeds():
    rows = rows_of(results(*(score("alone", s, v) for s, v in ((1, 0.5), (2, 0.6), (3, 0.7)))))
    assert rows["alone"].after.mean == pytest.approx(60.0)
    assert rows["alone"].after.deviation == pytest.approx(10.0)
    assert rows["alone"].num_seeds == 3


def test_one_seed_has_no_deviation():
    assert rows_of(results(score("alone", 1, 0.5)))["alone"].after == Spread(50.0, None, 1, 50.0)


def test_scores_before_and_after_adaptation_are_separate():
    rows = rows_of(results(score("random", 1, 0.4, stage="injected"), score("random", 1, 0.5)))
    assert rows["random"].before.mean == pytest.approx(40.0)
    assert rows["random"].after.mean == pytest.approx(50.0)


@pytest.mark.parametrize("trains_classifier", [True, False])
def test_a_score_before_adaptation_needs_an_objective_that_trains_the_classifier(
    trains_classifier,
):
    found = results(score("random", 1, 0.5), trains_classifier=trains_classifier)
    assert rows_of(found)["random"].before_is_defined is trains_classifier


def test_the_student_alone_is_never_said_to_lack_a_score_before_adaptation():
    found = results(score("alone", 1, 0.5), trains_classifier=False)
    assert rows_of(found)["alone"].before_is_defined


def test_differences_are_taken_seed_by_seed():
    rows = rows_of(
        results(
            score("alone", 1, 0.10),
            score("alone", 2, 0.50),
            score("contextualized", 2, 0.53),
            score("contextualized", 1, 0.11),
        )
    )
    difference = rows["contextualized"].versus["alone"]
    assert difference.spread.mean == pytest.approx(2.0)
    # The gaps 1 and 3 vary by sqrt(2), though the scores themselves vary by 28 and more.
    assert difference.spread.deviation == pytest.approx(2**0.5)
    assert difference.num_higher == 2
    assert "alone" not in rows["alone"].versus


def test_variants_with_different_seeds_differ_by_their_means_without_a_spread():
    rows = rows_of(results(score("alone", 1, 0.4), score("random", 2, 0.5)))
    difference = rows["random"].versus["alone"]
    assert difference.spread.mean == pytest.approx(10.0)
    assert (difference.spread.deviation, difference.num_higher) == (None, None)


def test_students_are_compared_with_students_of_the_same_init():
    found = results(
        score("alone", 1, 0.4),
        score("random", 1, 0.5),
        score("alone", 1, 0.7, init="bottom"),
        score("random", 1, 0.6, init="bottom"),
    )
    assert rows_of(found)["random"].versus["alone"].spread.mean == pytest.approx(10.0)
    assert rows_of(found, "bottom")["random"].versus["alone"].num_higher == 0


def test_references_are_in_a_fixed_order_and_before_unknown_ones():
    found = results(
        score("teacher", 1, 0.9, stage="teacher", init=None),
        score("dictionary", None, 0.3, stage="baseline", init=None),
        score("majority", None, 0.1, stage="baseline", init=None),
    )
    rows = reference_rows(found, "accuracy")
    assert [row.variant for row in rows] == ["majority", "teacher", "dictionary"]
    assert [row.title for row in rows] == ["Majority class", "Teacher", "dictionary"]


@pytest.mark.parametrize(
    ("num_rows", "spread", "text"),
    [
        (1000, Spread(48.94, 0.55, 3, 48.94), "48.9 ± 0.6"),
        (1000, Spread(48.94, 0.01, 3, 48.94), "48.9 ± <0.1"),
        (1000, Spread(48.94, 0.0, 3, 48.94), "48.9 ± 0.0"),
        (1000, Spread(48.94, None, 1, 48.94), "48.9"),
        (199, Spread(48.94, 1.6, 3, 48.94), "49 ± 2"),
        (199, Spread(48.94, 0.3, 3, 48.94), "49 ± <1"),
        (1000, Spread(-0.01, None, 1, -0.01), "0.0"),
        (1000, Spread(-3.21, None, 1, -3.21), "\u22123.2"),
    ],
)
def test_digits_are_limited_by_the_number_of_rows(num_rows, spread, text):
    assert Numbers(num_rows).spread(spread) == text


@pytest.mark.parametrize(
    ("points", "text"), [(3.26, "+3.3"), (-3.26, "\u22123.3"), (0.04, "0.0"), (-0.04, "0.0")]
)
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(points, text):
    assert Numbers(1000).difference(Spread(points, None, 1, points)) == text


def test_standard_error_of_an_accuracy_by_hand():
    # sqrt(0.5 * 0.5 / 400) = 0.025
    assert Numbers(400).standard_error(50.0) == pytest.approx(2.5)


@pytest.mark.parametrize("titles", [INIT_TITLES, _INIT_TITLES], ids=["table", "charts"])
def test_every_init_has_a_title(titles):
    assert set(titles) == set(get_args(Init))


def test_a_student_with_one_answer_is_noted_with_the_remedy():
    stuck = score("direct", 2, 0.5).model_copy(update={"constant_answer": "b"})
    majority = Score(
        variant="majority",
        init=None,
        seed=None,
        stage="baseline",
        metrics={"accuracy": 0.5},
        constant_answer="b",
    )

    notes = notes_on(results(majority, score("direct", 1, 0.8), stuck))
    without = notes_on(results(majority, score("direct", 1, 0.8)))

    assert any("labels, seed 2" in note and note.startswith("Same answer, b") for note in notes)
    assert any("give more steps, or another learning rate" in note for note in notes)
    assert not any("give more steps" in note for note in without)
