import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle_dedup import find_leak

from raykd.contextualize.contamination import Contamination, ContaminationIndex
from raykd.corpus.rows import Document
from raykd.corpus.texts import Texts
from raykd.corpus.units import UnitsConfig, cut
from raykd.text.normalize import normalize, words
from raykd.text.wordings import wordings

# Two letters and few blanks: sentences share their first words and often occur in texts.
TEXTS = st.text(alphabet="abAB  ,é", max_size=16)


def sentence_in(index, text):
    """Find the sentence that a text contains; check the compiled filter against the index."""
    leak = index.find(text)
    sentences, is_ngram = index.find_all(pa.array([text]))
    assert (leak or (-1, False)) == (sentences[0], is_ngram[0])
    assert not is_ngram[0]
    return None if leak is None else index.sentences[leak.sentence]


def test_a_text_with_a_long_enough_sentence_is_contaminated():
    index = ContaminationIndex(["The cat sat on the mat ."], min_words=5)
    assert (
        sentence_in(index, "Once, THE CAT\nsat on the mat; then it left.")
        == "The cat sat on the mat ."
    )
    assert sentence_in(index, "the cat sat on a mat") is None
    assert sentence_in(index, "the cat sat on the") is None


def test_words_are_not_found_inside_other_words():
    index = ContaminationIndex(["art", "the art of war"], min_words=1)
    assert sentence_in(index, "a party") is None
    assert sentence_in(index, "some art here") == "art"
    index = ContaminationIndex(["the art of war"], min_words=4)
    assert sentence_in(index, "lathe art of war") is None
    assert sentence_in(index, "the art of wars") is None
    assert sentence_in(index, "the-art-of-war") == "the art of war"


def test_a_short_sentence_contaminates_only_an_equal_text():
    index = ContaminationIndex(["it works well"], min_words=4)
    assert sentence_in(index, "It works, well!") == "it works well"
    assert sentence_in(index, "it works well here") is None


def test_case_accents_and_invisible_characters_are_ignored():
    index = ContaminationIndex(["Le caf\u00e9 est tr\u00e8s fort"], min_words=5)
    text = "bref, LE CAFE\u0301 EST TRE\u0300S fo\u00adrt !"
    assert sentence_in(index, text) == "Le caf\u00e9 est tr\u00e8s fort"


def test_letters_are_words_in_scripts_without_blanks():
    index = ContaminationIndex(["我喜欢吃鱼"], min_words=5)
    assert sentence_in(index, "他说我喜欢吃鱼。") == "我喜欢吃鱼"
    assert sentence_in(index, "他说我喜欢鱼。") is None


@pytest.mark.parametrize("policy", ["packed", "line"])
@pytest.mark.parametrize(
    ("dev", "document"),
    [
        ("今天的天气真的非常不错我们去公园散步吧", "昨天他说{}然后就出门看电影了"),
        ("今天的天气真的非常不错我们去公园散步吧", "我在北京。他说今天的天气很好。{}。再见。"),
        ("この映画はとても面白かった", "昨日見た。{}。また見たい。"),
        ("ภาพยนตร์เรื่องนี้สนุกมาก", "นักแสดงแสดงได้ดี{}และเพลงไพเราะ"),
        ("ភាពយន្តនេះល្អណាស់", "ខ្ញុំមើលវា។{}។ អរគុណ។"),
        ("រុប the film 很好看", "Yesterday: រុប THE film 很好看, she said."),
    ],
)
def test_a_dev_sentence_in_a_script_without_blanks_is_found(policy, dev, document):
    documents = [document.format(dev), document.format("……")]
    texts = Texts.of_rows(Document("a", number, text) for number, text in enumerate(documents))
    units, *_ = cut(texts, "0" * 32, UnitsConfig(policy=policy))
    holding = ["THE film" in text or dev in text for text in units["text"].to_pylist()]
    sentences, is_ngram = ContaminationIndex([dev], min_words=5).find_all(units["text"])
    assert (sentences == 0).tolist() == holding
    assert sum(holding) >= 1
    assert not is_ngram.any()


def test_sentences_without_words_match_only_equal_texts_and_empty_ones_none():
    index = ContaminationIndex(["", " \n", "...", "?"], min_words=1)
    assert sentence_in(index, "...") == "..."
    assert sentence_in(index, "a ...") is None
    assert sentence_in(index, "") is None
    assert sentence_in(index, "!") is None


def test_without_sentences_nothing_is_contaminated():
    assert sentence_in(ContaminationIndex([], min_words=5), "a b c d e f") is None


def test_the_first_sentence_is_reported():
    index = ContaminationIndex(["c d", "a b c", "b c", "a b c d"], min_words=2)
    assert sentence_in(index, "a b c d") == "c d"
    assert sentence_in(index, "x a b c") == "a b c"


@settings(deadline=None)
@given(
    st.lists(TEXTS | st.none(), max_size=4),
    st.lists(TEXTS, max_size=8),
    st.integers(1, 4),
    st.none() | st.integers(1, 4),
)
def test_the_index_matches_the_naive_search(texts, sentences, min_words, ngram):
    index = ContaminationIndex(sentences, min_words, ngram)
    expected = [find_leak(text or "", sentences, min_words, ngram) for text in texts]
    assert [index.find(text or "") for text in texts] == expected
    for type_ in (pa.string(), pa.large_string()):
        positions, is_ngram = index.find_all(pa.array(["a", *texts], type_)[1:])
        pairs = zip(positions.tolist(), is_ngram.tolist(), strict=True)
        assert [None if pair == (-1, False) else pair for pair in pairs] == expected


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(max_size=12), max_size=4))
@example(["\u13a0"])  # Cherokee folds to capitals
def test_wordings_contain_the_words_of_any_text(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    data, offsets = wordings(pa.array(texts, pa.string()))
    assert len(offsets) == len(texts) + 1
    for text, start, stop in zip(texts, offsets[:-1], offsets[1:], strict=True):
        held = data[start:stop].tobytes().lower().decode()  # ASCII letters alone
        parts = "".join(c if not c.isascii() or c.isalnum() else " " for c in held)
        assert parts.split() == words(normalize(text))


def test_a_shared_ngram_is_distinguished_from_a_whole_sentence():
    sentences = ["one two three four five", "zero two three four nine", "two three four"]
    index = ContaminationIndex(sentences, min_words=5, ngram=3)
    assert index.find("say: Two, three FOUR times") == Contamination(0, is_ngram=True)
    assert index.find("two three four") == Contamination(2, is_ngram=False)
    assert index.find("two three five four") is None
    texts = pa.array(["two three", "x two three four", "one two three four five x"])
    sentences_found, is_ngram = index.find_all(texts)
    assert sentences_found.dtype == np.int32
    assert sentences_found.tolist() == [-1, 0, 0]
    assert is_ngram.tolist() == [False, True, False]


def test_sentences_shorter_than_the_ngram_do_not_match():
    index = ContaminationIndex(["a b c"], min_words=9, ngram=4)
    assert index.find("x a b c d") is None


@pytest.mark.timeout(20)
def test_many_sentences_with_the_same_prefix_are_fast():
    # One by one, these would be 4e9 comparisons of words.
    sentences = [f"the function returns the value {number}" for number in range(20_000)]
    index = ContaminationIndex(sentences, min_words=5)
    text = "the function returns the value x " * 200
    assert all(sentence_in(index, text) is None for _ in range(100))
    assert sentence_in(index, text + "the function returns the value 19999") == sentences[-1]
