import pytest
from test_page import ATTACK, Page, results

from raykd.evaluation.cost import Cost
from raykd.report.costs import cost_note, cost_table, short, times
from raykd.report.model_card import write_card
from raykd.report.page import render
from raykd.report.results import ModelFacts, PhaseFacts, Results

SECTION = "Inference cost"


def cost(latency_ms, **changes):
    values = {
        "weights_bytes": 90_881_820,
        "flops_per_token": 21_450_205.0,
        "num_tokens": 22,
        "latency_ms": latency_ms,
        "rows_per_s_batch_1": 900 / latency_ms,
        "rows_per_s_batch_32": 800 / latency_ms,
        "device": "A processor",
        "num_threads": 1,
    }
    return Cost(**values | changes)


STUDENT_COST = cost(0.5, weights_bytes=8_237_484, flops_per_token=142_772.0)


def model(variant, found, *, init="random", seed=1, num_parameters=2_058_251):
    return ModelFacts(
        variant=variant,
        init=init,
        seed=seed,
        folder=variant,
        num_parameters=num_parameters,
        cost=found,
    )


TEACHER = model("teacher", cost(10.0), init=None, seed=None, num_parameters=22_717_451)
STUDENTS = [
    model(variant, STUDENT_COST, seed=seed)
    for variant in ("alone", "random", "contextualized")
    for seed in (1, 2)
]


def measured(*models):
    return results().model_copy(update={"models": list(models)})


def test_the_score_is_next_to_the_cost_and_its_ratio_to_the_teachers():
    (no_title, teacher), (title, students) = cost_table(measured(TEACHER, *STUDENTS))
    assert (no_title, title) == ("", "initialized at random")
    assert [(line["title"], line["score"]) for line in (*teacher, *students)] == [
        ("Teacher", "60.0"),
        ("Student alone", "31.5 ± 0.7"),
        ("Distilled on random text", "41.5 ± 0.7"),
        ("Distilled on the contextualized corpus", "46.5 ± 0.7"),
    ]
    assert teacher[0]["cells"] == [
        ("22.72 M", ""),
        ("90.9 MB", ""),
        ("21.5 M", ""),
        ("10 ms", ""),
        ("90", ""),
        ("80", ""),
    ]
    assert students[0]["cells"] == [
        ("2.06 M", "11 times smaller"),
        ("8.24 MB", "11 times smaller"),
        ("0.143 M", "150 times fewer"),
        ("0.5 ms", "20 times faster"),
        ("1,800", ""),
        ("1,600", "20 times faster"),
    ]


def test_a_student_larger_than_the_teacher_is_reported_as_larger():
    large = model("alone", cost(25.0), num_parameters=45_434_902)
    (_, _), (_, [line]) = cost_table(measured(TEACHER, large))
    assert line["cells"][0] == ("45.43 M", "2.0 times larger")
    assert line["cells"][3] == ("25 ms", "2.5 times slower")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.0, "1.0 times more"), (9.94, "9.9 times more"), (9.96, "10 times more")],
)
def test_ratios_have_two_digits(ratio, text):
    assert times(ratio, "more", "less") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1428, "0.143"), (1.0417, "1.04"), (48.47, "48.5"), (99.96, "100"), (3882.9, "3,883")],
)
def test_values_have_three_significant_digits_or_all_integer_digits(value, text):
    assert short(value) == text


def test_the_page_describes_the_measurement():
    text = Page(render(measured(TEACHER, *STUDENTS))).text
    assert SECTION in text
    assert "Measured on A processor, one thread, one model after the other, from token" in text
    assert "for a row of 22 tokens" in text
    assert "Teacher 60.0 22.72 M 90.9 MB 21.5 M 10 ms 90 80" in text


def test_other_threads_and_lengths_are_named():
    note = cost_note(measured(TEACHER, model("alone", cost(1.0, num_threads=4, num_tokens=30))))
    assert "A processor, 4 threads; A processor, one thread" in note
    assert "for a row of 22 or 30 tokens" in note


