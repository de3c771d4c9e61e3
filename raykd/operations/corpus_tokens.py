"""Tokens of a vocabulary that the texts of a corpus contain, counted on Ray."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raykd import progress
from raykd.cluster import datasets
from raykd.corpus.pipeline import one_of_equal, sources_with_digests
from raykd.corpus.rows import Columns
from raykd.corpus.shards import SHARD_BYTES, Part, files_of_parts, plan_shards
from raykd.corpus.texts import read_texts
from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.tokenization.pruning import count_tokens
from raykd.storage.locations import Location, shown
from raykd.storage.remote.task_files import TaskFiles


def count_corpus_tokens(
    model: str, corpus: Sequence[Location], text_columns: Sequence[str], num_tokens: int, out: Path
) -> NDArray[np.int64]:
    """Count the tokens of a model's vocabulary in a corpus, (num_tokens,).

    Args:
        model: model reference, see `resolve_model`.
        corpus: files and folders.
        text_columns: the column of the text, or the two of a pair.
        num_tokens: size of the vocabulary.
        out: output, which must not be in an input folder.

    Raises:
        InputError: a file cannot be read, or there is no text.
    """
    by_digest = one_of_equal(sources_with_digests(corpus, out))
    results = datasets.for_each(
        _count,
        plan_shards(by_digest.items(), SHARD_BYTES),
        label="tokens",
        shared={"model": model, "text_columns": text_columns, "num_tokens": num_tokens},
        files=lambda parts: TaskFiles(files_of_parts(parts)),
    )
    counts = np.sum([counts for counts, _ in results], axis=0)
    if num_unreadable := sum(number for _, number in results):
        progress.say(f"{num_unreadable:,} rows cannot be read and are left out", level="warning")
    if not results or not counts.any():
        where = ", ".join(shown(path) for path in corpus)
        names = " and ".join(map(repr, text_columns))
        raise InputError(
            f"{where}: there is no text in the column {names}; name it with --text-columns"
        )
    return np.asarray(counts, np.int64)


def _count(
    parts: Sequence[Part], *, model: str, text_columns: Sequence[str], num_tokens: int
) -> tuple[NDArray[np.int64], int]:
    tokenizer = load_tokenizer(model)
    counts, num_unreadable = np.zeros(num_tokens, np.int64), 0
    for part in parts:
        of_columns = []
        for name in text_columns:
            num_bad = 0
            for texts in read_texts(part.piece, Columns(text=name, ids=(), title=None)):
                data = texts.data.tobytes()
                places = zip(texts.starts.tolist(), texts.stops.tolist(), strict=True)
                decoded = [data[start:stop].decode() for start, stop in places]
                counts += count_tokens(tokenizer, decoded, num_tokens)
                num_bad += len(texts.bad)
            of_columns.append(num_bad)
        num_unreadable += max(of_columns)
    return counts, num_unreadable
