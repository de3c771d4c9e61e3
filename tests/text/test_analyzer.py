"""Terms are lower-cased UAX #29 words, on the fast path and on the slow one."""

import sys

import numpy as np
import oracle_analyze
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raykd.text.analyzer import terms
from raykd.text.characters import characters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The 2 QUICK Brown-Foxes jumped over the lazy dog's bone.",
         ["the", "2", "quick", "brown", "foxes", "jumped", "over", "the", "lazy", "dog's", "bone"]),
        ("can't U.S. 3.5 1,000 1;2 a:b a;b x.5 5.x",
         ["can't", "u.s", "3.5", "1,000", "1;2", "a:b", "a", "b", "x", "5", "5", "x"]),
        ("'quoted' rock'n'roll ''", ["quoted", "rock'n'roll"]),
        ("__init__ ___ a_1 _.b", ["__init__", "a_1", "b"]),
        ("don\u2019t café CAFÉ naïve", ["don\u2019t", "café", "café", "naïve"]),
        ("e\u0301te\u0301 \u0301x", ["e\u0301te\u0301", "x"]),
        ("我是学生 ひら カタカナ語", ["我", "是", "学", "生", "ひ", "ら", "カタカナ", "語"]),
        ("การที่ได้ต้อง", ["การที่ได้ต้อง"]),
        ("한국어 русский Ελληνικά ΟΔΟΣ", ["한국어", "русский", "ελληνικά", "οδοσ"]),
        ("İstanbul", ["istanbul"]),
        ('צה"ל שב\u05f3', ['צה"ל', "שב\u05f3"]),
        ("ok 👍🏽 👩‍👩‍👧 🇫🇷 © 2", ["ok", "👍🏽", "👩‍👩‍👧", "🇫🇷", "2"]),
        ("a\0b \1 c", ["a", "b", "c"]),
        ("", []),
        ("?! — …", []),
    ],
)  # fmt: skip
def test_terms_are_those_of_the_standard_analyzer(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize("letter", ["x", "é"])
def test_words_longer_than_255_characters_are_cut(letter: str) -> None:
    assert [len(term) for term in terms(f"a {letter * 600} b")] == [1, 255, 255, 90, 1]


# Format, emoji and South-East Asian characters are left out: there Lucene's words, and ours,
# are not UAX #29's segments. So are two cases in which `regex` departs from UAX #29: it joins
# combining signs at the start of a text, and apostrophes before Latin vowels, with what follows.
WORD_CHARACTERS = regex.compile(
    r"[\p{L}\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Numeric}\p{WB=Katakana}"
    r"\p{Script=Han}\p{Script=Hiragana}]"
)
SEGMENT = regex.compile(r"(?w)\b")
UNSUITED = regex.compile(
    r"[\p{WB=Format}\p{WB=ZWJ}\p{Emoji}\p{LB=SA}--[0-9]]|^\p{WB=Extend}"
    r"|(?<![\p{WB=ALetter}\p{WB=Hebrew_Letter}])['\u2019][AEIOUaeiouÀ-ÂÈ-ÊÌ-ÎÒ-ÔÙ-Ûà-âè-êì-îò-ôù-ûİ]",
    regex.V1,
)
plain_text = st.text(
    st.sampled_from("aZé9٣_.,:;'\u2019\"  -\n\u0301ßאבカひ我한ΣİΩ·‿\u017f\u066b״")
    | st.characters(),
    max_size=12,
).filter(lambda text: not UNSUITED.search(text))


def lower(word: str) -> str:
    return "".join("i" if character == "İ" else character.lower() for character in word)


@settings(max_examples=500, deadline=None)
@given(plain_text)
def test_terms_are_the_segments_of_unicode_that_hold_a_letter_or_digit(text: str) -> None:
    segments = [segment for segment in SEGMENT.split(text) if WORD_CHARACTERS.search(segment)]
    assert terms(text) == [lower(segment) for segment in segments]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=0x7F), max_size=30))
@example("a.b 1.2 a.1 _.a 'a' a''b 1,,2 a_,b")
def test_ascii_words_do_not_depend_on_other_characters_in_the_text(text: str) -> None:
    assert terms(f"{text} é") == [*terms(text), "é"]
    assert terms(f"é {text}") == ["é", *terms(text)]


# A few characters of every class of the automaton.
KINDS = [
    "".join(map(chr, codes[:: max(1, len(codes) // 5)]))
    for column in range(characters().next_states.shape[1])
    for codes in [np.flatnonzero(characters().columns[:-1] == column).tolist()]
]
any_text = st.lists(
    st.one_of(
        st.sampled_from(KINDS).flatmap(st.sampled_from),
        st.sampled_from("aZ9_.,:;'\"#* -\0"),
        st.sampled_from(["the ", "a" * 300, "é" * 254, "_" * 9, "x'" * 130, " word" * 40]),
        st.characters(exclude_categories=()),
    ),
    max_size=24,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(any_text)
@example("a\ud800b \udc00")
@example("\u200d\u0301a\u200d.b")
def test_terms_are_those_of_the_regular_expression(text: str) -> None:
    assert terms(text) == oracle_analyze.terms(text)


def test_every_range_of_characters_makes_the_terms_of_the_regular_expression() -> None:
    tables = characters()
    changes = np.flatnonzero(np.diff(tables.columns.astype(np.int64)))
    codes = np.unique(np.r_[:0x3000, changes, changes + 1, changes + 2, sys.maxunicode])
    text = "".join(f"a{each}b {each} 1{each}2 א{each}א\n" for each in map(chr, codes.tolist()))
    assert terms(text) == oracle_analyze.terms(text)


def test_planes_without_entries_have_no_word_characters() -> None:
    left_out = "".join(map(chr, [*range(0x40000, 0xE0000), *range(0xE1000, sys.maxunicode + 1)]))
    assert not regex.search(r"[\p{L}\p{M}\p{N}\p{Emoji}\p{Extended_Pictographic}]", left_out)
    assert left_out.lower() == left_out


@settings(max_examples=300, deadline=None)
@given(any_text, st.integers(0, 130))
def test_terms_do_not_depend_on_their_position_in_the_text(text: str, shift: int) -> None:
    assert terms("-" * shift + " " + text) == terms(text)


@pytest.mark.parametrize("unit", ["_", "a'", "🇫\u0301", "\u0301", "א'", "a.", "_\u0301"])
def test_time_grows_with_the_length_of_the_text(unit: str) -> None:
    assert len("".join(terms(unit * 300_000))) <= 600_000


def test_lower_casing_works_per_character() -> None:
    letters = [chr(code) for code in range(0x80, sys.maxunicode + 1) if chr(code).isupper()]
    found = [terms(f"{letter}{letter}") for letter in letters if len(terms(letter)) == 1]
    expected = [[lower(letter) * 2] for letter in letters if len(terms(letter)) == 1]
    assert found == expected
