"""The student's confidence on the page and in its card."""

import pytest
from report_pages import ATTACK, Page, results

from raykd.evaluation.calibration.calibrate import CalibrationFacts, Measured, Target
from raykd.evaluation.calibration.quality import Bin, Quality
from raykd.report.model_card import write_card
from raykd.report.page import render
from raykd.report.results import ModelFacts, Results

DEV = Measured(
    split="dev",
    num_rows=400,
    before=Quality(ece=0.1234, nll=0.75, brier=0.41),
    after=Quality(ece=0.0312, nll=0.5, brier=0.4),
    perfect_ece=0.021,
    bins_before=[Bin(probability=0.9, share_right=0.7, num_rows=400)],
    bins_after=[Bin(probability=0.75, share_right=0.7, num_rows=400)],
    error=0.3,
    aurc=0.1357,
    coverages=[0.5, 1.0],
    errors=[0.1, 0.3],
    targets=[
        Target(
            wanted=0.9, threshold=0.71234, num_answered=200, num_right=178, low=0.838, high=0.93
        ),
        Target(wanted=0.95, threshold=0.99, num_answered=0, num_right=0, low=None, high=None),
        Target(wanted=0.99, threshold=None, num_answered=0, num_right=0, low=None, high=None),
    ],
)
FACTS = CalibrationFacts(
    variant="contextualized",
    init="random",
    seed=1,
    temperature=2.5,
    temperature_error=0.125,
    problem=None,
    num_rows=400,
    num_folds=5,
    measured=[DEV],
)


def with_calibration(facts, **changes):
    models = [
        ModelFacts(variant=name, init=init, seed=1, folder=name, num_parameters=1000)
        for name, init in (("teacher", None), ("contextualized", "random"))
    ]
    return results().model_copy(update={"calibration": facts, "models": models} | changes)


def section(given):
    text = Page(render(given)).text
    assert text.count("Confidence of the student") == 1
    return text.partition("Confidence of the student")[2].partition("Corpus card")[0]


def card(given):
    student = next(score for score in given.scores if score.variant == "contextualized")
    return write_card(given, student, "bert-base-uncased", "student")


def test_the_section_has_the_measures_before_and_after_and_the_thresholds():
    text = section(with_calibration(FACTS))
    assert "(contextualized, seed 1) gets less confident: its logits are divided by the" in text
    assert "temperature 2.50 ± 0.12 (standard error), which fits the 400 dev rows best" in text
    assert (
        "400 dev rows, in 5 folds 3.1 before 12.3 2.1 0.500 before 0.750 0.400 before 0.410 13.57"
    ) in text
    assert "90 % 0.7123 50 % 89.0 % 178 of 200 83.8 to 93.0 %" in text
    assert "95 % 0.9900 0 % - -" in text
    assert "99 % not reached - - -" in text
    assert "over 15 bins with equal numbers of rows (Roelofs et al. 2022)" in text
    assert "each of 5 folds of the dev rows has the temperature and the thresholds of the" in text
    assert "does not lower the NLL" not in text


def test_the_test_rows_are_lines_of_their_own():
    test = DEV.model_copy(update={"split": "test", "num_rows": 1000})
    text = section(with_calibration(FACTS.model_copy(update={"measured": [DEV, test]})))
    assert "1,000 test rows 3.1 before 12.3" in text
    assert "Reliability on the test rows" in text


def test_a_temperature_that_does_not_help_is_stated():
    worse = DEV.model_copy(update={"after": DEV.before})
    text = section(with_calibration(FACTS.model_copy(update={"measured": [worse]})))
    assert "the temperature does not lower the NLL: raykd predict --uncalibrated leaves it" in text


def test_selection_of_the_student_on_the_same_rows_is_stated():
    given = with_calibration(FACTS)
    kept = given.adaptation.model_copy(update={"keeps_best": True})
    text = section(given.model_copy(update={"adaptation": kept}))
    assert "measures and thresholds on them are somewhat too good" in text


def test_a_missing_estimate_and_too_few_rows_are_stated():
    update = {"temperature": 1.0, "temperature_error": None, "problem": "every row is right"}
    text = section(with_calibration(FACTS.model_copy(update=update)))
    assert "cannot be estimated on the 400 dev rows, since every row is right." in text
    assert "before 12.3" not in text
    few = FACTS.model_copy(update=update | {"problem": "7 dev rows are too few", "measured": []})
    text = section(with_calibration(few))
    assert (
        text.strip() == "The student in the folder student (contextualized, seed 1) is not "
        "calibrated: 7 dev rows are too few."
    )


def test_a_regression_has_nothing_to_calibrate_and_older_results_no_section():
    given = with_calibration(None)
    task = given.task.model_copy(update={"regression": True, "metrics": ["accuracy"]})
    text = section(given.model_copy(update={"task": task}))
    assert "scores and no classes: there are no probabilities to calibrate" in text
    values = with_calibration(None).model_dump()
    del values["calibration"]
    assert "Confidence of the student" not in Page(render(Results.model_validate(values))).text


def test_the_card_names_temperature_and_error():
    text = " ".join(card(with_calibration(FACTS)).split())
    assert (
        "softmax(logits / T) with the temperature T = 2.5, fitted on 400 dev rows: expected "
        "calibration error 12.3 % before, 3.1 % after (400 dev rows, in 5 folds)."
    ) in text
    update = {"temperature": 1.0, "temperature_error": None, "problem": "every row is right"}
    text = card(with_calibration(FACTS.model_copy(update=update)))
    assert "not calibrated (temperature 1: every row is right)" in text
    assert "calibrat" not in card(with_calibration(FACTS.model_copy(update={"seed": 2})))


def test_results_with_a_calibration_survive_their_json():
    given = with_calibration(FACTS)
    assert Results.model_validate_json(given.model_dump_json()) == given


@pytest.mark.parametrize("name", ["variant", "problem"])
def test_names_and_reasons_are_never_markup(name):
    page = render(with_calibration(FACTS.model_copy(update={name: ATTACK})))
    assert not any(tag == "img" for tag, _ in Page(page).tags)
    assert ATTACK not in page
