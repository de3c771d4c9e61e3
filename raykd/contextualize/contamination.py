"""Decontamination: texts that contain a sentence of the evaluation splits."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raykd.contextualize.contamination_kernel import ContaminationKernel
from raykd.text.normalize import normalize, words

# Texts per batch; bounds the memory of the compiled filter.
_BATCH_ROWS = 8192


class Contamination(NamedTuple):
    """Position of the evaluation sentence in a text; `is_ngram`: the text has only part of it."""

    sentence: int
    is_ngram: bool


class ContaminationIndex:
    """Index of evaluation sentences that a text equals, contains, or shares an n-gram with.

    A text contains a sentence if the sentence's words occur in it consecutively; case, spacing and
    punctuation are ignored, and only whole words match. A sentence of fewer than `min_words` words
    contaminates only a text that is equal to it: phrases such as "it works" occur in many unrelated
    texts. With `ngram`, a text is also contaminated if it shares that many consecutive words with
    a sentence.

    A compiled filter selects the candidate texts by word hashes; only those are compared word by
    word. Its time per text is proportional to the text's length and does not depend on the number
    of sentences: sentences with the same first words are grouped by length, and each length costs
    one lookup.

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
        """Find the first evaluation sentence that contaminates the text, if any.

        Sentences that share only an n-gram are ignored if the text contains a whole sentence.
        """
        normalized = normalize(text)
        parts = words(normalized)
        key = " ".join(parts) or normalized
        contained = [self._whole[key]] if key in self._whole else []
        contained += self._contained(parts)
        if contained:
            return Contamination(min(contained), is_ngram=False)
        if self.ngram and self._ngrams:
            grams = (" ".join(window) for window in _windows(parts, self.ngram))
            matching = [self._ngrams[gram] for gram in grams if gram in self._ngrams]
            if matching:
                return Contamination(min(matching), is_ngram=True)
        return None

    def find_all(self, texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Apply `find` to each text.

        Args:
            texts: (N,) string or large_string.

        Returns:
            Positions of the sentences (N,), -1 for clean texts; and `is_ngram` (N,).
        """
        sentences = np.full(len(texts), -1, np.int32)
        is_ngram = np.zeros(len(texts), np.bool_)
        for first in range(0, len(texts), _BATCH_ROWS):
            batch = texts.slice(first, _BATCH_ROWS)
            for row in self._filter.suspects(batch).tolist():
                contamination = self.find(batch[row].as_py() or "")
                if contamination is not None:
                    sentences[first + row], is_ngram[first + row] = contamination
        return sentences, is_ngram

    def _contained(self, parts: list[str]) -> list[int]:
        positions = []
        for start, window in enumerate(_windows(parts, self.min_words)):
            for length, sentences in self._starting.get(" ".join(window), {}).items():
                position = sentences.get(" ".join(parts[start : start + length]))
                if position is not None:
                    positions.append(position)
        return positions


def _windows(parts: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(parts[skip:] for skip in range(size)), strict=False)
