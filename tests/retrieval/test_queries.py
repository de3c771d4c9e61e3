"""Task sentences and their RAKE queries."""

import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rake_nltk import Rake

from raykd.errors import InputError
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.queries import (
    make_queries,
    rake_keywords,
    read_queries,
    sentences,
    task_sentences,
    words,
)
from raykd.storage.schemas import EXAMPLES
from raykd.storage.tables import holds_text
from raykd.text.stop_words import NLTK_STOP_WORDS, STOP_WORDS, stop_words_of

GLUE = Path(__file__).resolve().parents[3] / "shared/data/glue"


def reference_keywords(text: str, stop_words: frozenset[str] = NLTK_STOP_WORDS) -> list[str]:
    rake = Rake(
        stopwords=set(stop_words),
        punctuations=set(string.punctuation),
        sentence_tokenizer=sentences,
        word_tokenizer=words,
    )
    rake.extract_keywords_from_text(text)
    return rake.get_ranked_phrases()[:20]


def test_phrases_score_the_sum_of_degree_over_frequency() -> None:
    # red: degree 3 + 1 over 2 = 2; apple, pie: 3; so 8, 2 and 1.
    assert rake_keywords("Red apple pie is red, and very nice.") == [
        "red apple pie",
        "red",
        "nice",
    ]


def test_repeated_phrases_are_kept_and_ties_are_in_descending_order() -> None:
    assert rake_keywords("apes, bees, apes and cats") == ["cats", "bees", "apes", "apes"]


def test_no_more_than_twenty_phrases_are_kept() -> None:
    assert len(rake_keywords(", ".join(f"word{number}" for number in range(30)))) == 20


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["The", "of", "Apple", "pie", "pie", "RED", "it's", "U.S.", ",", '."', "...", "é", " ("]
        ),
        max_size=40,
    ).map(" ".join)
    | st.text(max_size=60)
)
def test_keywords_equal_rake_nltk(text: str) -> None:
    assert rake_keywords(text) == reference_keywords(text)
    assert rake_keywords(text, STOP_WORDS) == reference_keywords(text, STOP_WORDS)


@pytest.mark.parametrize("task", ["rte", "mrpc", "cola"])
def test_keywords_of_real_sentences_equal_rake_nltk(task: str) -> None:
    path = GLUE / f"{task}_train.parquet"
    if not path.is_file():
        pytest.skip("the GLUE data is not next to this checkout")
    table = pq.read_table(path)
    columns = [field.name for field in table.schema if holds_text(field.type)]
    assert columns
    texts = [text for name in columns for text in table[name].to_pylist()[:350]]
    for text in texts:
        assert rake_keywords(text) == reference_keywords(text)


def test_the_default_stop_words_are_the_179_of_nltk() -> None:
    assert len(NLTK_STOP_WORDS) == 179
    assert {"i", "wouldn't", "ma", "y", "o"} <= NLTK_STOP_WORDS
    assert not {"could", "may", "every", "#"} & NLTK_STOP_WORDS
    # Function words of raykd's own list that NLTK's lacks are keywords.
    text = "every cat could run within a mile"
    assert rake_keywords(text) == ["every cat could run within", "mile"]
    assert rake_keywords(text, STOP_WORDS) == ["run", "mile", "cat"]


def test_the_stop_words_of_keywords_can_be_chosen() -> None:
    text = "Every cat could run"

    def query(stop_words):
        return make_queries([text], "rake", stop_words=stop_words)["query"].to_pylist()

    assert query("nltk") == ["every cat could run"]
    assert query("raykd") == ["run cat"]
    assert query(("CAT",)) == ["could run every"]
    assert stop_words_of(("CAT",)) == {"cat"}
    config = RetrievalConfig.parse({"top_k": 1, "keyword_stop_words": ["cat"]}, "test")
    assert config.keyword_stop_words == ("cat",)
    assert RetrievalConfig(top_k=1).keyword_stop_words == "nltk"
    with pytest.raises(InputError, match="keyword_stop_words"):
        RetrievalConfig.parse({"top_k": 1, "keyword_stop_words": "french"}, "test")


def test_both_sides_of_a_pair_are_task_sentences_in_order_of_appearance() -> None:
    table = pa.table(
        {
            "row_id": [0, 1, 2],
            "sentence1": ["b", "a", "c"],
            "sentence2": ["a", None, " "],
            "label": [0.0, 1.0, 0.0],
        },
        schema=EXAMPLES,
    )
    assert task_sentences(table) == ["b", "a", "c"]


def test_a_sentence_without_phrases_is_the_whole_query_and_counted() -> None:
    queries = make_queries(["It is what it is", "red apples", "?!"], "rake")
    assert queries["query"].to_pylist() == ["It is what it is", "red apples", "?!"]
    assert queries["is_fallback"].to_pylist() == [True, False, True]


def test_a_sentence_that_is_one_phrase_or_unchanged_is_not_a_fallback() -> None:
    assert make_queries(["red apples"], "rake")["is_fallback"].to_pylist() == [False]
    assert make_queries(["It is", ""], "none")["is_fallback"].to_pylist() == [False, False]


def test_unchanged_queries_keep_every_word_and_ids_sort_in_order() -> None:
    queries = make_queries([f"The apple {number}" for number in range(11)], "none")
    assert queries["query"][10].as_py() == "The apple 10"
    assert queries["query_id"].to_pylist()[::5] == ["00", "05", "10"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query_id,body\n1,cat\n", "no column 'text'; the columns are query_id, body"),
        ("query_id,text\n", "contains no query"),
        ('query_id,text\n1," "\n2,""\n', "all texts are empty"),
        ("query_id,text\nx,cat\nx,dog\n", "query_id 'x' appears twice"),
    ],
)
def test_invalid_query_tables_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "queries.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_queries(path, "none")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"query_id": 1.5, "text": "cat"}', "column 'query_id' holds double"),
        ('{"query_id": 1, "text": 2}', "line 1: 'text' is a whole number"),
    ],
)
def test_query_columns_of_other_types_are_refused(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(row)
    with pytest.raises(InputError, match=message):
        read_queries(path, "none")


def test_query_ids_above_int64_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    ids = pa.array([7, 1 << 63], pa.uint64())
    pq.write_table(pa.table({"query_id": ids, "text": ["a", "b"]}), path)
    message = r"queries\.parquet: column 'query_id' holds 9223372036854775808, .* strings"
    with pytest.raises(InputError, match=message):
        read_queries(path, "none")
    pq.write_table(pa.table({"query_id": ids[:1], "text": ["a"]}), path)
    assert read_queries(path, "none")["query_id"].to_pylist() == [7]


def test_queries_of_tsv_may_be_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text("query_id\ttext\n1\t1984\n2\t2001\n")
    queries = read_queries(path, "none")
    assert queries["query_id"].to_pylist() == [1, 2]
    assert queries["text"].to_pylist() == ["1984", "2001"]
    path.write_text("query_id\ttext\n1.0\tcat\n1.5\tdog\n")
    assert read_queries(path, "none")["query_id"].to_pylist() == ["1.0", "1.5"]


def test_a_query_without_text_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query_id": 1, "text": "cat"}\n{"query_id": 2}\n')
    with pytest.raises(InputError, match=r"queries.jsonl, row 1 \(counted from 0\): no 'text'"):
        read_queries(path, "none")
