"""English function words, which say little of what a text is about: one list for all rooms."""

from importlib.resources import files

STOP_WORDS = frozenset(files("raykd").joinpath("stop_words.txt").read_text().split())
