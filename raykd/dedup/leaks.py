"""Whether a text holds a sentence a model is to be examined on."""

from collections.abc import Iterator, Sequence

from raykd.dedup.exact import normalise, words


class LeakIndex:
    """Finds the evaluation sentences that a text equals or contains, compared word by word.

    A sentence is contained where its words follow each other in the text; case, spacing and
    punctuation make no difference, and a word is never found inside another one. A sentence of
    fewer than `min_words` words leaks only through a text that is equal to it: "it works" stands
    in too many texts that were never copied. The time for a text grows with its length, not with
    the number of sentences: sentences with the same first words are grouped by length, and a
    length costs one look-up.
    """

    def __init__(self, sentences: Sequence[str], min_words: int) -> None:
        assert min_words >= 1
        self._min_words = min_words
        self._sentences = sentences
        self._whole: dict[str, int] = {}
        self._starting: dict[tuple[str, ...], dict[int, dict[str, int]]] = {}
        for position, sentence in enumerate(sentences):
            text = normalise(sentence)
            parts = words(text)
            key = " ".join(parts) or text
            if not key or key in self._whole:
                continue
            self._whole[key] = position
            if len(parts) >= min_words:
                lengths = self._starting.setdefault(tuple(parts[:min_words]), {})
                lengths.setdefault(len(parts), {})[key] = position
        self._starts = frozenset(self._starting)

    def find(self, text: str) -> str | None:
        """The first sentence in the given order that leaks into the text, if any."""
        normalised = normalise(text)
        parts = words(normalised)
        key = " ".join(parts) or normalised
        found = [self._whole[key]] if key in self._whole else []
        if not self._starts.isdisjoint(self._windows(parts)):
            found += self._contained(parts)
        return self._sentences[min(found)] if found else None

    def _windows(self, parts: list[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(parts[skip:] for skip in range(self._min_words)), strict=False)

    def _contained(self, parts: list[str]) -> list[int]:
        found = []
        for start, window in enumerate(self._windows(parts)):
            for length, sentences in self._starting.get(window, {}).items():
                position = sentences.get(" ".join(parts[start : start + length]))
                if position is not None:
                    found.append(position)
        return found
