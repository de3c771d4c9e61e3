r"""Text -> terms: one function for the corpus and for the queries.

Terms are the words of Unicode's default word boundaries (UAX #29, rules WB4-WB13b and WB15-16),
lower-cased one character at a time, as the `standard` analyzer of Lucene and Elasticsearch makes
them: no stemming, no stop words. As there, runs of a South-East Asian script (Thai, Lao, Khmer,
Myanmar) are one term, Han and Hiragana give one term a character, emoji sequences are terms, and
a word of more than 255 characters is cut every 255. Letters of the few ideographic scripts that
Lucene drops (Tangut, Nushu) are terms of one character here.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import regex

MAX_TERM_CHARS = 255

# Stands after the terms of each text of a list; no word holds this character.
END_OF_TEXT = "\0"

# An ASCII sign that joins letters (. : ') or digits (. , ; ') is part of a word only between two
# of them; anywhere else it parts words, as every other sign does.
_PARTING_SIGN = re.compile(r"[.:',;](?!(?<=[A-Za-z][.:'])[A-Za-z]|(?<=[0-9][.,;'])[0-9])", re.ASCII)
# Text between blanks and control characters that is not all ASCII, and what stands for it while
# the rest of the text is analysed. The look-behind keeps the search linear on endless runs.
_OTHER_RUN = re.compile(r"(?<![^\x00-\x20])[\x21-\x7f]*+[^\x00-\x7f][^\x00-\x20]*+")
_HOLE = "\1"
_RESERVED = re.compile(f"[{END_OF_TEXT}{_HOLE}]")
_CACHED_RUN_CHARS = 32
_ASCII_FOLD = {
    code: chr(code).lower()
    if chr(code).isalnum() or chr(code) in f"_.:',;{END_OF_TEXT}{_HOLE}"
    else " "
    for code in range(128)
}


def _word_pattern() -> regex.Pattern[str]:
    # Names follow UAX #29, table 3. WB4: signs that extend a character go with it.
    ex = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*+"
    letter = rf"[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{ex}"
    hebrew = rf"\p{{WB=Hebrew_Letter}}{ex}"
    numeric = rf"\p{{WB=Numeric}}{ex}"
    katakana = rf"\p{{WB=Katakana}}{ex}"
    join = rf"\p{{WB=ExtendNumLet}}{ex}"
    mid_letter = rf"[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{ex}"
    mid_num = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{ex}"
    after_hebrew = rf"(?<={hebrew.replace('*+', '*')})"
    single_quote, double_quote = rf"\p{{WB=Single_Quote}}{ex}", rf"\p{{WB=Double_Quote}}{ex}"

    # WB5-WB7c, WB8 + WB11-12, WB13: runs without an underscore. WB9-10 join the first two.
    letters = (
        rf"{letter}(?:(?:{mid_letter})?{letter}|{after_hebrew}{double_quote}{hebrew})*+"
        rf"(?:{after_hebrew}{single_quote})?"
    )
    numbers = rf"{numeric}(?:(?:{mid_num})?{numeric})*+"
    run = rf"(?:(?:{letters}|{numbers})++|(?:{katakana})++)"
    # WB13a-b: underscores and their kind join runs of every sort.
    word = rf"(?:{join})*+{run}(?:(?:{join})++{run})*+(?:{join})*+"

    south_east_asian = rf"(?:\p{{LB=SA}}{ex})++"
    ideograph = rf"[\p{{L}}\p{{Script=Han}}\p{{Script=Hiragana}}]{ex}"
    # WB3c, WB15-16. Digits and the signs listed are emoji only where the text says so (U+FE0F).
    pictograph = (
        rf"(?:(?![0-9#*©®™〰〽\p{{RI}}])\p{{Emoji}}|[©®™〰〽]\uFE0F){ex}"
        rf"(?:(?<=\u200D)\p{{Extended_Pictographic}}{ex})*+"
    )
    flag = rf"\p{{RI}}{ex}\p{{RI}}{ex}"
    keycap = r"[#*]\uFE0F?\u20E3"
    return regex.compile(rf"{word}|{south_east_asian}|{ideograph}|{flag}|{keycap}|{pictograph}")


_WORD = _word_pattern()


def terms(text: str) -> list[str]:
    """The terms of a text, in order, repeats included."""
    return terms_of_all([text])[:-1]


def terms_of_all(texts: Sequence[str]) -> list[str]:
    """The terms of many texts in one list, `END_OF_TEXT` after those of each text."""
    others: list[str] = []
    prepared: list[str] = []
    for text in texts:
        ascii_part = _RESERVED.sub(" ", text)
        if not text.isascii():
            others += _OTHER_RUN.findall(ascii_part)
            ascii_part = _OTHER_RUN.sub(_HOLE, ascii_part)
        prepared.append(ascii_part)
    end = f" {END_OF_TEXT} "
    found = _ascii_terms(end.join(prepared) + end) if prepared else []
    if not others:
        return found
    filled: list[str] = []
    start = 0
    for run in others:
        hole = found.index(_HOLE, start)
        filled += found[start:hole]
        filled += _cached_terms(run) if len(run) <= _CACHED_RUN_CHARS else _unicode_terms(run)
        start = hole + 1
    filled += found[start:]
    return filled


def _ascii_terms(text: str) -> list[str]:
    found = _PARTING_SIGN.sub(" ", text).translate(_ASCII_FOLD).split()
    if "_" in text:
        found = [term for term in found if term.strip("_")]
    return _cut(found)


def _unicode_terms(text: str) -> list[str]:
    return _cut([_lower(word) for word in _WORD.findall(text)])


_cached_terms = lru_cache(maxsize=1 << 15)(_unicode_terms)


def _lower(word: str) -> str:
    # The two characters whose lower case str.lower takes from the context or from two characters.
    return (
        word.replace("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}")
        .replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i")
        .lower()
    )


def _cut(found: list[str]) -> list[str]:
    if max(map(len, found), default=0) <= MAX_TERM_CHARS:
        return found
    return [
        term[start : start + MAX_TERM_CHARS]
        for term in found
        for start in range(0, len(term), MAX_TERM_CHARS)
    ]
