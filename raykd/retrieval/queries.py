"""Task sentences -> queries: every sentence is an anchor, its keywords are the query."""

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
# As `cluster.for_each`.
ForEach = Callable[..., list[list[str]]]

# As in the reference retrieval of the Contextualized Corpus (Yao et al. 2022, TLM).
NUM_PHRASES = 20

# About a second of RAKE.
_SENTENCES_PER_TASK = 20_000

_INT64_MAX = (1 << 63) - 1

_PUNCTUATION = frozenset(string.punctuation)
# Most sentence ends are phrase breaks already, as signs of their own; this parts the sentences
# that end with several signs in a row, which the word pattern takes for one word.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_WORD = re.compile(r"\w+|[^\w\s]+")


def anchors(examples: pa.Table) -> list[str]:
    """The distinct sentences of a task, each side of a pair for itself, as they first appear.

    Args:
        examples: a table of `schemas.EXAMPLES`.
    """
    pairs = zip(examples["sentence1"].to_pylist(), examples["sentence2"].to_pylist(), strict=True)
    return list(dict.fromkeys(side for pair in pairs for side in pair if side and side.strip()))


def make_queries(
    anchors: Sequence[str],
    keywords: Keywords,
    for_each: ForEach | None = None,
    *,
    stop_words: StopWords = "nltk",
) -> pa.Table:
    """One query an anchor: its 20 best RAKE phrases, or all of it.

    An anchor without any term in its RAKE phrases ("it is what it is") is searched as a whole.

    Args:
        anchors: sentences.
        keywords: "rake", or "none" for the sentences as they are.
        for_each: runs the parts of many anchors beside each other; None does them here.
        stop_words: where RAKE ends a phrase.

    Returns:
        A table of `schemas.QUERIES`; ids are the positions of the anchors, padded with zeros.
    """
    width = len(str(max(len(anchors) - 1, 0)))
    found = _rake_queries(anchors, stop_words, for_each) if keywords == "rake" else list(anchors)
    columns = {
        "query_id": [f"{number:0{width}d}" for number in range(len(anchors))],
        "text": list(anchors),
        "query": [query or anchor for query, anchor in zip(found, anchors, strict=True)],
        "is_fallback": [keywords == "rake" and not query for query in found],
    }
    return pa.table(columns, QUERIES)


def read_queries(path: Location, keywords: Keywords, layout: Layout = AS_NAMED) -> pa.Table:
    """Read queries that somebody else made.

    Args:
        path: a table with `query_id` (string or int64) and `text`.
        keywords: as for `make_queries`.
        layout: how a CSV or TSV file is written.

    Returns:
        The columns of `schemas.QUERIES`, with ids as they are.

    Raises:
        InputError: no query, or none with a text; a column is missing or of a wrong type; an id or
            a text is missing, or an id repeated.
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
        raise InputError(f"{path}: holds no query")
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
    made = make_queries(texts.to_pylist(), keywords)
    return made.set_column(0, "query_id", ids)


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
    found = for_each(_rake_part, parts, label="keywords", unit="parts", shared=shared)
    return [query for part in found for query in part]


def _rake_part(texts: Sequence[str], *, stop_words: StopWords) -> list[str]:
    words = stop_words_of(stop_words)
    return [_rake_query(text, words) for text in texts]


def _rake_query(text: str, stop_words: Set[str]) -> str:
    """The phrases as one text; empty where they hold no term, as phrases of signs do."""
    query = " ".join(rake_keywords(text, stop_words))
    return query if terms(query) else ""


def rake_keywords(text: str, stop_words: Set[str] = NLTK_STOP_WORDS) -> list[str]:
    """The 20 best RAKE phrases of a text, best first, lower-cased; repeated phrases are kept.

    A phrase is a run of words between stop words and punctuation. A word scores degree/frequency:
    the mean length of the phrases that hold it, each occurrence counted; a phrase the sum of its
    words. Equal scores are in descending order of the phrases.

    Args:
        text: of one anchor.
        stop_words: in lower case; the default is rake-nltk's.

    Source: Rose et al. 2010, "Automatic Keyword Extraction from Individual Documents", as the
    package rake-nltk 1.0.6 does it, so that words of a phrase are not checked for being letters.
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
        # Not sum(): from Python 3.12 on it rounds otherwise, and ties would break differently.
        for word in phrase:
            score += degree[word] / frequency[word]
        scored.append((score, " ".join(phrase)))
    return [phrase for _, phrase in sorted(scored, reverse=True)[:NUM_PHRASES]]


def sentences(text: str) -> list[str]:
    """Sentences, as far as RAKE's phrases depend on them."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def words(sentence: str) -> list[str]:
    """Runs of letters, digits and underscores, and runs of other signs."""
    return _WORD.findall(sentence)
