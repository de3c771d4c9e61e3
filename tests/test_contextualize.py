import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd import schemas
from raykd.contextualize import ContextualizeConfig, contextualize
from raykd.corpus_card import CorpusCard, SearchFacts
from raykd.errors import InputError

FACTS = SearchFacts(top_k=3, num_anchors=2, num_empty_queries=1, num_fallback_queries=1)


def write_hits(path, hits):
    """`hits` are (query_id, unit_id, rank)."""
    rows = [
        {"query_id": query, "unit_id": unit, "score": 1.0, "rank": rank}
        for query, unit, rank in hits
    ]
    pq.write_table(pa.Table.from_pylist(rows, schemas.hits_schema()), path)
    return path


def gather_from(texts):
    def gather(unit_ids):
        units = pa.table({"unit_id": list(texts), "text": list(texts.values())}, schemas.UNITS)
        return units.filter(pc.is_in(units["unit_id"], value_set=unit_ids))

    return gather


def run(folder, hits, texts, evaluation=(), inputs=None, **config):
    return contextualize(
        write_hits(folder / "hits.parquet", hits),
        gather_from(texts),
        evaluation,
        ContextualizeConfig(**config),
        folder / "out",
        inputs or {"hits": "digest"},
        search=FACTS,
        num_quarantined=4,
        task_sentences=["a task"],
    )


def textbook(folder):
    table = pq.read_table(folder / "out" / "textbook.parquet")
    assert table.schema == schemas.TEXTBOOK
    return [tuple(row.values()) for row in table.to_pylist()]


def removed(folder):
    table = pq.read_table(folder / "out" / "removed.parquet")
    assert table.schema == schemas.REMOVED
    return [tuple(row.values()) for row in table.to_pylist()]


def card(folder):
    return CorpusCard.model_validate_json((folder / "out" / "card.json").read_bytes())


def test_a_unit_found_twice_has_its_smallest_rank_and_that_hits_query(tmp_path):
    hits = [("q0", "u1", 1), ("q0", "u2", 2), ("q1", "u2", 1), ("q1", "u3", 2), ("q1", "u1", 3)]
    run(tmp_path, hits, {"u3": "three", "u1": "one", "u2": "two", "u4": "four"})
    assert textbook(tmp_path) == [
        ("u1", "one", 1, "q0"),
        ("u2", "two", 1, "q1"),
        ("u3", "three", 2, "q1"),
    ]


def test_duplicates_that_tie_in_rank_keep_the_smallest_unit_id(tmp_path):
    hits = [("q0", "u9", 1), ("q1", "u2", 1), ("q2", "u1", 2)]
    run(tmp_path, hits, {"u9": "Same text", "u2": "same  TEXT", "u1": "same text"})
    assert textbook(tmp_path) == [("u2", "same  TEXT", 1, "q1")]
    assert removed(tmp_path) == [("u1", "duplicate", "u2"), ("u9", "duplicate", "u2")]


def test_max_units_counts_after_removals_and_goes_round_robin_over_the_anchors(tmp_path):
    hits = [("q0", "u0", 1), ("q0", "u3", 2), ("q0", "u4", 3), ("q1", "u1", 1), ("q1", "u2", 2)]
    texts = {"u0": "a", "u1": "A", "u2": "the secret one", "u3": "b", "u4": "c"}
    run(tmp_path, hits, texts, ["the secret one"], max_units=2)
    assert textbook(tmp_path) == [("u0", "a", 1, "q0"), ("u3", "b", 2, "q0")]
    assert removed(tmp_path) == [("u1", "duplicate", "u0"), ("u2", "leak", "the secret one")]
    figures = card(tmp_path)
    assert (figures.num_beyond_limit, figures.num_missing, figures.max_rank) == (1, 0, 2)


def test_duplicates_and_leaks_beyond_the_limit_are_not_counted(tmp_path):
    hits = [("q0", f"u{number}", number + 1) for number in range(6)]
    texts = {f"u{number}": text for number, text in enumerate("aAbBcc")}
    run(tmp_path, hits, texts, max_units=2)
    assert removed(tmp_path) == [("u1", "duplicate", "u0")]
    figures = card(tmp_path)
    assert (figures.num_duplicates, figures.num_candidates, figures.num_beyond_limit) == (1, 6, 1)


