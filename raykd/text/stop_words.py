"""Lists of English stop words: raykd's own, and that of NLTK, which rake-nltk uses."""

from importlib.resources import files
from typing import Literal

StopWordsName = Literal["nltk", "raykd"]


def _words_of(name: str) -> frozenset[str]:
    lines = files("raykd.text").joinpath(name).read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


STOP_WORDS = _words_of("stop_words.txt")
NLTK_STOP_WORDS = _words_of("nltk_stop_words.txt")


def stop_words_of(chosen: StopWordsName | tuple[str, ...]) -> frozenset[str]:
    """Look up a list by name, or lower-case a custom list."""
    if chosen == "nltk":
        return NLTK_STOP_WORDS
    return STOP_WORDS if chosen == "raykd" else frozenset(word.lower() for word in chosen)
