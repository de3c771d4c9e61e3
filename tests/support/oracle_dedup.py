"""Naive implementations of deduplication and of the contamination check."""

from collections.abc import Callable, Sequence

from raykd.text.normalize import normalize, words


def first_equal(texts: Sequence[str]) -> list[int]:
    normalized = [normalize(text) for text in texts]
    return [normalized.index(text) for text in normalized]


def find_leak(
    text: str, sentences: Sequence[str], min_words: int, ngram: int | None = None
) -> tuple[int, bool] | None:
    """Return the index of the first leaked sentence and True if only an n-gram of it leaks."""
    for position, sentence in enumerate(sentences):
        if _holds(text, sentence, min_words):
            return position, False
    for position, sentence in enumerate(sentences):
        if ngram and _ngrams(text, ngram) & _ngrams(sentence, ngram):
            return position, True
    return None


def _ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    parts = words(normalize(text))
    return {tuple(parts[start : start + size]) for start in range(len(parts) - size + 1)}


def _holds(text: str, sentence: str, min_words: int) -> bool:
    inside, looked_for = words(normalize(text)), words(normalize(sentence))
    if not looked_for:
        return normalize(sentence) == normalize(text) != ""
    if looked_for == inside:
        return True
    return len(looked_for) >= min_words and any(
        inside[start : start + len(looked_for)] == looked_for for start in range(len(inside))
    )


def shingle_set(text: str, shingle_words: int) -> set[tuple[str, ...]]:
    parts = words(normalize(text))
    size = min(shingle_words, len(parts))
    return (
        {tuple(parts[start : start + size]) for start in range(len(parts) - size + 1)}
        if parts
        else set()
    )


def jaccard(left: str, right: str, shingle_words: int) -> float:
    left_set, right_set = shingle_set(left, shingle_words), shingle_set(right, shingle_words)
    return len(left_set & right_set) / len(left_set | right_set) if left_set | right_set else 0.0


def near_partners(
    texts: Sequence[str], threshold: float, shingle_words: int, has_key: Callable[[int, int], bool]
) -> list[int]:
    """Return per text the first kept text that it is a near duplicate of, or itself if kept."""
    partners: list[int] = []
    for row, text in enumerate(texts):
        near = (
            kept
            for kept in range(row)
            if partners[kept] == kept
            and has_key(kept, row)
            and jaccard(text, texts[kept], shingle_words) >= threshold
        )
        partners.append(next(near, row))
    return partners
