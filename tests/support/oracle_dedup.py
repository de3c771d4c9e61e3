"""The slow, obvious versions of deduplication and leak check."""

from collections.abc import Callable, Sequence

from raykd.text.normalize import normalize, words


def first_equal(texts: Sequence[str]) -> list[int]:
    normalized = [normalize(text) for text in texts]
    return [normalized.index(text) for text in normalized]


def find_leak(
    text: str, sentences: Sequence[str], min_words: int, ngram: int | None = None
) -> tuple[int, bool] | None:
    """The position of the first sentence that leaks, and whether only an n-gram of it does."""
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
    return {tuple(parts[at : at + size]) for at in range(len(parts) - size + 1)} if parts else set()


def jaccard(left: str, right: str, shingle_words: int) -> float:
    one, other = shingle_set(left, shingle_words), shingle_set(right, shingle_words)
    return len(one & other) / len(one | other) if one | other else 0.0


def near_partners(
    texts: Sequence[str], threshold: float, shingle_words: int, has_key: Callable[[int, int], bool]
) -> list[int]:
    """The first kept text that each text is a near duplicate of, or itself where it is kept."""
    partners: list[int] = []
    for row, text in enumerate(texts):
        near = (
            other
            for other in range(row)
            if partners[other] == other
            and has_key(other, row)
            and jaccard(text, texts[other], shingle_words) >= threshold
        )
        partners.append(next(near, row))
    return partners
