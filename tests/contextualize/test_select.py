import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.contextualize.card import CorpusCard, GeneralFacts, SearchFacts
from raykd.contextualize.config import ContextualizeConfig
from raykd.contextualize.select import ReferenceTexts, contextualize
from raykd.errors import InputError
from raykd.storage import schemas

FACTS = SearchFacts(top_k=3, num_queries=2, num_empty_queries=1, num_fallback_queries=1)


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
    (folder / "sample").mkdir(exist_ok=True)
    sample = pa.table({"unit_id": ["g0", "g1"], "text": ["a né", "any task"]}, schemas.UNITS)
    pq.write_table(sample, folder / "sample" / "sample.parquet")
    return contextualize(
        write_hits(folder / "hits.parquet", hits),
        gather_from(texts),
        ReferenceTexts(
            evaluation_sentences=evaluation,
            task_sentences=["a task"],
            sample=folder / "sample",
            general=GeneralFacts(
                num_units=7,
                num_bytes=70,
                num_quarantined=4,
                num_empty=4,
                num_dropped_documents=3,
                num_dropped_short=5,
                num_quotes_removed=6,
            ),
        ),
        ContextualizeConfig(**config),
        folder / "out",
        inputs or {"hits": "digest"},
        search=FACTS,
    )


def training_text(folder):
    table = pq.read_table(folder / "out" / "text.parquet")
    assert table.schema == schemas.TRAINING_TEXT
    return [tuple(row.values()) for row in table.to_pylist()]


def removed(folder):
    table = pq.read_table(folder / "out" / "removed.parquet")
    assert table.schema == schemas.REMOVED
    return [tuple(row.values()) for row in table.to_pylist()]


def card(folder):
    return CorpusCard.model_validate_json((folder / "out" / "card.json").read_bytes())


def test_a_unit_with_several_hits_has_its_smallest_rank_and_that_query(tmp_path):
    hits = [("q0", "u1", 1), ("q0", "u2", 2), ("q1", "u2", 1), ("q1", "u3", 2), ("q1", "u1", 3)]
    run(tmp_path, hits, {"u3": "three", "u1": "one", "u2": "two", "u4": "four"})
    assert training_text(tmp_path) == [
        ("u1", "one", 1, "q0"),
        ("u2", "two", 1, "q1"),
        ("u3", "three", 2, "q1"),
    ]


def test_duplicates_that_tie_in_rank_keep_the_smallest_unit_id(tmp_path):
    hits = [("q0", "u9", 1), ("q1", "u2", 1), ("q2", "u1", 2)]
    run(tmp_path, hits, {"u9": "Same text", "u2": "same  TEXT", "u1": "same text"})
    assert training_text(tmp_path) == [("u2", "same  TEXT", 1, "q1")]
    assert removed(tmp_path) == [("u1", "duplicate", "u2", 1.0), ("u9", "duplicate", "u2", 1.0)]


def test_max_units_counts_after_removals_and_takes_hits_by_rank(tmp_path):
    hits = [("q0", "u0", 1), ("q1", "u1", 1), ("q2", "u2", 1), ("q0", "u3", 2), ("q0", "u4", 3)]
    texts = {"u0": "a", "u1": "A", "u2": "the secret one", "u3": "b", "u4": "c"}
    run(tmp_path, hits, texts, ["the secret one"], max_units=2)
    assert training_text(tmp_path) == [("u0", "a", 1, "q0"), ("u3", "b", 2, "q0")]
    assert removed(tmp_path) == [
        ("u1", "duplicate", "u0", 1.0),
        ("u2", "leak", "the secret one", None),
    ]
    figures = card(tmp_path)
    assert (figures.num_beyond_limit, figures.num_missing, figures.max_rank) == (1, 0, 2)


