from raykd.evaluation.differences import Models
from raykd.report.results import Score
from raykd.workflow.comparisons import _best, _pairs


def pairs_of(*variants):
    models = {variant: Models(variant, "random", {}) for variant in variants}
    return [(own.variant, other.variant) for own, other in _pairs(models)]


def test_each_variant_is_compared_with_the_simplest_and_with_the_baseline_texts():
    assert pairs_of("alone", "random", "dsir", "contextualized") == [
        ("random", "alone"),
        ("dsir", "alone"),
        ("contextualized", "alone"),
        ("dsir", "random"),
        ("contextualized", "random"),
        ("contextualized", "dsir"),
    ]


def test_direct_is_simpler_than_alone():
    assert pairs_of("alone", "direct", "task") == [("alone", "direct"), ("task", "direct")]
    assert pairs_of("direct", "alone", "random") == [("alone", "direct"), ("random", "direct")]
    assert pairs_of("contextualized", "random") == [("contextualized", "random")]
    assert pairs_of("contextualized") == []


def test_variants_on_a_named_corpus_are_compared_on_that_corpus():
    assert pairs_of("random@web", "random@news", "contextualized@news", "alone") == [
        ("random@web", "alone"),
        ("random@news", "alone"),
        ("contextualized@news", "alone"),
        ("contextualized@news", "random@news"),
    ]


def test_the_best_student_has_the_highest_mean_over_seeds_after_adaptation():
    values = [
        ("alone", "top", "adapted", (0.5, 0.5)),
        ("task", "top", "adapted", (0.9, 0.3)),
        ("task", "skip", "adapted", (0.4, 0.7)),
        ("task", "skip", "injected", (1.0, 1.0)),
    ]
    scores = [
        Score(variant=variant, init=init, seed=seed, stage=stage, metrics={"accuracy": value})
        for variant, init, stage, both in values
        for seed, value in enumerate(both)
    ]
    scores.append(
        Score(variant="teacher", init=None, seed=None, stage="teacher", metrics={"accuracy": 1})
    )
    # The mean of task from top is 0.6, of task from skip 0.55.
    best = _best(scores, "accuracy")
    assert (best.variant, best.init) == ("task", "top")
