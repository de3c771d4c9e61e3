"""Tables of the analyzer: word-break class and lower case of each character.

Unicode's default word boundaries (UAX #29, rules WB4-WB13b and WB15-16) are implemented as a finite
automaton over character classes; the names of the classes follow UAX #29, table 3.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

# Planes 4-13 are unassigned, and 15 and 16 are for private use: no word contains them.
_CODES = np.r_[0:0x40000, 0xE0000:0xE1000].astype(np.uint32)

_SIGNS = "©®™〰〽"
# Class -> its characters. Digits and signs are emoji only before U+FE0F.
_KINDS = {
    "a_letter": r"\p{WB=ALetter}",
    "hebrew": r"\p{WB=Hebrew_Letter}",
    "numeric": r"\p{WB=Numeric}",
    "katakana": r"\p{WB=Katakana}",
    "join": r"\p{WB=ExtendNumLet}",
    "mid_letter": r"[\p{WB=MidLetter}\p{WB=MidNumLet}\p{WB=Single_Quote}]",
    "mid_num": r"[\p{WB=MidNum}\p{WB=MidNumLet}\p{WB=Single_Quote}]",
    "single_quote": r"\p{WB=Single_Quote}",
    "double_quote": r"\p{WB=Double_Quote}",
    "extend": r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]",
    "zwj": r"\p{WB=ZWJ}",
    "south_east_asian": r"\p{LB=SA}",
    "ideograph": r"[\p{L}\p{Script=Han}\p{Script=Hiragana}]",
    "regional": r"\p{RI}",
    "keycap_base": r"[#*]",
    "emoji": rf"[\p{{Emoji}}--[0-9#*{_SIGNS}\p{{RI}}]]",
    "sign": rf"[{_SIGNS}]",
    "emoji_style": r"\uFE0F",
    "keycap": r"\u20E3",
    "pictograph": r"\p{Extended_Pictographic}",
}

# (states, class of the next character, next state); the first matching rule applies.
# WB4: a character that extends others does not change the state.
_RUN = ("letter", "hebrew", "number", "hebrew'")
_RULES = [
    # WB5-WB7c, WB8-WB12: letters and digits, and signs between two of them.
    (("", "_", "x_", "letter.", *_RUN), "a_letter", "letter"),
    (("", "_", "x_", "letter.", 'hebrew"', *_RUN), "hebrew", "hebrew"),
    (("", "_", "x_", "number.", *_RUN), "numeric", "number"),
    (("hebrew",), "single_quote", "hebrew'"),
    (("hebrew",), "double_quote", 'hebrew"'),
    (("letter", "hebrew"), "mid_letter", "letter."),
    (("number",), "mid_num", "number."),
    # WB13-WB13b: katakana; underscores and similar characters join all kinds of runs.
    (("", "_", "x_", "katakana"), "katakana", "katakana"),
    (("", "_"), "join", "_"),
    (("x_", "katakana", *_RUN), "join", "x_"),
    # Lucene's rules for scripts without blanks.
    (("", "south_east_asian"), "south_east_asian", "south_east_asian"),
    (("",), "ideograph", "ideograph"),
    # WB3c, WB15-16 and keycaps.
    (("",), "regional", "half_flag"),
    (("half_flag",), "regional", "flag"),
    (("",), "keycap_base", "#"),
    (("#",), "emoji_style", "#style"),
    (("#", "#style"), "keycap", "keycap"),
    (("",), "emoji", "emoji"),
    (("",), "sign", "sign"),
    (("sign",), "emoji_style", "emoji"),
    (("emoji", "emoji_zwj"), "zwj", "emoji_zwj"),
    (("emoji", "emoji_zwj"), "extend", "emoji"),
    (("emoji_zwj",), "pictograph", "emoji"),
]
_EXTENDABLE = {"_", "letter.", "number.", 'hebrew"', "half_flag", "x_", "katakana", *_RUN} | {
    "south_east_asian", "ideograph", "flag"
}  # fmt: skip
# A word cannot end in these states.
_OPEN = ["", "_", "letter.", "number.", 'hebrew"', "half_flag", "#", "#style", "sign"]
_CLOSED = ["x_", "katakana", *_RUN, "south_east_asian", "ideograph", "flag", "keycap"]
_CLOSED += ["emoji", "emoji_zwj"]
_STATES = ["dead", *_OPEN, *_CLOSED]

DEAD = 0
START = _STATES.index("")
LEADING_JOINS = _STATES.index("_")
FIRST_CLOSED = len(_OPEN) + 1


class Characters(NamedTuple):
    """Tables over code points; code points beyond the end of a table use its last entry.

    Attributes:
        columns: (C,) column of `next_states` for each code point.
        lower: (L,) lower case of each code point; larger code points have no lower case.
        next_states: (states, columns) transitions of the automaton. When it reaches `DEAD`, the
            word ends after the last visited state that is at least `FIRST_CLOSED`.
    """

    columns: NDArray[np.uint8]
    lower: NDArray[np.uint32]
    next_states: NDArray[np.uint8]


@cache
def characters() -> Characters:
    """Build the tables from the Unicode data of `regex` (words) and Python (lower case)."""
    text = _CODES.tobytes().decode("utf-32-le", "surrogatepass")
    properties = np.zeros(_CODES[-1] + 2, np.uint32)
    for bit, members in enumerate(_KINDS.values()):
        for match in regex.compile(f"{members}++", regex.V1).finditer(text):
            properties[_CODES[match.start() : match.end()]] |= np.uint32(1 << bit)
    combinations, columns = np.unique(properties, return_inverse=True)
    next_states = [[_next(state, kinds) for kinds in _kinds(combinations)] for state in _STATES]
    return Characters(columns.astype(np.uint8), _lower(text), np.array(next_states, np.uint8))


def _kinds(combinations: NDArray[np.uint32]) -> Iterator[set[str]]:
    for bits in combinations.tolist():
        yield {kind for bit, kind in enumerate(_KINDS) if bits >> bit & 1}


def _next(state: str, kinds: set[str]) -> int:
    if state in _EXTENDABLE and "extend" in kinds:
        return _STATES.index(state)
    for states, kind, after in _RULES:
        if state in states and kind in kinds:
            return _STATES.index(after)
    return DEAD


def _lower(text: str) -> NDArray[np.uint32]:
    # str.lower treats these two characters by context, or maps them to two characters.
    one_by_one = (
        text.replace("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}")
        .replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i")
        .lower()
    )
    lower = np.frombuffer(one_by_one.encode("utf-32-le", "surrogatepass"), np.uint32)
    changed = np.flatnonzero(lower != _CODES)
    return lower[: changed[-1] + 1].copy()