def test_duplicates_and_contaminated_units_beyond_the_limit_are_not_counted(tmp_path):
    hits = [("q0", f"u{number}", number // 2 + 1) for number in range(6)]
    texts = {f"u{number}": text for number, text in enumerate("aAbBcc")}
    run(tmp_path, hits, texts, max_units=2)
    assert removed(tmp_path) == [("u1", "duplicate", "u0", 1.0)]
    figures = card(tmp_path)
    assert (figures.num_duplicates, figures.num_candidates, figures.num_beyond_limit) == (1, 6, 1)


def test_of_the_last_rank_units_of_all_files_are_kept(tmp_path):
    first = {f"a-{number:03d}": f"one {number}" for number in range(500)}
    last = {f"b-{number:03d}": f"other {number}" for number in range(500)}
    top, cut = {"a-top": "top a", "b-top": "top b"}, first | last
    hits = [("q0", unit, 1) for unit in top] + [("q0", unit, 2) for unit in cut]
    run(tmp_path, hits, top | cut, max_units=502)
    units = [unit for unit, *_ in training_text(tmp_path)]
    assert set(units[:2]) == set(top)
    assert len(units) == 502
    # 250 are expected; a binomial draw deviates by 73 in one of 10 billion cases.
    assert 177 < sum(unit.startswith("a") for unit in units[2:]) < 323


def test_the_card_has_all_counts(tmp_path):
    hits = [("q0", "u0", 1), ("q0", "u1", 2), ("q1", "u1", 1), ("q1", "u2", 2), ("q1", "u3", 3)]
    texts = {"u0": "a task", "u1": "né", "u2": "NÉ", "u3": "an evaluation sentence, long enough"}
    evaluation = ["evaluation sentence long enough", "né x"]
    manifest = run(tmp_path, hits, texts, evaluation, max_units=5, leak_min_words=4)
    alike = {
        "num_words": 2,
        "num_vocabulary_words": 2,
        "num_content_vocabulary_words": 1,
        "distinct_1": 1.0,
        "distinct_2": 1.0,
    }
    assert json.loads((tmp_path / "out" / "card.json").read_text()) == {
        "kind": "contextualized",
        "num_units": 2,
        "num_bytes": 9,
        "bytes_per_unit": 4.5,
        "num_candidates": 4,
        "max_units": 5,
        "num_missing": 3,
        "target_bytes": None,
        "num_missing_bytes": 0,
        "top_percent": None,
        "num_beyond_limit": 0,
        "num_duplicates": 1,
        "num_near_duplicates": 0,
        "leaks": "remove",
        "num_leaks": 1,
        "num_leaked_ngrams": 0,
        "num_evaluation_sentences": 2,
        "leak_min_words": 4,
        "leak_ngram": None,
        "num_quarantined": 4,
        "num_empty": 4,
        "num_dropped_documents": 3,
        "num_dropped_short": 5,
        "num_quotes_removed": 6,
        "num_quotes_kept": 0,
        "search": {
            "ranker": "bm25",
            "model": None,
            "top_k": 3,
            "num_queries": 2,
            "num_empty_queries": 1,
            "num_fallback_queries": 1,
        },
        "k": 3,
        "num_hits": 5,
        "kept_fraction": 0.4,
        "max_rank": 1,
        # The samples: a task | a né | a task. Without stop words: task | né | task.
        "text": alike
        | {"task_overlap": 1.0, "general_overlap": 0.5}
        | {"content_task_overlap": 1.0, "content_general_overlap": 0.0},
        "general": {
            "num_units": 7,
            "num_bytes": 70,
            "text": alike
            | {"task_overlap": 0.5, "general_overlap": 1.0}
            | {"content_task_overlap": 0.0, "content_general_overlap": 1.0},
        },
        "task": {
            "num_units": 1,
            "num_bytes": 6,
            "text": alike
            | {"task_overlap": 1.0, "general_overlap": 0.5}
            | {"content_task_overlap": 1.0, "content_general_overlap": 0.0},
        },
        "dsir": None,
    }
    assert manifest.counts == {
        "num_units": 2,
        "num_bytes": 9,
        "num_duplicates": 1,
        "num_leaks": 1,
        "num_missing": 3,
    }


SLICES = [("q0", f"u{number}", number // 2 + 1) for number in range(6)]
SLICE_TEXTS = {"u0": "aa", "u1": "bb", "u2": "AA", "u3": "cc", "u4": "leaks", "u5": "dddd"}


def test_target_bytes_takes_the_smallest_k_that_reaches_them_after_removals(tmp_path):
    # Bytes up to rank 1, 2, 3: 4, 6 (one duplicate), 10 (one leak).
    for target, k, kept in ((4, 1, "u0 u1"), (5, 2, "u0 u1 u3"), (7, 3, "u0 u1 u3 u5")):
        run(tmp_path, SLICES, SLICE_TEXTS, ["leaks"], target_bytes=target)
        assert [row[0] for row in training_text(tmp_path)] == kept.split()
        figures = card(tmp_path)
        assert (figures.k, figures.num_hits, figures.num_missing_bytes) == (k, 2 * k, 0)
        assert figures.num_beyond_limit == 4 - len(kept.split())


def test_unreachable_target_bytes_are_reported_in_the_card_and_the_log(tmp_path, capsys):
    run(tmp_path, SLICES, SLICE_TEXTS, ["leaks"], target_bytes=12)
    figures = card(tmp_path)
    assert (figures.num_bytes, figures.num_missing_bytes, figures.k) == (10, 2, 3)
    assert "target_bytes 12: all 3 hits per query are 10 bytes; raise" in capsys.readouterr().err


@pytest.mark.parametrize(("percent", "k"), [(1, 1), (33.3, 1), (33.4, 2), (66.7, 3), (100, 3)])
def test_top_percent_takes_the_ranks_up_to_its_share_of_top_k_rounded_up(tmp_path, percent, k):
    run(tmp_path, SLICES, SLICE_TEXTS, top_percent=percent)
    assert max(row[2] for row in training_text(tmp_path)) == k
    assert (card(tmp_path).k, card(tmp_path).num_hits) == (k, 2 * k)


def test_shares_of_k_are_not_rounded_up_by_an_error_of_floating_point():
    config = ContextualizeConfig(top_percent=0.7)
    assert 0.7 * 1000 / 100 == 7.0
    assert config.last_rank(1000) == 7
    assert ContextualizeConfig(top_percent=55.1).last_rank(1000) == 551
    assert ContextualizeConfig().last_rank(9) == 9


def test_two_limits_are_an_error():
    with pytest.raises(InputError, match="max_units and top_percent limit the corpus in different"):
        ContextualizeConfig.parse({"max_units": 3, "top_percent": 40}, "recipe")


def test_shared_ngrams_are_counted_and_listed(tmp_path):
    hits = [("q0", "u0", 1), ("q0", "u1", 2)]
    texts = {"u0": "of one two three four", "u1": "one two four"}
    run(tmp_path, hits, texts, ["one two three five six"], leak_ngram=3)
    assert removed(tmp_path) == [("u0", "leaked_ngram", "one two three five six", None)]
    assert (card(tmp_path).num_leaks, card(tmp_path).num_leaked_ngrams) == (0, 1)


def test_near_duplicates_are_removed_if_configured_and_list_a_kept_unit(tmp_path):
    text = "the river rises in the hills above the town and meets the sea near the old harbour"
    hits = [("q0", f"u{number}", number + 1) for number in range(3)]
    # u0 leaks, so that u1, which is nearly equal to it, stays.
    texts = {"u0": f"{text} my secret", "u1": f"{text} at noon", "u2": f"{text} at night"}
    run(tmp_path, hits, texts, ["my secret"], leak_min_words=2)
    assert [row[0] for row in training_text(tmp_path)] == ["u1", "u2"]
    near = {"threshold": 0.6, "num_bands": 64, "rows_per_band": 2}
    run(tmp_path, hits, texts, ["my secret"], leak_min_words=2, near_duplicates=near)
    assert [row[0] for row in training_text(tmp_path)] == ["u1"]
    # Of 15 shingles of five words each, all but the last are shared.
    assert ("u2", "near_duplicate", "u1", 14 / 16) in removed(tmp_path)
    assert card(tmp_path).num_near_duplicates == 1


def test_contaminated_units_can_be_kept_counted_and_listed(tmp_path):
    hits = [("q0", f"u{number}", number // 2 + 1) for number in range(4)]
    texts = {"u0": "my secret", "u1": "of my secret", "u2": "My secret", "u3": "free"}
    run(tmp_path, hits, texts, ["my secret"], leak_min_words=2)
    assert [row[0] for row in training_text(tmp_path)] == ["u3"]
    assert (card(tmp_path).leaks, card(tmp_path).num_leaks) == ("remove", 3)
    assert not (tmp_path / "out" / "leaks.parquet").exists()
    run(tmp_path, hits, texts, ["my secret"], leak_min_words=2, leaks="keep")
    assert [row[0] for row in training_text(tmp_path)] == ["u0", "u1", "u3"]
    assert removed(tmp_path) == [("u2", "duplicate", "u0", 1.0)]
    assert (card(tmp_path).leaks, card(tmp_path).num_leaks) == ("keep", 3)
    leaks = pq.read_table(tmp_path / "out" / "leaks.parquet")
    assert leaks.schema == schemas.CONTAMINATION
    assert [tuple(row.values()) for row in leaks.to_pylist()] == [
        ("u0", "leak", "my secret", True),
        ("u1", "leak", "my secret", True),
        ("u2", "leak", "my secret", False),
    ]


def test_no_hits_are_an_error_with_a_remedy(tmp_path):
    with pytest.raises(InputError, match=r"hits\.parquet: the search has no hits.*give a gen"):
        run(tmp_path, [], {})
    assert not (tmp_path / "out").exists()


def test_only_contaminated_units_are_an_error(tmp_path):
    with pytest.raises(
        InputError, match="all 1 retrieved units contain a sentence of the task's eval"
    ):
        run(tmp_path, [("q0", "u0", 1)], {"u0": "Secret."}, ["secret"])


def test_hits_of_another_corpus_are_an_error(tmp_path):
    hits = [("q0", "u0", 1), ("q0", "u7", 2)]
    with pytest.raises(
        InputError, match=r"1 retrieved units are missing in the corpus \(the first: u7\)"
    ):
        run(tmp_path, hits, {"u0": "a"})


def test_a_second_run_reads_nothing_and_other_evaluation_sentences_run_again(tmp_path):
    hits, texts = [("q0", "u0", 1), ("q0", "u1", 2)], {"u0": "a", "u1": "b"}
    first = run(tmp_path, hits, texts)
    written_at = (tmp_path / "out" / "text.parquet").stat().st_mtime_ns
    assert run(tmp_path, [], {}) == first
    assert (tmp_path / "out" / "text.parquet").stat().st_mtime_ns == written_at
    assert run(tmp_path, hits, texts, ["b"]).counts["num_leaks"] == 1
    assert run(tmp_path, hits, texts, inputs={"hits": "other"}).counts["num_leaks"] == 0


@settings(deadline=None, max_examples=30)
@given(
    hits=st.lists(
        st.tuples(
            st.sampled_from(["q0", "q1", "q2"]),
            st.sampled_from([f"u{number}" for number in range(8)]),
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=20,
    ),
    texts=st.lists(st.sampled_from(["a", "A", "b", "c d", "c  d"]), min_size=8, max_size=8),
    max_units=st.none() | st.integers(1, 4),
    shuffled=st.randoms(use_true_random=False),
)
def test_the_corpus_matches_the_naive_result_for_any_order_of_hits(
    hits, texts, max_units, shuffled, tmp_path_factory
):
    texts = {f"u{number}": text for number, text in enumerate(texts)}
    best = {}
    for rank, query, unit in sorted((rank, query, unit) for query, unit, rank in hits):
        best.setdefault(unit, (rank, query))
    expected, seen = [], set()

    def place(item):
        unit, (rank, _) = item
        drawn = 0 if max_units is None else xxhash.xxh3_64_intdigest(unit.encode(), 0x52414E4B)
        return rank, drawn, unit

    for unit, (rank, query) in sorted(best.items(), key=place):
        text = " ".join(texts[unit].lower().split())
        if text not in seen:
            seen.add(text)
            expected.append((unit, texts[unit], rank, query))
    folders = [tmp_path_factory.mktemp("corpus") for _ in range(2)]
    for folder in folders:
        run(folder, hits, texts, max_units=max_units)
        assert training_text(folder) == expected[:max_units]
        shuffled.shuffle(hits)
    files = [(folder / "out" / "text.parquet").read_bytes() for folder in folders]
    assert files[0] == files[1]
