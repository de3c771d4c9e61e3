"""Evaluation sets on the page of a report."""

from report_pages import ATTACK, Page, results

from raykd.report.page import render
from raykd.report.results import Results


def with_sets(**changes):
    """Results with two sets, of which one has classes of its own."""
    values = results().model_dump() | changes
    hans = {
        "name": "hans",
        "source": "/data/hans.tsv",
        "labels": ["entailment", "non-entailment"],
        "label_map": {"entailment": "entailment", "a": "non-entailment", "b": "non-entailment"},
        "metrics": ["accuracy", "f1"],
        "num_rows": 30000,
        "content": "entailment 15,000 (50%), non-entailment 15,000 (50%)",
        "num_in_train": 2,
        "remarks": ["2 of 5 rows have the text of a training row"],
    }
    hard = hans | {"name": "hard", "num_rows": 80, "metrics": ["accuracy"], "label_map": {}}
    values["sets"] = [hans, hard | {"remarks": []}]
    for given in values["scores"]:
        seed = (given["seed"] or 0) / 100
        given["sets"] = {"hans": {"accuracy": 0.5 + seed, "f1": 0.25}, "hard": {"accuracy": 0.75}}
    return values


def test_evaluation_sets_are_columns_next_to_the_reported_split():
    text = Page(render(Results.model_validate(with_sets()))).text
    table = text.partition("Evaluation sets")[2]
    assert " 100 dev split accuracy hans accuracy hans F1 hard accuracy Majority class" in table
    assert "Teacher 60.0 51.0 25.0 75 " in table
    assert "Student alone 31.5 ± 0.7 51.5 ± 0.7 25.0 ± 0.0 75 ± 0 " in table
    assert "Training texts are cleaned of the sentences of dev and test, not of those of" in table
    assert (
        "hans 30,000 rows: entailment 15,000 (50%), non-entailment 15,000 (50%). The task's "
        "classes count as the set's: a and b as non-entailment. 2 of 5 rows have the text of a "
        "training row. /data/hans.tsv"
    ) in table
    assert "before" not in table.partition("Inference cost")[0].partition("Corpus card")[0]


def test_scores_on_sets_before_adaptation_are_below_the_final_ones():
    values = with_sets()
    injected = [dict(one) for one in values["scores"] if one["variant"] == "random"]
    for one in injected:
        one |= {"stage": "injected", "sets": {"hans": {"accuracy": 0.4, "f1": 0.1}}}
    values["scores"] += injected
    text = Page(render(Results.model_validate(values))).text
    table = text.partition("Evaluation sets")[2]
    assert "51.5 ± 0.7 before 40.0 ± 0.0 25.0 ± 0.0 before 10.0 ± 0.0 75 ± 0 Dist" in table
    assert "means before adaptation. Nothing is trained or chosen by these rows." in table


def test_results_of_versions_without_evaluation_sets_are_read_and_have_no_section():
    values = results().model_dump()
    for added in ("sets", "set_summaries"):
        del values[added]
    for given in values["scores"]:
        del given["sets"]
    old = Results.model_validate(values)
    assert old == results()
    assert "Evaluation sets" not in Page(render(old)).text


def test_names_and_files_of_sets_are_never_markup():
    values = with_sets()
    for one in values["sets"]:
        one |= {"source": ATTACK, "content": ATTACK}
    page = render(Results.model_validate(values))
    assert not any(tag == "img" for tag, _ in Page(page).tags)
    assert ATTACK not in page
