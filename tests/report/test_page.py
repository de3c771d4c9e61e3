import json
import re

import pytest
from pydantic import ValidationError
from report_pages import ATTACK, Page, results

from raykd.report.page import render
from raykd.report.results import (
    GeneratorFacts,
    Results,
)
from raykd.training.masked_lm_head.report import HeadReport, MaskedExample


@pytest.fixture(scope="module")
def page():
    return Page(render(results()))


@pytest.fixture(scope="module")
def attacked():
    return render(results(name=ATTACK))


def test_every_variant_has_its_mean_its_spread_and_its_seeds(page):
    assert "Student alone - 31.5 ± 0.7 - \u221210.0 ± 0.0 higher in 0 of 2 2" in page.text
    assert "Teacher - 60.0 - - -" in page.text
    assert "Majority class - 10.0 - - -" in page.text


def test_the_first_sentence_states_the_effect_of_the_contextualized_corpus(page):
    assert "the student reaches 46.5 ± 0.7 accuracy on 1,000 dev rows: " in page.text
    assert "+5.0 ± 0.0 against distilling on random text (higher in 2 of 2 seeds)" in page.text
    assert "+15.0 ± 0.0 against training the student alone" in page.text
    assert "The teacher reaches 60.0." in page.text


def test_three_seeds_and_more_show_their_median():
    text = Page(render(results(seeds=(1, 2, 3)))).text
    assert "Student alone - 32.0 ± 1.0 median 32.0" in text


def test_selection_of_the_best_step_on_the_reported_rows_is_stated():
    given = results()
    kept = given.adaptation.model_copy(update={"keeps_best": True})
    text = Page(render(given.model_copy(update={"adaptation": kept}))).text
    assert "kept at the step with the best score on the same rows" in text
    assert "on the same rows" not in Page(render(given)).text


def test_the_page_says_which_split_is_reported(page):
    assert "Scores are of the dev split, because there is no test split with labels." in page.text
    assert "Scores are of the test split" in Page(render(results(report_split="test"))).text


def test_a_single_seed_is_stated():
    text = Page(render(results(seeds=(1,)))).text
    assert "Students were trained with one seed, so the variation over seeds is unknown." in text
    assert "±" not in text.partition("Student initialized at random")[2].partition("Corpus")[0]


def test_before_adaptation_is_not_applicable_without_a_trained_classifier():
    text = Page(render(results(trains_classifier=False))).text
    assert "Distilled on random text not applicable 41.5 ± 0.7" in text
    assert "minilmv2 does not train the classifier" in text


def test_the_corpus_card_compares_both_corpora(page):
    assert "Queries 440 -" in page.text
    assert "Queries without RAKE keywords (full sentence used) 17 -" in page.text
    assert "Target: units 3,000 3,000" in page.text
    assert "Target: bytes" not in page.text
    assert "-gram with an" not in page.text


def test_rows_per_class_are_a_table_and_not_a_sentence():
    values = results().model_dump()
    values["task"]["class_counts"] = {"train": [46, 1034], "dev": [22, 18], "test": []}
    text = Page(render(Results.model_validate(values))).text
    assert "class train dev test a 46 22 - b 1,034 18 -" in text
    assert "Rows per class:" not in text


def test_the_standard_error_is_that_of_an_accuracy_of_the_page(page):
    # The contextualized student: 46.5 on 1,000 rows.
    assert "An accuracy of 46.5 has a standard error of 1.6 points" in page.text


def test_a_random_corpus_has_no_retrieved_units(page):
    retrieved = page.text.partition("Distinct units retrieved ")[2]
    assert re.match(r"[\d,]+ - ", retrieved)


def test_the_texts_are_compared_with_the_general_corpus_and_the_task(page):
    assert (
        "contextualized random general corpus task\N{RIGHT SINGLE QUOTATION MARK}s sentences"
        in page.text
    )
    assert "Units 3,000 3,000 325,302 440" in page.text
    assert "Bytes per unit 104.1 104.1 342.5 100.0" in page.text
    assert "Distinct-1, on 20,000 words 0.250 0.250 0.250 0.250" in page.text
    shared = "Shared with the task: 5,000 most frequent words 0.500 0.500 0.375 1.000"
    assert shared in page.text
    assert "Shared with the general corpus: 5,000 most frequent words 0.625" in page.text
    content = "Shared with the task: 4,000 most frequent words without stop words 0.875"
    assert content in page.text


def test_a_limit_in_bytes_and_leaked_ngrams_are_shown_where_there_are_any():
    values = results().model_dump()
    changes = {"target_bytes": 500_000, "num_missing_bytes": 187_655, "leak_ngram": 13}
    values["corpora"][0]["card"] |= changes | {"max_units": None, "num_leaked_ngrams": 7}
    text = Page(render(Results.model_validate(values))).text
    assert "Target: bytes 500,000 -" in text
    assert "Bytes short of the target 187,655 0" in text
    assert "Removed: share a 13-gram with an evaluation sentence 7 0" in text


