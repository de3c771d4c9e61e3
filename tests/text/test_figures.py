import pyarrow as pa
import pytest

from raykd.text.figures import compare, compare_with_task, sample_rows, sample_texts


def test_statistics_match_hand_computed_values():
    figures = compare(["The cat, the cat", "a dog"], ["a b c d e f"], ["Cat and dog and mouse d"])
    # Words: the cat the cat a dog. Pairs: the-cat cat-the the-cat a-dog.
    assert figures.corpus.distinct_1 == pytest.approx(4 / 6)
    assert figures.corpus.distinct_2 == pytest.approx(3 / 4)
    assert {side.num_words for side in figures} == {6}
    # By frequency, ties by letter: cat the a dog | a b c d | and cat d dog.
    assert {side.num_vocabulary_words for side in figures} == {4}
    assert (figures.corpus.task_overlap, figures.corpus.general_overlap) == (0.5, 0.25)
    assert (figures.general.task_overlap, figures.general.general_overlap) == (0.25, 1.0)
    assert (figures.task.task_overlap, figures.task.general_overlap) == (1.0, 0.25)


def test_the_most_frequent_words_are_compared_as_many_as_the_smallest_side_has():
    figures = compare(["b b a c"], ["a b c d"], ["a b a b"])
    assert {side.num_vocabulary_words for side in figures} == {2}
    assert figures.corpus.task_overlap == 1.0


def test_overlaps_are_taken_on_as_many_words_as_the_smallest_side_has():
    figures = compare(["a b", "c c c c"], ["a a b b c c c"], ["a b"])
    # The samples: a b | a a | a b.
    assert {side.num_words for side in figures} == {2}
    assert figures.task.task_overlap == figures.corpus.task_overlap == 1.0
    assert {side.num_vocabulary_words for side in figures} == {1}


def test_overlaps_are_taken_with_and_without_stop_words():
    figures = compare(["the cat of the house"], ["The dog of the house"], ["the cat in the garden"])
    # By frequency, ties by letter: the cat house of | the dog house of | the cat garden in.
    assert {side.num_vocabulary_words for side in figures} == {4}
    assert (figures.corpus.task_overlap, figures.corpus.general_overlap) == (0.5, 0.75)
    assert figures.general.task_overlap == 0.25
    # Content words: cat house | dog house | cat garden.
    assert {side.num_content_vocabulary_words for side in figures} == {2}
    assert figures.corpus.content_task_overlap == 0.5
    assert figures.corpus.content_general_overlap == 0.5
    assert figures.general.content_task_overlap == 0.0
    assert figures.task.content_task_overlap == 1.0


def test_contractions_are_stop_words_whatever_their_apostrophe():
    figures = compare(["don't you"], ["don\u2019t I"], ["isn't it"])
    assert {side.num_content_vocabulary_words for side in figures} == {0}
    assert figures.corpus.content_task_overlap == 0.0


def test_without_a_general_corpus_there_is_no_overlap_with_it():
    corpus, task = compare_with_task(["a cat", "a dog"], ["a cat", "one cat"])
    assert (corpus.num_words, corpus.general_overlap, corpus.content_general_overlap) == (
        4,
        None,
        None,
    )
    # By frequency: a cat dog | cat a one. Content words: cat dog | cat one.
    assert corpus.task_overlap == pytest.approx(2 / 3)
    assert corpus.content_task_overlap == 0.5
    assert (corpus.distinct_1, corpus.distinct_2) == (0.75, 1.0)
    assert (task.task_overlap, task.content_task_overlap) == (1.0, 1.0)


def test_distinct_is_taken_on_as_many_words_as_the_smallest_side_has():
    corpus = [f"w{number} x" for number in range(1_000)]
    figures = compare(corpus, ["y y y y"] * 100, ["a b"] * 50)
    assert {side.num_words for side in figures} == {100}
    assert figures.corpus.distinct_1 == 51 / 100
    assert figures.general.distinct_1 == 1 / 100
    assert figures.task.distinct_2 == 1 / 50


def test_distinct_is_taken_on_all_words_of_large_samples():
    texts = [" ".join(f"w{number} x" for number in range(60_000))] * 5
    figures = compare(texts, texts, texts).corpus
    assert figures.num_words == 600_000
    assert figures.distinct_1 == 60_001 / 600_000
    # Each text has w0 x, x w1, w1 x, ...: one pair less than words.
    assert figures.distinct_2 == pytest.approx(1 / 5)


def test_sample_sizes_can_be_taken_from_another_corpus():
    first = compare(["a b c"], ["a b c d"], ["a b c d e"]).corpus
    like = compare(["a b c d a b c d"], ["a b c d"], ["a b c d e"], like=first).corpus
    assert (like.num_words, like.num_vocabulary_words) == (3, 3)


def test_the_order_of_the_task_sentences_is_ignored():
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
    assert sample_texts((unit_id, f"text of {unit_id}") for unit_id in reversed_ids) == [
        f"text of {ids[row]}" for row in rows
    ]


def test_texts_without_words_have_zero_statistics():
    figures = compare(["..."], [], [])
    for side in figures:
        assert (side.distinct_1, side.distinct_2) == (0, 0)
        assert (side.task_overlap, side.general_overlap) == (0, 0)
