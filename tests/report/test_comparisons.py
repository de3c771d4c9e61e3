import pytest

from raykd.evaluation.differences import ScoreDifference
from raykd.report.comparisons import comparison_note, comparison_table
from raykd.report.notes import notes_on
from raykd.report.page import render
from raykd.report.results import Results, TaskFacts


def difference(variant, other, values, *, init="random", other_init="random", **changes):
    value, low, high = values
    facts = {
        "variant": variant,
        "init": init,
        "other": other,
        "other_init": other_init,
        "metric": "accuracy",
        "difference": value,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "num_seeds": 3,
        "num_other_seeds": 3,
        "is_paired": True,
        "num_rows": 1000,
        "num_resamples": 2000,
    }
    return ScoreDifference.model_validate(facts | changes)


def results(*differences):
    return Results(
        run="mine",
        recipe="",
        versions={},
        digests={},
        task=TaskFacts(
            name="mine",
            labels=["a", "b"],
            regression=False,
            metrics=["accuracy", "f1"],
            num_rows={"dev": 1000},
            report_split="dev",
            sources={},
        ),
        corpora=[],
        injection=None,
        adaptation=None,
        scores=[],
        curves=[],
        curve_split="dev",
        times_s={},
        models=[],
        differences=differences,
    )


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ((0.033, 0.009, 0.056), ("+3.3", "+0.9 to +5.6", "better by 3.3")),
        ((-0.033, -0.056, -0.009), ("\u22123.3", "\u22125.6 to \u22120.9", "worse by 3.3")),
        ((0.0004, 0.0001, 0.0007), ("0.0", "0.0 to +0.1", "better by less than 0.1")),
        ((0.01, -0.002, 0.024), ("+1.0", "\u22120.2 to +2.4", "no difference seen")),
        ((0.01, 0.0, 0.02), ("+1.0", "0.0 to +2.0", "no difference seen")),
        ((0.0, 0.0, 0.0), ("0.0", "0.0 to 0.0", "no difference seen")),
    ],
)
def test_a_difference_is_seen_only_if_the_interval_excludes_0(values, cells):
    [(title, [line])] = comparison_table(results(difference("random", "alone", values)))
    assert title == ""
    assert line == ("Distilled on random text", "Student alone", *cells)


def test_lines_are_of_the_main_metric_and_grouped_by_init():
    found = results(
        difference("random", "alone", (0.1, 0.05, 0.15)),
        difference("random", "alone", (0.2, 0.1, 0.3), metric="f1"),
        difference("random", "alone", (0.1, 0.05, 0.15), init="top", other_init="top"),
        difference("random", "majority", (0.1, 0.05, 0.15), init="top", other_init=None),
    )
    groups = comparison_table(found)
    assert [(title, len(lines)) for title, lines in groups] == [
        ("initialized at random", 1),
        ("from the last layers", 2),
    ]
    assert groups[1][1][1].other == "Majority class"


def test_the_note_states_what_the_interval_covers():
    note = comparison_note(results(difference("random", "alone", (0.1, 0.05, 0.15))))
    assert "2,000 resamples of the 1,000 rows of the dev split (the same for both models)" in note
    assert "and on how 3 seeds vary (as pairs" in note
    assert "does not cover another teacher" in note
    assert "about one shows a difference by chance" in note
    assert "highest score" not in note
    alone = difference("random", "majority", (0.1, 0.05, 0.15), other_init=None, num_seeds=1)
    note = comparison_note(results(alone))
    assert "seeds vary" not in note
    assert "by chance" not in note
    assert "With one seed, the variation over seeds is unknown" in note
    assert "the one with the highest score on the same rows" in note


def test_the_page_has_the_table_if_there_are_differences():
    page = render(results(difference("random", "alone", (0.033, 0.009, 0.056))))
    assert "<h2>Comparisons</h2>" in page
    assert "better by 3.3" in page
    old = results().model_dump(mode="json")
    del old["differences"]
    assert "<h2>Comparisons</h2>" not in render(Results.model_validate(old))


@pytest.mark.parametrize(
    ("values", "is_noted"),
    [
        ((-0.033, -0.056, -0.009), True),
        ((-0.033, -0.076, 0.011), False),
        ((0.033, 0.009, 0.056), False),
    ],
)
def test_adaptation_that_is_seen_to_make_students_worse_is_noted_with_the_remedy(values, is_noted):
    found = results(difference("random", "random", values, other_is_injected=True))

    ((_, (line,)),) = comparison_table(found)
    assert line.title == "Distilled on random text"
    assert line.other == "Distilled on random text, before adaptation"
    notes = [note for note in notes_on(found) if "adaptation made the students worse" in note]
    assert bool(notes) == is_noted
    assert all("adapt: false" in note for note in notes)
