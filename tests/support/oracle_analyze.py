"""Naive implementation of the analyzer as one regular expression."""

import regex

MAX_TERM_CHARS = 255


def word_pattern() -> regex.Pattern[str]:
    # Names follow UAX #29, table 3. WB4: extending characters belong to their base.
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
    # WB13a-b: underscores and similar characters join all kinds of runs.
    word = rf"(?:{join})*+{run}(?:(?:{join})++{run})*+(?:{join})*+"

    south_east_asian = rf"(?:\p{{LB=SA}}{ex})++"
    ideograph = rf"[\p{{L}}\p{{Script=Han}}\p{{Script=Hiragana}}]{ex}"
    # WB3c, WB15-16. Digits and the listed signs are emoji only before U+FE0F.
    pictograph = (
        rf"(?:(?![0-9#*©®™〰〽\p{{RI}}])\p{{Emoji}}|[©®™〰〽]\uFE0F){ex}"
        rf"(?:(?<=\u200D)\p{{Extended_Pictographic}}{ex})*+"
    )
    flag = rf"\p{{RI}}{ex}\p{{RI}}{ex}"
    keycap = r"[#*]\uFE0F?\u20E3"
    return regex.compile(rf"{word}|{south_east_asian}|{ideograph}|{flag}|{keycap}|{pictograph}")


WORD = word_pattern()


def terms(text: str) -> list[str]:
    """Return the terms of a text in order."""
    words = [lower(word) for word in WORD.findall(text)]
    return [
        word[start : start + MAX_TERM_CHARS]
        for word in words
        for start in range(0, len(word), MAX_TERM_CHARS)
    ]


def lower(word: str) -> str:
    """Convert to lower case, one character at a time."""
    return "".join("i" if character == "İ" else character.lower() for character in word)
