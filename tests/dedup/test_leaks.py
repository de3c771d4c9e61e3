import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_dedup import find_leak

from raykd.dedup.leaks import LeakIndex

# Two letters and few blanks: sentences share their first words and stand in texts often.
TEXTS = st.text(alphabet="abAB  ,é", max_size=16)


def test_a_text_that_contains_a_long_enough_sentence_leaks():
    index = LeakIndex(["The cat sat on the mat ."], min_words=5)
    assert index.find("Once, THE CAT\nsat on the mat; then it left.") == "The cat sat on the mat ."
    assert index.find("the cat sat on a mat") is None
    assert index.find("the cat sat on the") is None


def test_words_are_not_found_inside_other_words():
    index = LeakIndex(["art", "the art of war"], min_words=1)
    assert index.find("a party") is None
    assert index.find("some art here") == "art"
    index = LeakIndex(["the art of war"], min_words=4)
    assert index.find("lathe art of war") is None
    assert index.find("the art of wars") is None
    assert index.find("the-art-of-war") == "the art of war"


def test_a_short_sentence_leaks_only_into_an_equal_text():
    index = LeakIndex(["it works well"], min_words=4)
    assert index.find("It works, well!") == "it works well"
    assert index.find("it works well here") is None


def test_case_accents_and_invisible_characters_make_no_difference():
    index = LeakIndex(["Le caf\u00e9 est tr\u00e8s fort"], min_words=5)
    text = "bref, LE CAFE\u0301 EST TRE\u0300S fo\u00adrt !"
    assert index.find(text) == "Le caf\u00e9 est tr\u00e8s fort"


def test_letters_are_words_where_a_script_has_no_blanks():
    index = LeakIndex(["我喜欢吃鱼"], min_words=5)
    assert index.find("他说我喜欢吃鱼。") == "我喜欢吃鱼"
    assert index.find("他说我喜欢鱼。") is None


def test_sentences_without_words_leak_only_as_a_whole_and_empty_ones_never():
    index = LeakIndex(["", " \n", "...", "?"], min_words=1)
    assert index.find("...") == "..."
    assert index.find("a ...") is None
    assert index.find("") is None
    assert index.find("!") is None


def test_no_sentences_find_nothing():
    assert LeakIndex([], min_words=5).find("a b c d e f") is None


def test_the_first_sentence_in_the_given_order_is_named():
    index = LeakIndex(["c d", "a b c", "b c", "a b c d"], min_words=2)
    assert index.find("a b c d") == "c d"
    assert index.find("x a b c") == "a b c"


@settings(deadline=None)
@given(TEXTS, st.lists(TEXTS, max_size=8), st.integers(1, 4))
def test_the_index_finds_what_the_obvious_search_finds(text, sentences, min_words):
    expected = find_leak(text, sentences, min_words)
    assert LeakIndex(sentences, min_words).find(text) == expected


@pytest.mark.timeout(20)
def test_many_sentences_with_the_same_beginning_cost_no_more():
    # One by one, these would be 4e9 comparisons of words.
    sentences = [f"the function returns the value {number}" for number in range(20_000)]
    index = LeakIndex(sentences, min_words=5)
    text = "the function returns the value x " * 200
    assert all(index.find(text) is None for _ in range(100))
    assert index.find(text + "the function returns the value 19999") == sentences[-1]
