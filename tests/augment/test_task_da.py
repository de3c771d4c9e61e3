"""What is drawn, and what becomes of it."""

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
    of_text = list(zip(spans, candidates.values(), strict=True))
    return variants(text, of_text, config(**values), row_id=row_id, sentence=0)


def test_only_words_of_letters_that_are_no_stop_words_may_be_replaced():
    text = "The Film wasn't a 2nd-rate x86 café, über_bad!"
    found = [text[start:stop] for start, stop in replaceable_words(text)]
    assert found == ["Film", "rate", "bad"]


def test_places_count_characters_not_bytes():
    text = "電影 “film” 😀 plot"
    assert replaceable_words(text) == [(4, 8), (12, 16)]


def test_a_replaced_word_leaves_white_space_case_and_marks_around_it():
    text = "The  Film,\twas `Good`!"
    found = drawn(text, {"Film": ["movie"], "Good": ["great"]}, replace_probability=1.0)
    assert found == [text, "The  movie,\twas `great`!"]


def test_duplicates_consume_a_round():
    # Of one word and two candidates, one of them itself, there is one new sentence in any rounds.
    found = drawn("film", {"film": ["film", "movie"]}, replace_probability=1.0, num_rounds=30)
    assert found == ["film", "movie"]
    # With p = 1, three rounds are three sentences if they differ: not more, and here not fewer.
    many = [f"w{number}" for number in range(10_000)]
    assert len(drawn("film", {"film": many}, replace_probability=1.0, num_rounds=3)) == 4


def test_a_sentence_without_words_to_replace_stays_alone():
    assert drawn("The 1!", {}) == ["The 1!"]
    assert drawn("the film", {"film": ["film"]}) == ["the film"]


def test_a_word_is_replaced_with_the_probability_and_by_each_candidate_alike():
    # 2,000 rows of one round: 2,000 trials of p = 0.4 (standard deviation 0.011), of which about
    # 800 are shared by four candidates (0.015).
    counts = dict.fromkeys(["film", "book", "plot", "novel", "story"], 0)
    for row_id in range(2_000):
        found = drawn("film", {"film": list(counts)[1:]}, row_id=row_id, num_rounds=1)
        counts[found[-1]] += 1
    num_replaced = 2_000 - counts.pop("film")
    assert num_replaced / 2_000 == pytest.approx(0.4, abs=0.045)
    assert [count / num_replaced for count in counts.values()] == pytest.approx(
        [0.25] * 4, abs=0.06
    )


def test_words_are_drawn_independently():
    # Of 2,000 rounds both words are replaced in 0.16 of them, neither in 0.36.
    both = neither = 0
    for row_id in range(2_000):
        candidates = {"film": ["movie"], "good": ["great"]}
        last = drawn("film good", candidates, row_id=row_id, num_rounds=1)[-1]
        both += last == "movie great"
        neither += last == "film good"
    assert both / 2_000 == pytest.approx(0.16, abs=0.035)
    assert neither / 2_000 == pytest.approx(0.36, abs=0.045)


def test_what_is_drawn_depends_on_seed_row_and_sentence_alone():
    candidates = [((0, 4), [f"w{number}" for number in range(50)])]

    def draw(seed: int, row_id: int, sentence: int) -> list[str]:
        return variants("film", candidates, config(seed=seed), row_id=row_id, sentence=sentence)

    first = draw(1, 2, 0)
    assert draw(1, 2, 0) == first
    assert all(other != first for other in (draw(2, 2, 0), draw(1, 3, 0), draw(1, 2, 1)))


def test_beside_the_variants_of_one_sentence_stands_the_other_as_it_was():
    made = list(augmented_pairs(["a", "a1", "a2"], ["b", "b1"], compat=False))
    assert made == [("a", "b"), ("a1", "b"), ("a2", "b"), ("a", "b1")]
    assert list(augmented_pairs(["a", "a1"], None, compat=False)) == [("a", None), ("a1", None)]


def test_compat_keeps_the_last_variant_of_the_first_sentence_beside_the_second():
    made = list(augmented_pairs(["a", "a1", "a2"], ["b", "b1"], compat=True))
    assert made == [("a", "b"), ("a1", "b"), ("a2", "b"), ("a2", "b"), ("a2", "b1")]
    # A pair that has no variants stands there twice.
    assert list(augmented_pairs(["a"], ["b"], compat=True)) == [("a", "b"), ("a", "b")]


def test_rounds_are_those_of_the_authors_code():
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
