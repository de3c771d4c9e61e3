"""Nearest words by cosine similarity of word embeddings.

FAISS finds candidates in float32; their cosines are recomputed one by one in float64, since
rounding of a matrix product depends on its shape.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from raykd.augment.pieces import Pieces
from raykd.errors import InputError
from raykd.storage.locations import explained

# Words read from a file, as in the authors' code.
MAX_FILE_WORDS = 100_000
# Additional candidates for the reordering in float64; one of them is the word itself.
_SPARE = 17


class WordEmbeddings(Protocol):
    """Word embeddings: a table of words, and vectors of other words if possible."""

    words: Sequence[str]
    vectors: NDArray[np.float32]  # (W, d)

    def vector_of(self, word: str) -> NDArray[np.float32] | None:
        """Vector (d,) of a word; None if it has none."""


class ModelEmbeddings:
    """Word embeddings of a model, whose words are the pieces that are whole words.

    Other words have the mean of their pieces' embeddings.

    Args:
        table: embeddings (V, d) of all pieces.
        tokenizer: tokenizer of the model.
        reference: model reference, for messages.
    """

    def __init__(
        self, table: NDArray[np.float32], tokenizer: PreTrainedTokenizerBase, reference: str
    ) -> None:
        whole = Pieces(tokenizer, reference).whole_words()
        self.words: Sequence[str] = [word for _, word in whole]
        self.vectors = table[[piece for piece, _ in whole]]
        self._table, self._tokenizer = table, tokenizer

    def vector_of(self, word: str) -> NDArray[np.float32] | None:
        """Vector of a word; see `WordEmbeddings`."""
        # With a leading blank, as inside a sentence (byte-level BPE).
        ids = self._tokenizer.encode(f" {word}", add_special_tokens=False)
        if not ids or self._tokenizer.unk_token_id in ids:
            return None
        return np.asarray(self._table[ids].mean(0), np.float32)


class FileEmbeddings:
    """Word embeddings from a file in GloVe's format: per line a word and its numbers.

    Raises:
        InputError: the file cannot be read, or a line does not have a word and the same number of
            values as the others.
    """

    def __init__(self, path: Path) -> None:
        words: dict[str, int] = {}
        rows: list[NDArray[np.float32]] = []
        with explained(path), path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                # Some words of GloVe contain blanks.
                width = len(rows[0]) if rows else line.count(" ")
                word, *numbers = line.rstrip().rsplit(" ", width) if width else ("",)
                vector = _numbers(numbers)
                if vector is None or len(vector) != width or not word:
                    raise InputError(
                        f"{path}, line {number}: expected a word and {width or 'some'} numbers "
                        "separated by blanks, as in GloVe's files"
                    )
                if word not in words:
                    words[word] = len(rows)
                    rows.append(vector)
                if len(words) == MAX_FILE_WORDS:
                    break
        if not rows:
            raise InputError(f"{path}: is empty; name a file of word embeddings")
        self.words: Sequence[str] = list(words)
        self.vectors = np.stack(rows)
        self._rows = words

    def vector_of(self, word: str) -> NDArray[np.float32] | None:
        """Vector of a word; a lower-case file is searched for the lower-case word."""
        row = self._rows.get(word, self._rows.get(word.lower()))
        return None if row is None else self.vectors[row]


class NeighborFinder:
    """Index of the words nearest to a word.

    Args:
        embeddings: embeddings of the searched words.
    """

    def __init__(self, embeddings: WordEmbeddings) -> None:
        import faiss  # loads a second OpenMP library, so imported only if needed

        faiss.omp_set_num_threads(1)
        self._embeddings = embeddings
        self._vectors = _of_length_one(embeddings.vectors)
        self._index: Any = faiss.IndexFlatIP(self._vectors.shape[1])
        self._index.add(self._vectors)

    def nearest(self, words: Sequence[str], num_best: int) -> dict[str, list[str]]:
        """The `num_best` nearest words per word, nearest first; none for an unknown word.

        Ties are in the order of the embeddings. A word is not its own neighbor, in any letter case.
        """
        neighbors: dict[str, list[str]] = {word: [] for word in words}
        vectors = {
            word: vector
            for word in words
            if (vector := self._embeddings.vector_of(word)) is not None
        }
        if not vectors or not len(self._vectors):
            return neighbors
        queries = _of_length_one(np.stack(list(vectors.values())))
        width = min(num_best + _SPARE, len(self._vectors))
        _, rows = self._index.search(queries, width)
        for word, query, near in zip(vectors, queries.astype(np.float64), rows, strict=True):
            cosines = (self._vectors[near].astype(np.float64) * query).sum(1)
            ordered = [self._embeddings.words[i] for i in near[np.lexsort((near, -cosines))]]
            others = [other for other in ordered if other.lower() != word.lower()]
            neighbors[word] = others[:num_best]
        return neighbors


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(1, keepdims=True))
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-30), np.float32)


def _numbers(fields: Sequence[str]) -> NDArray[np.float32] | None:
    try:
        vector = np.array(fields, np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
