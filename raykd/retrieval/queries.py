"""Queries of a task: the keywords of every task sentence, or the whole sentence."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence, Set
from itertools import groupby
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from raykd.errors import InputError
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.locations import Location
from raykd.storage.schemas import QUERIES
from raykd.storage.tables import read_table
from raykd.text.analyzer import terms
from raykd.text.stop_words import NLTK_STOP_WORDS, StopWordsName, stop_words_of

Keywords = Literal["rake", "none"]
StopWords = StopWordsName | tuple[str, ...]
# Signature of `cluster.datasets.for_each`.
ForEach = Callable[..., list[list[str]]]

# As in TLM's code (Yao et al. 2022, arXiv:2111.04130).
NUM_PHRASES = 20

# Sentences per task: about a second of RAKE.
_SENTENCES_PER_TASK = 20_000

_INT64_MAX = (1 << 63) - 1

_PUNCTUATION = frozenset(string.punctuation)
# Single signs at the end of a sentence are phrase breaks. This pattern splits at several
# consecutive signs, which the word pattern would match as one word.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_WORD = re.compile(r"\w+|[^\w\s]+")


def task_sentences(examples: pa.Table) -> list[str]:
    """List the distinct sentences of a task in order of appearance; pairs are split.

    Args:
        examples: a table of `schemas.EXAMPLES`.
    """
    pairs = zip(examples["sentence1"].to_pylist(), examples["sentence2"].to_pylist(), strict=True)
    return list(dict.fromkeys(side for pair in pairs for side in pair if side and side.strip()))


def make_queries(
    texts: Sequence[str],
    keywords: Keywords,
    for_each: ForEach | None = None,
    *,
    stop_words: StopWords = "nltk",
) -> pa.Table:
    """Make one query per sentence: its 20 best RAKE phrases, or the whole sentence.

    The whole sentence is used if its RAKE phrases have no term ("it is what it is").

    Args:
        texts: task sentences.
        keywords: "rake", or "none" for the unchanged sentences.
        for_each: runs parts of many sentences in parallel; None: run sequentially.
        stop_words: words at which RAKE ends a phrase.

    Returns:
        A table of `schemas.QUERIES`; ids are zero-padded positions of the sentences.
    """
    width = len(str(max(len(texts) - 1, 0)))
    queries = _rake_queries(texts, stop_words, for_each) if keywords == "rake" else list(texts)
    columns = {
        "query_id": [f"{number:0{width}d}" for number in range(len(texts))],
        "text": list(texts),
        "query": [query or text for query, text in zip(queries, texts, strict=True)],
        "is_fallback": [keywords == "rake" and not query for query in queries],
    }
    return pa.table(columns, QUERIES)


def read_queries(path: Location, keywords: Keywords, layout: Layout = AS_NAMED) -> pa.Table:
    """Read a table of queries.

    Args:
        path: table with `query_id` (string or int64) and `text`.
        keywords: see `make_queries`.
        layout: format options of CSV and TSV files.

    Returns:
        The columns of `schemas.QUERIES`, with the original ids.

    Raises:
        InputError: there is no query, or all are empty; a column is missing or has a wrong type; an
            id or a text is missing, or an id is repeated.
    """
    table = read_table(
        path,
        ["query_id", "text"],
        text_columns=["text"],
        id_columns=["query_id"],
        layout=layout,
    )
    ids, texts = table["query_id"], table["text"]
    if table.num_rows == 0:
        raise InputError(f"{path}: contains no query")
    if pa.types.is_integer(ids.type):
        largest = pc.max(ids).as_py()
        if largest is not None and largest > _INT64_MAX:
            raise InputError(
                f"{path}: column 'query_id' holds {largest}, more than an int64; give the ids as "
                "strings"
            )
        ids = ids.cast(pa.int64())
    for name, column, types in (
        ("query_id", ids, (pa.string(), pa.int64())),
        ("text", texts, (pa.string(),)),
    ):
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise InputError(
                f"{path}, row {row} (counted from 0): no {name!r}; give every query one"
            )
        if column.type not in types:
            words = " or ".join(map(str, types))
            raise InputError(f"{path}: column {name!r} holds {column.type}, {words} is expected")
    if pc.count_distinct(ids).as_py() < len(ids):
        counts = pc.value_counts(ids).to_pylist()
        repeated = next(item["values"] for item in counts if item["counts"] > 1)
        raise InputError(f"{path}: query_id {repeated!r} appears twice; give every query its own")
    if not any(text.strip() for text in texts.to_pylist()):
        raise InputError(f"{path}: all texts are empty; give queries in the column 'text'")
    queries = make_queries(texts.to_pylist(), keywords)
    return queries.set_column(0, "query_id", ids)


def _rake_queries(
    texts: Sequence[str], stop_words: StopWords, for_each: ForEach | None
) -> list[str]:
    if for_each is None or len(texts) <= _SENTENCES_PER_TASK:
        return _rake_part(texts, stop_words=stop_words)
    parts = [
        texts[first : first + _SENTENCES_PER_TASK]
        for first in range(0, len(texts), _SENTENCES_PER_TASK)
    ]
    shared = {"stop_words": stop_words}
    queries_of_parts = for_each(_rake_part, parts, label="keywords", unit="parts", shared=shared)
    return [query for part in queries_of_parts for query in part]


def _rake_part(texts: Sequence[str], *, stop_words: StopWords) -> list[str]:
    words = stop_words_of(stop_words)
    return [_rake_query(text, words) for text in texts]


def _rake_query(text: str, stop_words: Set[str]) -> str:
    """Join the RAKE phrases; the result is empty if they have no term, like phrases of signs."""
    query = " ".join(rake_keywords(text, stop_words))
    return query if terms(query) else ""


def rake_keywords(text: str, stop_words: Set[str] = NLTK_STOP_WORDS) -> list[str]:
    """List the 20 best RAKE phrases of a text, best first, lower-cased; repeats are kept.

    A phrase is a run of words between stop words and punctuation. The score of a word is
    degree/frequency: the mean length of the phrases with the word, over all occurrences. The score
    of a phrase is the sum of its words' scores. Ties are in descending order of the phrases.

    Args:
        text: task sentence.
        stop_words: lower-cased stop words; the default is that of rake-nltk.

    Source: Rose et al. 2010, "Automatic Keyword Extraction from Individual Documents",
    doi:10.1002/9780470689646.ch1, as implemented in rake-nltk 1.0.6, where words of a phrase need
    not consist of letters.
    """
    phrases = [
        tuple(run)
        for sentence in sentences(text)
        for is_break, run in groupby(
            (word.lower() for word in words(sentence)),
            lambda word: word in stop_words or word in _PUNCTUATION,
        )
        if not is_break
    ]
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for phrase in phrases:
        for word in phrase:
            frequency[word] += 1
            degree[word] += len(phrase)
    scored: list[tuple[float, str]] = []
    for phrase in phrases:
        score = 0.0
        # Not sum(): since Python 3.12 it rounds differently, which would change ties.
        for word in phrase:
            score += degree[word] / frequency[word]
        scored.append((score, " ".join(phrase)))
    return [phrase for _, phrase in sorted(scored, reverse=True)[:NUM_PHRASES]]


def sentences(text: str) -> list[str]:
    """Split a text into sentences, as far as RAKE's phrases depend on it."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def words(sentence: str) -> list[str]:
    """Split a sentence into runs of letters, digits and underscores, and runs of other signs."""
    return _WORD.findall(sentence)
