import pyarrow as pa
import pytest

from raykd.corpus_card import text_figures


def units(texts):
    ids = [f"u{number}" for number in range(len(texts))]
    return pa.table({"unit_id": ids, "text": pa.array(texts, pa.string())})


def test_figures_by_hand():
    figures = text_figures(units(["The cat, the cat", "a dog"]), ["Cat and dog and mouse"])
    # Words: the cat the cat a dog. Pairs: the-cat cat-the the-cat a-dog.
    assert figures.distinct_1 == pytest.approx(4 / 6)
    assert figures.distinct_2 == pytest.approx(3 / 4)
    assert figures.num_distinct_words == 6
    # By frequency, ties by letter: cat the a dog | and cat dog mouse.
    assert figures.num_vocabulary_words == 4
    assert figures.vocabulary_overlap == 0.5


def test_a_smaller_vocabulary_is_compared_with_the_most_frequent_words_of_the_larger():
    figures = text_figures(units(["b b a a c"]), ["a b"])
    assert figures.num_vocabulary_words == 2
    assert figures.vocabulary_overlap == 1.0


def test_distinct_is_taken_on_equally_many_words_however_large_the_corpus():
    small = text_figures(units([f"w{number} x" for number in range(10_000)]), [])
    large = text_figures(units([f"w{number} x" for number in range(15_000)]), [])
    assert small.num_distinct_words == large.num_distinct_words == 20_000
    assert small.distinct_1 == large.distinct_1 == pytest.approx(10_001 / 20_000)


def test_the_order_of_rows_makes_no_difference():
    table = units([f"{number} {number % 7} {number % 11}" for number in range(9_000)])
    reverse = table.take(list(range(8_999, -1, -1)))
    assert text_figures(table, ["1 2"]) == text_figures(reverse, ["1 2"])


def test_texts_without_words_have_figures_of_zero():
    figures = text_figures(units(["..."]), [])
    assert (figures.distinct_1, figures.distinct_2, figures.vocabulary_overlap) == (0, 0, 0)
