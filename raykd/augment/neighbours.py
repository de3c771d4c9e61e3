"""The words whose embeddings are nearest to a word's, by cosine.

FAISS finds candidates in float32; their cosines are computed anew in float64, each by itself, as
the sums of a matrix product depend on its shape.
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

# Words of a file that are read, as in the authors' code.
MAX_FILE_WORDS = 100_000
# Candidates beyond those wanted, for the order of float64; one of them is the word itself.
_SPARE = 17


class WordEmbeddings(Protocol):
    """Words, one row of numbers for each, and a row for any other word that can have one."""

    words: Sequence[str]
    vectors: NDArray[np.float32]  # (W, d)

    def vector_of(self, word: str) -> NDArray[np.float32] | None:
        """(d,), or None where the word is not known."""


class ModelEmbeddings:
    """The word embeddings of a model: words are its pieces that are whole words.

    Any other word is the mean of its pieces' embeddings.

    Args:
        table: (V, d) of all pieces.
        tokenizer: the model's.
        reference: its name, for messages.
    """

    def __init__(
        self, table: NDArray[np.float32], tokenizer: PreTrainedTokenizerBase, reference: str
    ) -> None:
        whole = Pieces(tokenizer, reference).whole_words()
        self.words: Sequence[str] = [word for _, word in whole]
        self.vectors = table[[at for at, _ in whole]]
        self._table, self._tokenizer = table, tokenizer

    def vector_of(self, word: str) -> NDArray[np.float32] | None:
        """As the protocol."""
        # As it stands inside a sentence: for byte-level BPE a word begins with the blank before it.
        ids = self._tokenizer.encode(f" {word}", add_special_tokens=False)
        if not ids or self._tokenizer.unk_token_id in ids:
            return None
        return np.asarray(self._table[ids].mean(0), np.float32)


class FileEmbeddings:
    """The first words of a file as GloVe's: a word and its numbers a line, parted by blanks.

    Raises:
        InputError: the file cannot be read, or a line does not hold a word and so many numbers.
    """

    def __init__(self, path: Path) -> None:
        words: dict[str, int] = {}
        rows: list[NDArray[np.float32]] = []
        with explained(path), path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                # Some words of GloVe hold blanks.
                width = len(rows[0]) if rows else line.count(" ")
                word, *numbers = line.rstrip().rsplit(" ", width) if width else ("",)
                vector = _numbers(numbers)
                if vector is None or len(vector) != width or not word:
                    raise InputError(
                        f"{path}, line {number}: a word and {width or 'some'} numbers are "
                        "expected, parted by blanks, as in the files of GloVe"
                    )
                if word not in words:
                    words[word] = len(rows)
                    rows.append(vector)
                if len(words) == MAX_FILE_WORDS:
                    break
        if not rows:
            raise InputError(f"{path}: is empty; give a file of word embeddings")
        self.words: Sequence[str] = list(words)
        self.vectors = np.stack(rows)
        self._rows = words

    def vector_of(self, word: str) -> NDArray[np.float32] | None:
        """As the protocol; a file of small letters knows a word by them."""
        row = self._rows.get(word, self._rows.get(word.lower()))
        return None if row is None else self.vectors[row]


class Neighbours:
    """Finds the words nearest to a word.

    Args:
        embeddings: of the words that can be found.
    """

    def __init__(self, embeddings: WordEmbeddings) -> None:
        import faiss  # loads a second OpenMP library: only where it is needed

        faiss.omp_set_num_threads(1)
        self._embeddings = embeddings
        self._vectors = _of_length_one(embeddings.vectors)
        self._index: Any = faiss.IndexFlatIP(self._vectors.shape[1])
        self._index.add(self._vectors)

    def nearest(self, words: Sequence[str], num_best: int) -> dict[str, list[str]]:
        """The `num_best` nearest of each word, the nearest first; none of a word not known.

        Equal cosines stand in the order of the embeddings. A word is no neighbour of itself, in
        whatever letters.
        """
        found: dict[str, list[str]] = {word: [] for word in words}
        vectors = {
            word: vector
            for word in words
            if (vector := self._embeddings.vector_of(word)) is not None
        }
        if not vectors or not len(self._vectors):
            return found
        queries = _of_length_one(np.stack(list(vectors.values())))
        width = min(num_best + _SPARE, len(self._vectors))
        _, rows = self._index.search(queries, width)
        for word, query, near in zip(vectors, queries.astype(np.float64), rows, strict=True):
            cosines = (self._vectors[near].astype(np.float64) * query).sum(1)
            ordered = [self._embeddings.words[at] for at in near[np.lexsort((near, -cosines))]]
            others = [other for other in ordered if other.lower() != word.lower()]
            found[word] = others[:num_best]
        return found


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(1, keepdims=True))
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-30), np.float32)


def _numbers(fields: Sequence[str]) -> NDArray[np.float32] | None:
    try:
        vector = np.array(fields, np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