def test_the_card_counts_everything(tmp_path):
    hits = [("q0", "u0", 1), ("q0", "u1", 2), ("q1", "u1", 1), ("q1", "u2", 2), ("q1", "u3", 3)]
    texts = {"u0": "a task", "u1": "né", "u2": "NÉ", "u3": "an evaluation sentence, long enough"}
    evaluation = ["evaluation sentence long enough", "né x"]
    manifest = run(tmp_path, hits, texts, evaluation, max_units=5, leak_min_words=4)
    assert json.loads((tmp_path / "out" / "card.json").read_text()) == {
        "kind": "contextualized",
        "num_units": 2,
        "num_bytes": 9,
        "bytes_per_unit": 4.5,
        "num_candidates": 4,
        "num_wanted": 5,
        "num_missing": 3,
        "num_beyond_limit": 0,
        "num_duplicates": 1,
        "num_leaks": 1,
        "num_evaluation_sentences": 2,
        "leak_min_words": 4,
        "num_quarantined": 4,
        "search": {
            "top_k": 3,
            "num_anchors": 2,
            "num_empty_queries": 1,
            "num_fallback_queries": 1,
        },
        "num_hits": 5,
        "kept_fraction": 0.4,
        "max_rank": 1,
        "text": {
            "distinct_1": 1.0,
            "distinct_2": 1.0,
            "num_distinct_words": 3,
            "vocabulary_overlap": 0.5,
            "num_vocabulary_words": 2,
        },
    }
    assert manifest.counts == {
        "num_units": 2,
        "num_bytes": 9,
        "num_duplicates": 1,
        "num_leaks": 1,
        "num_missing": 3,
    }


def test_no_hits_are_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"hits\.parquet: the search found nothing.*give a gen"):
        run(tmp_path, [], {})
    assert not (tmp_path / "out").exists()


def test_units_that_all_leak_are_an_error(tmp_path):
    with pytest.raises(InputError, match="all 1 units found hold a sentence of the task's eval"):
        run(tmp_path, [("q0", "u0", 1)], {"u0": "Secret."}, ["secret"])


def test_hits_of_another_corpus_are_an_error(tmp_path):
    hits = [("q0", "u0", 1), ("q0", "u7", 2)]
    with pytest.raises(InputError, match=r"1 units found are not in the corpus \(the first: u7\)"):
        run(tmp_path, hits, {"u0": "a"})


def test_a_second_run_reads_nothing_and_other_evaluation_sentences_run_again(tmp_path):
    hits, texts = [("q0", "u0", 1), ("q0", "u1", 2)], {"u0": "a", "u1": "b"}
    first = run(tmp_path, hits, texts)
    written_at = (tmp_path / "out" / "textbook.parquet").stat().st_mtime_ns
    assert run(tmp_path, [], {}) == first
    assert (tmp_path / "out" / "textbook.parquet").stat().st_mtime_ns == written_at
    assert run(tmp_path, hits, texts, ["b"]).counts["num_leaks"] == 1
    assert run(tmp_path, hits, texts, inputs={"hits": "other"}).counts["num_leaks"] == 0


@settings(deadline=None, max_examples=30)
@given(
    hits=st.lists(
        st.tuples(
            st.sampled_from(["q0", "q1", "q2"]),
            st.sampled_from([f"u{number}" for number in range(8)]),
            st.integers(1, 4),
        ),
        min_size=1,
        max_size=20,
    ),
    texts=st.lists(st.sampled_from(["a", "A", "b", "c d", "c  d"]), min_size=8, max_size=8),
    max_units=st.none() | st.integers(1, 4),
    shuffled=st.randoms(use_true_random=False),
)
def test_the_corpus_is_the_obvious_one_for_any_order_of_hits(
    hits, texts, max_units, shuffled, tmp_path_factory
):
    texts = {f"u{number}": text for number, text in enumerate(texts)}
    best = {}
    for rank, query, unit in sorted((rank, query, unit) for query, unit, rank in hits):
        best.setdefault(unit, (rank, query))
    expected, seen = [], set()
    for unit, (rank, query) in sorted(best.items(), key=lambda item: (item[1][0], item[0])):
        text = " ".join(texts[unit].lower().split())
        if text not in seen:
            seen.add(text)
            expected.append((unit, texts[unit], rank, query))
    folders = [tmp_path_factory.mktemp("corpus") for _ in range(2)]
    for folder in folders:
        run(folder, hits, texts, max_units=max_units)
        assert textbook(folder) == expected[:max_units]
        shuffled.shuffle(hits)
    files = [(folder / "out" / "textbook.parquet").read_bytes() for folder in folders]
    assert files[0] == files[1]
