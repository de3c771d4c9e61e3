import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_dedup import first_equal as slow_first_equal

from raykd.dedup.exact import first_equal
from raykd.text.normalize import normalize, normalize_all, words

# Few letters, so that equal texts are common; their cases and accents, so that they differ.
TRICKY = st.text(alphabet="aAéÉe\u0301ßsSİi\u0131ﬁΣ\u03c3ς\u00ad\u200b \u00a0\n.", max_size=6)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("The  Cat\tsat\n", "the cat sat"),
        ("caf\u00e9", "CAFE\u0301"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("\ufb01nance", "finance"),
        ("\uff26\uff55\uff4c\uff4c", "full"),
        ("co\u00adoperate", "cooperate"),
        ("\ufeffa\u00a0b", "a b"),
        ("a\u3000b", "a b"),
        ("\ud55c", "\u1112\u1161\u11ab"),
        ("I\u0307", "\u0130"),
    ],
)
def test_texts_that_look_the_same_are_equal(left, right):
    assert normalize(left) == normalize(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("ab", "a b"), ("a.", "a"), ("cafe", "café"), ("a-b", "a b"), ("", ".")],
)
def test_texts_that_differ_in_letters_blanks_or_punctuation_are_not_equal(left, right):
    assert normalize(left) != normalize(right)


def test_all_forms_and_cases_of_a_character_normalize_equally():
    for code in [*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE1000)]:
        character = chr(code)
        normalized = normalize(character)
        assert normalize(normalized) == normalized, hex(code)
        assert normalize(unicodedata.normalize("NFD", character)) == normalized, hex(code)
        assert normalize(character.casefold()) == normalized, hex(code)


@settings(deadline=None)
@given(st.text() | TRICKY)
def test_normalization_is_idempotent(text):
    assert normalize(normalize(text)) == normalize(text)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_ascii_path_equals_the_general_path(text):
    # A letter that is not ASCII, cut off again, forces the general way.
    assert normalize(text + " é")[: -len(" é")].rstrip() == normalize(text)
    assert words(normalize(text + " é"))[:-1] == words(normalize(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said , " no " .', ["he", "said", "no"]),
        ("it's x_1, isn't it?", ["it", "s", "x", "1", "isn", "t", "it"]),
        ("naïve Œuvre", ["naïve", "œuvre"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("我喜欢 abc鱼", ["我", "喜", "欢", "abc", "鱼"]),
        ("ขนม", ["ข", "น", "ม"]),
        (" -- !", []),
    ],
)
def test_words_are_runs_of_letters_marks_and_digits(text, expected):
    assert words(normalize(text)) == expected


def normalized_texts(texts: pa.Array) -> list[str]:
    return [bytes(text).decode() for text in normalize_all(texts).texts()]


@settings(deadline=None)
@given(st.lists(st.text() | TRICKY | st.text(alphabet="aB \t\x1f\x7f\x00é")))
def test_normalizing_a_column_equals_normalizing_each_text(texts):
    assert normalized_texts(pa.array(texts, pa.string())) == [normalize(text) for text in texts]


@pytest.mark.parametrize(
    "before", ["", "e", "\u1100", "\u0915", "\u0bc6", "\u0061\u0323", "\uac00"]
)
@pytest.mark.parametrize("after", ["", "\u0301", "\u1161", "\u0bbe", " ", "\u3099"])
def test_every_character_normalizes_equally_alone_and_in_a_column(before, after):
    codes = [*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE1000)]
    if before or after:
        codes = [code for code in codes if code < 0x3400 or code % 64 == 0]
    texts = [before + chr(code) + after for code in codes]
    assert normalized_texts(pa.array(texts)) == [normalize(text) for text in texts]


def test_the_kernel_handles_long_texts_with_few_non_ascii_letters():
    texts = [
        "The  Cat " * 40 + "café" + " sat\tON" * 50 + "\u2013" + "x" * 300,
        "A" * 200 + "\u00a0 b",
    ]
    assert normalized_texts(pa.array(texts)) == [normalize(text) for text in texts]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view()])
def test_columns_may_be_sliced_have_nulls_and_any_string_type(type_):
    texts = pa.array(["left out", "A  b", None, "É", "left out"], type_)
    assert normalized_texts(texts.slice(1, 3)) == ["a b", "", "é"]
    assert normalized_texts(texts.slice(2, 0)) == []
    assert normalized_texts(pa.array([None, None], type_)) == ["", ""]


def test_the_first_of_equal_texts_is_kept():
    texts = pa.chunked_array([["b", "a", "A "], ["B", "c"], [], ["a\n"]], pa.string())
    assert first_equal(texts).tolist() == [0, 1, 1, 0, 4, 1]


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "a"], ["", " "]])
def test_tables_of_zero_and_one_rows_work(texts):
    assert first_equal(pa.chunked_array([texts], pa.string())).tolist() == [0] * len(texts)


@settings(deadline=None)
@given(st.lists(TRICKY, max_size=30), st.integers(1, 5))
def test_first_equal_matches_the_naive_search_for_any_chunks(texts, size):
    chunks = [texts[start : start + size] for start in range(0, len(texts), size)]
    firsts = first_equal(pa.chunked_array(chunks, pa.string()))
    assert firsts.tolist() == slow_first_equal(texts)


@settings(deadline=None)
@given(st.lists(TRICKY, max_size=30), st.integers(1, 3))
def test_texts_with_equal_digests_are_compared_by_content(texts, num_digests):
    def colliding(data: bytes) -> bytes:
        return bytes([len(data) % num_digests]) * 16

    firsts = first_equal(pa.chunked_array([texts], pa.string()), colliding)
    assert firsts.tolist() == slow_first_equal(texts)
