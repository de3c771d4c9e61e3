"""Random replacement of words by their candidates (TaskDA)."""

import pytest

from raykd.augment.task_da import (
    NUM_ROUNDS,
    TaskDaConfig,
    augmented_pairs,
    replaceable_words,
    variants,
)
from raykd.errors import InputError


def config(**values: object) -> TaskDaConfig:
    return TaskDaConfig(model="m", **values)


def drawn(text: str, candidates: dict[str, list[str]], row_id: int = 0, **values) -> list[str]:
    spans = [(text.index(word), text.index(word) + len(word)) for word in candidates]
    candidates_of_text = list(zip(spans, candidates.values(), strict=True))
    return variants(text, candidates_of_text, config(**values), row_id=row_id, sentence=0)


def test_only_alphabetic_words_other_than_stop_words_are_replaceable():
    text = "The Film wasn't a 2nd-rate x86 café, über_bad!"
    texts = [text[start:stop] for start, stop in replaceable_words(text)]
    assert texts == ["Film", "rate", "bad"]


def test_spans_count_characters_not_bytes():
    text = "電影 “film” 😀 plot"
    assert replaceable_words(text) == [(4, 8), (12, 16)]


def test_white_space_case_and_punctuation_around_a_replaced_word_are_kept():
    text = "The  Film,\twas `Good`!"
    texts = drawn(text, {"Film": ["movie"], "Good": ["great"]}, replace_probability=1.0)
    assert texts == [text, "The  movie,\twas `great`!"]


def test_a_round_that_yields_a_duplicate_is_not_repeated():
    # One word with two candidates, one of them itself: one new sentence in any number of rounds.
    texts = drawn("film", {"film": ["film", "movie"]}, replace_probability=1.0, num_rounds=30)
    assert texts == ["film", "movie"]
    # With p = 1, three rounds give at most three new sentences, and here exactly three.
    many = [f"w{number}" for number in range(10_000)]
    assert len(drawn("film", {"film": many}, replace_probability=1.0, num_rounds=3)) == 4


def test_a_sentence_without_replaceable_words_has_no_variants():
    assert drawn("The 1!", {}) == ["The 1!"]
    assert drawn("the film", {"film": ["film"]}) == ["the film"]


def test_a_word_is_replaced_with_the_set_probability_by_equally_likely_candidates():
    # 2,000 rows with one round: 2,000 trials of p = 0.4 (standard deviation 0.011), of which about
    # 800 are shared by four candidates (0.015).
    counts = dict.fromkeys(["film", "book", "plot", "novel", "story"], 0)
    for row_id in range(2_000):
        texts = drawn("film", {"film": list(counts)[1:]}, row_id=row_id, num_rounds=1)
        counts[texts[-1]] += 1
    num_replaced = 2_000 - counts.pop("film")
    assert num_replaced / 2_000 == pytest.approx(0.4, abs=0.045)
    assert [count / num_replaced for count in counts.values()] == pytest.approx(
        [0.25] * 4, abs=0.06
    )


def test_words_are_replaced_independently():
    # Both words are replaced with probability 0.16, neither with 0.36.
    both = neither = 0
    for row_id in range(2_000):
        candidates = {"film": ["movie"], "good": ["great"]}
        last = drawn("film good", candidates, row_id=row_id, num_rounds=1)[-1]
        both += last == "movie great"
        neither += last == "film good"
    assert both / 2_000 == pytest.approx(0.16, abs=0.035)
    assert neither / 2_000 == pytest.approx(0.36, abs=0.045)


def test_draws_depend_only_on_seed_row_and_sentence():
    candidates = [((0, 4), [f"w{number}" for number in range(50)])]

    def draw(seed: int, row_id: int, sentence: int) -> list[str]:
        return variants("film", candidates, config(seed=seed), row_id=row_id, sentence=sentence)

    first = draw(1, 2, 0)
    assert draw(1, 2, 0) == first
    assert all(other != first for other in (draw(2, 2, 0), draw(1, 3, 0), draw(1, 2, 1)))


def test_variants_of_one_sentence_are_paired_with_the_other_original_sentence():
    made = list(augmented_pairs(["a", "a1", "a2"], ["b", "b1"], compat=False))
    assert made == [("a", "b"), ("a1", "b"), ("a2", "b"), ("a", "b1")]
    assert list(augmented_pairs(["a", "a1"], None, compat=False)) == [("a", None), ("a1", None)]


def test_compat_pairs_the_second_sentence_with_the_last_variant_of_the_first():
    made = list(augmented_pairs(["a", "a1", "a2"], ["b", "b1"], compat=True))
    assert made == [("a", "b"), ("a1", "b"), ("a2", "b"), ("a2", "b"), ("a2", "b1")]
    # A pair without variants occurs twice.
    assert list(augmented_pairs(["a"], ["b"], compat=True)) == [("a", "b"), ("a", "b")]


def test_numbers_of_rounds_equal_those_of_the_authors_code():
    small = dict.fromkeys(("cola", "mrpc", "rte", "stsb"), 30)
    assert {**small, "sst2": 20, "qnli": 20, "mnli": 10, "qqp": 10} == NUM_ROUNDS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_rounds": 0}, "num_rounds"),
        ({"num_rounds": 10_000}, "num_rounds"),
        ({"num_candidates": 0}, "num_candidates"),
        ({"replace_probability": 0.0}, "replace_probability"),
        ({"replace_probability": 1.1}, "replace_probability"),
        ({"seed": -1}, "seed"),
        ({"embeddings": "f", "embeddings_model": "m"}, "not both"),
        ({"num_round": 3}, "did you mean 'num_rounds'"),
    ],
)
def test_settings_out_of_bounds_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        TaskDaConfig.parse({"model": "m", **values}, "test")
