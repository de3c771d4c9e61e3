"""The slow, obvious versions of deduplication and leak check."""

from collections.abc import Sequence

from raykd.dedup.exact import normalise, words


def first_equal(texts: Sequence[str]) -> list[int]:
    normalised = [normalise(text) for text in texts]
    return [normalised.index(text) for text in normalised]


def find_leak(text: str, sentences: Sequence[str], min_words: int) -> str | None:
    inside = words(normalise(text))
    for sentence in sentences:
        looked_for = words(normalise(sentence))
        if not looked_for:
            if normalise(sentence) and normalise(sentence) == normalise(text):
                return sentence
        elif looked_for == inside:
            return sentence
        elif len(looked_for) >= min_words:
            for start in range(len(inside)):
                if inside[start : start + len(looked_for)] == looked_for:
                    return sentence
    return None
