"""TaskDA: a task's sentences with some of their words replaced, the papers' augmentation baseline.

Every word of a sentence that is made of the letters a to z and is no stop word gets candidates:
where the masked language model has the word as one piece, what it predicts in its place
(`predictions.py`); else the words with the nearest embeddings (`neighbours.py`). In each of N
rounds every word draws one of its candidates, uniformly, and is replaced by it with probability p.
A round's sentence is kept if it is new, so that there are at most N beside the original.

Source: Jiao et al. 2020, "TinyBERT", Algorithm 1, with the settings of the authors' code
(TinyBERT/data_augmentation.py).

Differs from the authors' code: a sentence keeps its white space, its letters' case and its marks,
where theirs is lower-cased and joined by blanks ("won ' t"); an uncased BERT reads both alike, and
a round that replaces nothing is nothing new. Words with accents are no words of the letters a to z,
and the stop words are raykd's. Neighbours come from a model's word embeddings where no file is
given, theirs from GloVe. Special tokens are no candidates. Where the two copies of a sentence that
the model reads are too long together, both are cut, theirs only the second. While one sentence of a
pair changes the other is the original one, unless `compat` is set (see `augmented_pairs`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import Field, model_validator
from tokenizers.pre_tokenizers import BertPreTokenizer

from raykd.config import Config
from raykd.text.stop_words import STOP_WORDS

# Rounds a sentence, as in the authors' code.
NUM_ROUNDS: Mapping[str, int] = {
    **dict.fromkeys(("cola", "mrpc", "rte", "stsb"), 30),
    **dict.fromkeys(("sst2", "qnli"), 20),
    **dict.fromkeys(("mnli", "qqp"), 10),
}
DEFAULT_ROUNDS = 30
MAX_ROUNDS = 9999

# Characters [start, stop) of a text.
Span = tuple[int, int]
# A word's place, and what may take it.
Candidates = tuple[Span, Sequence[str]]

_SPLITTER = BertPreTokenizer()
_LETTERS = re.compile("[a-z]+")


class TaskDaConfig(Config):
    """How a task's sentences are augmented.

    `model` is a masked language model: a folder, package:NAME/FOLDER, or a name on the hub. The
    neighbours of words of several pieces are found in the word embeddings of `embeddings_model`
    (None: of `model`), or in `embeddings`, a file as GloVe's (a word and its numbers a line,
    parted by blanks). `num_rounds` N, `num_candidates` M and `replace_probability` p are the
    paper's.
    """

    model: str
    embeddings_model: str | None = None
    embeddings: str | None = None
    num_rounds: int = Field(DEFAULT_ROUNDS, ge=1, le=MAX_ROUNDS)
    num_candidates: int = Field(15, ge=1)
    replace_probability: float = Field(0.4, gt=0, le=1)
    seed: int = Field(0, ge=0)
    compat: bool = False
    use_gpu: bool = False

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if self.embeddings is not None and self.embeddings_model is not None:
            raise ValueError("give one of 'embeddings' and 'embeddings_model', not both")
        return self


def replaceable_words(text: str) -> list[Span]:
    """Where the words stand that may be replaced: of letters a to z, and no stop words.

    Words are those of BERT: runs without white space, of which every punctuation mark is one.
    """
    return [span for word, span in _SPLITTER.pre_tokenize_str(text) if _is_replaceable(word)]


def variants(
    text: str,
    candidates: Sequence[Candidates],
    config: TaskDaConfig,
    *,
    row_id: int,
    sentence: int,
) -> list[str]:
    """The text, and the different ones that `num_rounds` rounds make of it, in their order.

    Args:
        text: a sentence.
        candidates: of its words, in the order of their places; one at least for each.
        config: settings; with its `seed`, the next two decide what is drawn.
        row_id: of the example.
        sentence: 0 or 1, which one of the example it is.
    """
    generator = np.random.default_rng([config.seed, row_id, sentence])
    counts = np.array([len(words) for _, words in candidates], np.int64)
    # A dict keeps the order in which keys come.
    found: dict[str, None] = {text: None}
    for _ in range(config.num_rounds):
        choices = (generator.random(len(counts)) * counts).astype(np.int64).tolist()
        is_replaced = (generator.random(len(counts)) < config.replace_probability).tolist()
        replaced = [
            (span, words[choice])
            for (span, words), choice, is_drawn in zip(
                candidates, choices, is_replaced, strict=True
            )
            if is_drawn
        ]
        found[_with_words(text, replaced)] = None
    return list(found)


def augmented_pairs(
    first: Sequence[str], second: Sequence[str] | None, *, compat: bool
) -> Iterator[tuple[str, str | None]]:
    """The rows made of one example: one of its sentences changes, the other does not.

    Args:
        first: variants of the first sentence, itself at the head.
        second: of the second; None for an example of one sentence.
        compat: as the authors' code, which edits a row in its place: beside the variants of the
            second sentence stands the last variant of the first, not the original.
    """
    yield from ((text, second[0] if second else None) for text in first)
    if second:
        beside = first[-1] if compat else first[0]
        yield from ((beside, text) for text in second[0 if compat else 1 :])


def _is_replaceable(word: str) -> bool:
    small = word.lower()
    return _LETTERS.fullmatch(small) is not None and small not in STOP_WORDS


def _with_words(text: str, replaced: Sequence[tuple[Span, str]]) -> str:
    parts: list[str] = []
    at = 0
    for (start, stop), word in replaced:
        parts += (text[at:start], word)
        at = stop
    return "".join([*parts, text[at:]])