def test_there_is_no_section_without_measurements():
    assert SECTION not in Page(render(results())).text
    assert results().models[0].cost is None


def test_the_devices_name_is_never_markup():
    page = render(measured(TEACHER, model("alone", cost(1.0, device=ATTACK))))
    assert not any(tag == "img" for tag, _ in Page(page).tags)
    assert ATTACK not in page


def test_results_with_costs_survive_their_json():
    given = measured(TEACHER, *STUDENTS)
    assert Results.model_validate_json(given.model_dump_json()) == given


def test_the_students_card_compares_its_cost_with_the_teachers():
    given = measured(TEACHER, *STUDENTS)
    student = next(score for score in given.scores if score.variant == "contextualized")
    card = write_card(given, student, "bert-base-uncased", "student")
    assert "| parameters | 2,058,251 | 22,717,451 |" in card
    assert "| bytes of weights | 8,237,484 | 90,881,820 |" in card
    assert "| floating-point operations per token | 142,772 | 21,450,205 |" in card
    assert "| milliseconds per row | 0.5 | 10 |" in card
    assert "(On A processor, threads: 1, with 32 rows of the task" in card


def test_the_card_describes_the_student_in_words():
    given = measured(TEACHER, *STUDENTS)
    student = next(score for score in given.scores if score.variant == "contextualized")
    card = write_card(given, student, "bert-base-uncased", "student")
    assert "# quickstart: student `contextualized`, initialized at random, seed 1" in card
    assert "Scores (times 100) on the 1,000 rows of the dev split:" in card
    assert "| Majority class | 10.0 |" in card
    assert "[raykd]" not in card


def test_tables_of_the_card_have_as_many_rules_as_columns():
    given = measured(TEACHER, *STUDENTS)
    student = next(score for score in given.scores if score.variant == "contextualized")
    lines = write_card(given, student, "bert-base-uncased", "student").splitlines()
    for at, line in enumerate(lines):
        if line.startswith("|---"):
            assert line.count("|") == lines[at - 1].count("|") == lines[at + 1].count("|")


def test_a_card_without_costs_has_no_table_of_them():
    given = measured(TEACHER.model_copy(update={"cost": None}), *STUDENTS)
    student = next(score for score in given.scores if score.variant == "contextualized")
    assert "cost to run" not in write_card(given, student, "bert-base-uncased", "student")


def without_injected(given):
    kept = [score for score in given.scores if score.variant not in ("random", "contextualized")]
    return given.model_copy(update={"scores": kept})


def test_the_card_of_a_student_without_a_teacher_names_none():
    # The recipe's injection and adaptation are those of other students.
    given = measured(TEACHER, *STUDENTS)
    adaptation = PhaseFacts(objective="vanilla_kd", trains_classifier=True)
    given = given.model_copy(update={"adaptation": adaptation})
    alone = next(score for score in given.scores if score.variant == "alone")
    card = write_card(given, alone, "bert-base-uncased", "student")
    assert "trained with\nraykd 0.1.0 on labels, without a teacher." in card
    assert "bert-base-uncased" not in card
    assert "Injection: none. Adaptation: fine_tune." in card

    student = next(score for score in given.scores if score.variant == "contextualized")
    card = write_card(given, student, "bert-base-uncased", "student")
    assert "distilled with\nraykd 0.1.0 from the teacher `bert-base-uncased`." in card
    assert "Injection: minilmv2. Adaptation: vanilla_kd." in card


def test_a_page_without_injected_students_has_no_injection():
    text = Page(render(without_injected(results(trains_classifier=False)))).text
    assert "minilmv2" not in text
    assert "Injection minilmv2" in Page(render(results())).text


def test_the_teachers_size_is_not_that_of_baselines():
    tfidf = model("tfidf", cost(0.1), init=None, seed=None, num_parameters=4_000)
    text = Page(render(measured(tfidf, TEACHER, *STUDENTS))).text
    assert "Teacher 22.72 M parameters" in text