def test_the_page_reports_how_the_general_corpus_was_read():
    values = results().model_dump()
    losses = {"num_empty": 11, "num_dropped_documents": 12, "num_dropped_short": 13}
    losses |= {"num_quotes_removed": 14, "num_quotes_kept": 15}
    for corpus in values["corpora"]:
        corpus["card"] |= losses
    text = Page(render(Results.model_validate(values))).text
    assert "Empty documents of the general corpus 11 11" in text
    assert "Documents dropped (all units too short) 12 12" in text
    assert "Units dropped (too short) 13 13" in text
    assert "TSV files whose quotation marks enclose fields 14 14" in text
    assert "TSV files whose quotation marks are kept as text 15 15" in text


def test_values_from_unequal_samples_are_marked_as_not_comparable():
    values = results().model_dump()
    values["corpora"][1]["card"]["text"]["num_words"] = 15_000
    text = Page(render(Results.model_validate(values))).text
    assert "Distinct-1, on 20,000 / 15,000 words (not comparable)" in text


def test_the_page_needs_nothing_from_outside(page):
    loading = [
        (tag, name)
        for tag, attributes in page.tags
        for name in ("src", "srcset", "data", "action")
        if name in attributes
    ]
    assert loading == []
    assert not any(tag in ("link", "iframe", "object", "embed", "base") for tag, _ in page.tags)
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert links == {"results.json"}


def test_the_page_contains_plotly_once(page):
    assert len(page.scripts) == 3
    assert sum("plotly.js v" in script[:500] for script in page.scripts) == 1


def test_texts_and_names_are_never_markup(attacked):
    tree = Page(attacked)
    assert not any(tag == "img" for tag, _ in tree.tags)
    assert sum(tag == "script" for tag, _ in tree.tags) == 3
    assert "<script>alert(1)" in tree.text
    assert "<script>alert" not in attacked
    assert ATTACK not in attacked


def test_names_in_charts_are_no_markup_of_plotly_either(attacked):
    figures = json.loads(Page(attacked).scripts[0])
    name = figures["curve-0"]["data"][0]["name"]
    assert "<" not in name
    assert name.startswith("&lt;/script&gt;")


def test_only_the_two_scripts_of_the_page_may_run(attacked):
    from base64 import b64encode
    from hashlib import sha256

    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', attacked).group(1)
    allowed = set(re.findall(r"sha256-([^' &]*)", policy))
    scripts = Page(attacked).scripts[1:]
    assert {b64encode(sha256(script.encode()).digest()).decode() for script in scripts} == allowed
    assert "script-src 'sha256-" in policy.replace("&#39;", "'")
    assert "default-src 'none'" in policy


def test_equal_results_give_an_equal_page():
    assert render(results()) == render(results())


def test_the_content_of_results_json_gives_the_same_page():
    page = render(Results.model_validate_json(results().model_dump_json()))
    assert page == render(results())
    assert page.startswith("<!doctype html>")


def test_results_with_values_that_are_not_numbers_are_refused():
    values = results().model_dump()
    values["scores"][0]["metrics"]["accuracy"] = float("nan")
    with pytest.raises(ValidationError, match="finite"):
        Results.model_validate(values)


def test_a_run_without_corpora_curves_or_contextualized_students_has_a_page():
    values = results().model_dump()
    values |= {"corpora": [], "curves": [], "models": [], "injection": None, "adaptation": None}
    values["scores"] = [s for s in values["scores"] if s["variant"] in ("teacher", "alone")]
    text = Page(render(Results.model_validate(values))).text
    assert "Student alone" in text
    assert "Corpus card" not in text
    assert "Learning curves" not in text


def test_the_head_that_was_trained_for_a_generator_is_shown_with_its_baselines_and_examples():
    head = HeadReport(
        model="m", text="units", num_steps=500, num_rows=8000, num_held_out_rows=300,
        num_masked=1835, num_parameters=179_130, perplexity=1124.24, accuracy=0.0719,
        untrained_perplexity=49_263.4, untrained_accuracy=0.001, unigram_perplexity=1323.28,
        unigram_accuracy=0.0681, most_frequent="the",
        examples=[
            MaskedExample(text=f"a [MASK] {ATTACK}", word="film", predictions=["book", "x<y"])
        ],
    )  # fmt: skip
    generators = [
        GeneratorFacts(phase="adaptation", model="encoder", head=head),
        GeneratorFacts(phase="injection", model=ATTACK, head=None),
    ]
    page = render(results().model_copy(update={"generators": generators}))

    for figure in ("1,124.2", "7.2 %", "1,323.3", "6.8 %", "49,263.4", "0.1 %", "179,130"):
        assert figure in page
    assert "always “the”" in page
    assert "book, x&lt;y" in page
    assert "s checkpoint.</p>" in page
    assert ATTACK not in page
    assert "<h2>Generators</h2>" not in render(results())
