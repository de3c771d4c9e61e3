"""Whether a text holds a sentence a model is to be examined on."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raykd.contextualize.contamination_kernel import ContaminationKernel
from raykd.text.normalize import normalize, words

# Texts looked through at once: bounds what the compiled filter holds beside them.
_BATCH_ROWS = 8192


class Contamination(NamedTuple):
    """The evaluation sentence (a position) that leaks into a text; `is_ngram`: only part of it."""

    sentence: int
    is_ngram: bool


class ContaminationIndex:
    """Finds the evaluation sentences that a text equals, contains, or shares words in a row with.

    A sentence is contained where its words follow each other in the text; case, spacing and
    punctuation make no difference, and a word is never found inside another one. A sentence of
    fewer than `min_words` words leaks only through a text that is equal to it: "it works" stands
    in too many texts that were never copied. With `ngram`, a text leaks as well that has that many
    words in a row in common with a sentence.

    A compiled filter passes over the texts and leaves those in which something may be found,
    hashes of words being equal; they alone are compared word by word. Its time for a text grows
    with the text's length, not with the number of sentences: sentences with the same first words
    are grouped by length, and a length costs one look-up.

    Source of `ngram`: 13 in Brown et al. 2020 (GPT-3, appendix C: N is the 5th percentile of the
    lengths of a data set's examples, at least 8 and at most 13), 8 in Radford et al. 2019 (GPT-2,
    section 4) and, of a share of 70 %, in Chowdhery et al. 2022 (PaLM); over 10 in Touvron et al.
    2023 (Llama 2, section A.6).
    """

    def __init__(self, sentences: Sequence[str], min_words: int, ngram: int | None = None) -> None:
        assert min_words >= 1
        self.sentences = sentences
        self.min_words = min_words
        self.ngram = ngram
        self._whole: dict[str, int] = {}
        self._starting: dict[str, dict[int, dict[str, int]]] = {}
        self._ngrams: dict[str, int] = {}
        for position, sentence in enumerate(sentences):
            text = normalize(sentence)
            parts = words(text)
            key = " ".join(parts) or text
            if not key or key in self._whole:
                continue
            self._whole[key] = position
            if len(parts) >= min_words:
                lengths = self._starting.setdefault(" ".join(parts[:min_words]), {})
                lengths.setdefault(len(parts), {})[key] = position
            for window in _windows(parts, ngram) if ngram else ():
                self._ngrams.setdefault(" ".join(window), position)
        self._filter = ContaminationKernel(list(self._whole), min_words, ngram)

    def find(self, text: str) -> Contamination | None:
        """The first sentence in the given order that leaks into the text, if any.

        Where the text holds whole sentences, those that it shares only an n-gram with do not count.
        """
        normalized = normalize(text)
        parts = words(normalized)
        key = " ".join(parts) or normalized
        found = [self._whole[key]] if key in self._whole else []
        found += self._contained(parts)
        if found:
            return Contamination(min(found), is_ngram=False)
        if self.ngram and self._ngrams:
            grams = (" ".join(window) for window in _windows(parts, self.ngram))
            shared = [self._ngrams[gram] for gram in grams if gram in self._ngrams]
            if shared:
                return Contamination(min(shared), is_ngram=True)
        return None

    def find_all(self, texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """`find` for each text.

        Args:
            texts: (N,) string or large_string.

        Returns:
            The sentences' positions (N,), -1 where there is none, and `is_ngram` (N,).
        """
        sentences = np.full(len(texts), -1, np.int32)
        is_ngram = np.zeros(len(texts), np.bool_)
        for first in range(0, len(texts), _BATCH_ROWS):
            batch = texts.slice(first, _BATCH_ROWS)
            for row in self._filter.suspects(batch).tolist():
                leak = self.find(batch[row].as_py() or "")
                if leak is not None:
                    sentences[first + row], is_ngram[first + row] = leak
        return sentences, is_ngram

    def _contained(self, parts: list[str]) -> list[int]:
        found = []
        for start, window in enumerate(_windows(parts, self.min_words)):
            for length, sentences in self._starting.get(" ".join(window), {}).items():
                position = sentences.get(" ".join(parts[start : start + length]))
                if position is not None:
                    found.append(position)
        return found


def _windows(parts: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(parts[skip:] for skip in range(size)), strict=False)
