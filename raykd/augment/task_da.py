"""TaskDA: augmentation of a task's sentences by word replacement.

Every word of the letters a to z that is not a stop word gets candidates: predictions of the masked
language model if the word is one piece (`predictions.py`), otherwise the words with the nearest
embeddings (`neighbors.py`). In each of N rounds every word draws one of its candidates uniformly
and is replaced by it with probability p. New sentences are kept, at most N in addition to the
original.

Source: Jiao et al. 2020, "TinyBERT: Distilling BERT for Natural Language Understanding"
(arXiv:1909.10351), Algorithm 1, with the settings of the authors' code
(TinyBERT/data_augmentation.py).

Differs from the authors' code: a sentence keeps its white space, its letters' case and its marks,
where theirs is lower-cased and joined by blanks ("won ' t"); an uncased BERT reads both alike, and
a round that replaces nothing is nothing new. Words with accents are no words of the letters a to z,
and the stop words are raykd's. NeighborFinder come from a model's word embeddings where no file is
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

# Rounds per sentence, as in the authors' code.
NUM_ROUNDS: Mapping[str, int] = {
    **dict.fromkeys(("cola", "mrpc", "rte", "stsb"), 30),
    **dict.fromkeys(("sst2", "qnli"), 20),
    **dict.fromkeys(("mnli", "qqp"), 10),
}
DEFAULT_ROUNDS = 30
MAX_ROUNDS = 9999

# Characters [start, stop) of a text.
Span = tuple[int, int]
# Position of a word, and its replacements.
Candidates = tuple[Span, Sequence[str]]

_SPLITTER = BertPreTokenizer()
_LETTERS = re.compile("[a-z]+")


class TaskDaConfig(Config):
    """Settings of the augmentation.

    `model` is a masked language model: a folder, package:NAME/FOLDER, or a name on the hub.
    Neighbors of words of several pieces are searched in the word embeddings of `embeddings_model`
    (by default `model`), or in `embeddings`, a file in GloVe's format. `num_rounds` is N,
    `num_candidates` M and `replace_probability` p in the paper.
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
            raise ValueError("set one of 'embeddings' and 'embeddings_model', not both")
        return self


def replaceable_words(text: str) -> list[Span]:
    """Positions of replaceable words: letters a to z, no stop words.

    Words are BERT's: runs without white space, with every punctuation mark a word of its own.
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
    """The text and its different variants from `num_rounds` rounds, in order.

    Args:
        text: a sentence.
        candidates: at least one candidate per word, in order of position.
        config: settings; its `seed` and the next two determine the draws.
        row_id: row of the example.
        sentence: index of the sentence in the example, 0 or 1.
    """
    generator = np.random.default_rng([config.seed, row_id, sentence])
    counts = np.array([len(words) for _, words in candidates], np.int64)
    # A dict keeps the insertion order of its keys.
    sentences: dict[str, None] = {text: None}
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
        sentences[_with_words(text, replaced)] = None
    return list(sentences)


def augmented_pairs(
    first: Sequence[str], second: Sequence[str] | None, *, compat: bool
) -> Iterator[tuple[str, str | None]]:
    """Rows made from one example, with one of its sentences changed.

    Args:
        first: the first sentence, then its variants.
        second: the second sentence and its variants; None for an example with one sentence.
        compat: whether to pair variants of the second sentence with the last variant of the first,
            not the original, as the authors' code does.
    """
    yield from ((text, second[0] if second else None) for text in first)
    if second:
        paired = first[-1] if compat else first[0]
        yield from ((paired, text) for text in second[0 if compat else 1 :])


def _is_replaceable(word: str) -> bool:
    small = word.lower()
    return _LETTERS.fullmatch(small) is not None and small not in STOP_WORDS


def _with_words(text: str, replaced: Sequence[tuple[Span, str]]) -> str:
    parts: list[str] = []
    end = 0
    for (start, stop), word in replaced:
        parts += (text[end:start], word)
        end = stop
    return "".join([*parts, text[end:]])
