"""Lookup of the ids of terms, for any memory layout of the texts."""

import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import oracle_analyze
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.text import analyzer as analyze
from raykd.text.analyzer import AnalyzerConfig, TermLookup, TermStream, number_terms, terms


def expected(texts: list[str | None], vocabulary: list[str], config: AnalyzerConfig) -> list[Any]:
    """For each text: the ids of its known terms, and its length."""
    ids = {term: number for number, term in enumerate(vocabulary)}
    found = [terms(text or "", config) for text in texts]
    return [([ids[term] for term in each if term in ids], len(each)) for each in found]


def as_lists(stream: TermStream) -> list[Any]:
    assert stream.term_ids.dtype == stream.lengths.dtype == np.int32
    assert stream.offsets.dtype == np.int64
    assert stream.offsets[0] == 0
    assert stream.offsets[-1] == len(stream.term_ids)
    parts = np.split(stream.term_ids, stream.offsets[1:-1]) if len(stream.lengths) else []
    return [
        (part.tolist(), length) for part, length in zip(parts, stream.lengths.tolist(), strict=True)
    ]


def test_a_lookup_gives_the_ids_of_known_terms_and_counts_all_terms() -> None:
    lookup = TermLookup(["fox", "the", "été"])
    found = lookup.stream(pa.array(["The fox, the box", "", None, "ÉTÉ fox"]))
    assert found.term_ids.tolist() == [1, 0, 1, 2, 0]
    assert found.offsets.tolist() == [0, 3, 3, 3, 5]
    assert found.lengths.tolist() == [4, 0, 0, 2]


WORDS = ["fox", "The", "été", "ÉTÉ", "foxes", "running", "U.S.", "x_1", "我", "a" * 17, "B" * 16,
         "c" * 300, "é" * 256, "incomprehensibilities", "incomprehensibility", "ab", "AB", "👍🏽",
         "antidisestablishmentarianism", "12345678", "123456789", "1" * 17]  # fmt: skip
CONFIGS = [
    AnalyzerConfig(),
    AnalyzerConfig(stop_words=("fox", "été", "aaaaaaaaaaaaaaaaa")),
    AnalyzerConfig(stemmer="english"),
    AnalyzerConfig(stop_words="english", stemmer="english"),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_streams_match_a_dictionary_lookup(
    config: AnalyzerConfig, kind: pa.DataType, data: st.DataObject
) -> None:
    text = st.none() | st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=30).map(
        " ".join
    )
    texts = data.draw(st.lists(text, max_size=8))
    wanted = data.draw(st.lists(st.sampled_from(WORDS), max_size=12))
    vocabulary = list(dict.fromkeys(term for word in wanted for term in terms(word, config)))
    lookup = TermLookup(vocabulary, config)
    first = data.draw(st.integers(0, len(texts)))
    found = lookup.stream(pa.array(texts, kind)[first:])
    assert as_lists(found) == expected(texts[first:], vocabulary, config)


@pytest.mark.parametrize("config", CONFIGS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=9), max_size=8))
def test_numbered_terms_are_those_of_the_texts_in_sorted_order(
    config: AnalyzerConfig, words: list[list[str]]
) -> None:
    texts = [" ".join(each).encode("utf-8", "ignore").decode() for each in words]
    numbered, found = number_terms(pa.array(texts, pa.string()), config)
    assert numbered == sorted({term for text in texts for term in terms(text, config)})
    assert as_lists(found) == expected(texts, numbered, config)


@pytest.mark.parametrize("size", [0, 1, 100, 40_000])
def test_every_term_of_a_vocabulary_is_found_and_no_other(size: int) -> None:
    generator = random.Random(size)
    made = ["".join(generator.choices("abcé", k=generator.randint(1, 22))) for _ in range(2 * size)]
    distinct = list(dict.fromkeys(made))
    known, unknown = distinct[:size], distinct[size:]
    found = TermLookup(known).stream(pa.array([" ".join(known), " ".join(unknown)]))
    assert as_lists(found) == [(list(range(len(known))), len(known)), ([], len(unknown))]


def test_long_terms_with_equal_prefix_and_suffix_are_distinguished() -> None:
    vocabulary = ["incomprehensible" + middle + "incomprehensible" for middle in "abcdefgh"]
    found = TermLookup(vocabulary[::2]).stream(pa.array([" ".join(vocabulary)]))
    assert found.term_ids.tolist() == [0, 1, 2, 3]


def test_texts_may_end_at_the_buffer_end_and_be_invalid_utf_8() -> None:
    data = b"fox\xc3fox \xff\xfe fox\xe2\x82"
    offsets = np.array([0, 4, 11, 16], np.int32)
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(data))
    found = TermLookup(["fox"]).stream(texts)
    assert found.offsets.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("config", CONFIGS)
def test_many_small_pieces_give_the_stream_of_one(
    config: AnalyzerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(0)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(0, 40))) for _ in range(200)]
    lookup = TermLookup(["running", "ab", "x_1"][: 2 if config.stemmer else 3], config)
    whole = as_lists(lookup.stream(pa.array(texts)))
    monkeypatch.setattr(analyze, "_PIECE_BYTES", 500)
    assert as_lists(lookup.stream(pa.array(texts))) == whole


def test_the_stemmer_cache_is_cleared_when_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyze, "_MAX_WORDS", 100)
    config = AnalyzerConfig(stemmer="english", stop_words="english")
    texts = [" ".join(f"foxes{number} the runs" for number in range(5000)), "run foxes9 runs"]
    lookup = TermLookup(["run", "foxes9"], config)
    wanted = expected(texts, ["run", "foxes9"], config)
    for _ in range(3):
        assert as_lists(lookup.stream(pa.array(texts))) == wanted


def test_a_lookup_can_be_pickled() -> None:
    for config in CONFIGS:
        lookup = pickle.loads(pickle.dumps(TermLookup(["run"], config)))
        assert lookup.stream(pa.array(["run run"])).term_ids.tolist() == [0, 0]


def test_stop_words_are_removed_before_stemming() -> None:
    config = AnalyzerConfig(stop_words="english", stemmer="english")
    assert terms("The foxes were NOT running; into it", config) == ["fox", "were", "run"]
    assert terms("Les FOXES", AnalyzerConfig(stop_words=("LES",))) == ["foxes"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stop_words": ["the", "of the"]}, r"'of the' is 2 terms; give every stop word as one"),
        ({"stemmer": "englisch"}, r"unknown stemmer 'englisch'; known: arabic, .*"),
    ],
)
def test_an_invalid_setting_of_the_analyzer_is_reported(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        AnalyzerConfig.parse(values, "x.yaml")


def test_real_text_gives_the_stream_of_the_regular_expression(general_corpus: Path) -> None:
    texts = pq.read_table(general_corpus, columns=["text"])["text"].chunk(0)[:3000]
    found = [oracle_analyze.terms(text) for text in texts.to_pylist()]
    counts = Counter(term for each in found for term in each)
    vocabulary = [term for term, _ in counts.most_common()[::3]]
    ids = {term: number for number, term in enumerate(vocabulary)}
    stream = TermLookup(vocabulary).stream(texts)
    assert stream.lengths.tolist() == [len(each) for each in found]
    assert stream.term_ids.tolist() == [ids[term] for each in found for term in each if term in ids]
