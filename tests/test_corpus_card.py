import pyarrow as pa
import pytest

from raykd.corpus_card import compare, sample_rows


def test_figures_by_hand():
    figures = compare(["The cat, the cat", "a dog"], ["a b c d e f"], ["Cat and dog and mouse d"])
    # Words: the cat the cat a dog. Pairs: the-cat cat-the the-cat a-dog.
    assert figures.corpus.distinct_1 == pytest.approx(4 / 6)
    assert figures.corpus.distinct_2 == pytest.approx(3 / 4)
    assert {side.num_distinct_words for side in figures} == {6}
    # By frequency, ties by letter: cat the a dog | a b c d | and cat d dog.
    assert {side.num_vocabulary_words for side in figures} == {4}
    assert (figures.corpus.task_overlap, figures.corpus.general_overlap) == (0.5, 0.25)
    assert (figures.general.task_overlap, figures.general.general_overlap) == (0.25, 1.0)
    assert (figures.task.task_overlap, figures.task.general_overlap) == (1.0, 0.25)


def test_the_most_frequent_words_are_compared_as_many_as_the_smallest_side_has():
    figures = compare(["b b a a c"], ["a a b c d e f"], ["a b"])
    assert {side.num_vocabulary_words for side in figures} == {2}
    assert figures.corpus.task_overlap == 1.0


def test_distinct_is_taken_on_as_many_words_as_the_smallest_side_has():
    corpus = [f"w{number} x" for number in range(1_000)]
    figures = compare(corpus, ["y y y y"] * 100, ["a b"] * 50)
    assert {side.num_distinct_words for side in figures} == {100}
    assert figures.corpus.distinct_1 == 51 / 100
    assert figures.general.distinct_1 == 1 / 100
    assert figures.task.distinct_2 == 1 / 50


def test_distinct_is_taken_on_half_a_million_words_however_large_the_sides_are():
    texts = [f"w{number % 60_000} x" for number in range(260_000)]
    figures = compare(texts, texts, texts)
    assert {side.num_distinct_words for side in figures} == {500_000}


def test_a_corpus_can_be_measured_like_another_one():
    first = compare(["a b c"], ["a b c d"], ["a b c d e"]).corpus
    like = compare(["a b c d a b c d"], ["a b c d"], ["a b c d e"], like=first).corpus
    assert (like.num_distinct_words, like.num_vocabulary_words) == (3, 3)


def test_the_order_of_the_tasks_sentences_makes_no_difference():
    task = [f"{number} {number % 7}" for number in range(100)]
    assert compare(["1 2"] * 20, ["3 4"] * 20, task) == compare(
        ["1 2"] * 20, ["3 4"] * 20, task[::-1]
    )


def test_the_sampled_units_are_the_same_for_any_order_of_rows():
    ids = [f"u{number}" for number in range(60_000)]
    rows = sample_rows(pa.chunked_array([ids]))
    reversed_ids = ids[::-1]
    back = sample_rows(pa.chunked_array([reversed_ids]))
    assert len(rows) == len(set(rows)) == 50_000
    assert [ids[row] for row in rows] == [reversed_ids[row] for row in back]
    assert rows[:10] != sorted(rows[:10])


def test_texts_without_words_have_figures_of_zero():
    figures = compare(["..."], [], [])
    for side in figures:
        assert (side.distinct_1, side.distinct_2) == (0, 0)
        assert (side.task_overlap, side.general_overlap) == (0, 0)
