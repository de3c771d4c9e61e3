import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_dedup import find_leak, first_equal, jaccard

from raykd import progress
from raykd.contextualize.contamination import ContaminationIndex
from raykd.contextualize.filter import CONTAMINATED, CONTAMINATED_NGRAM, KEPT, filter_candidates
from raykd.dedup.minhash import NearDuplicatesConfig


def candidates(texts):
    ids = [f"u{number}" for number in range(len(texts))]
    return pa.table({"unit_id": ids, "text": pa.array(texts, pa.large_string())})


def rows_of(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def test_duplicates_list_the_kept_unit_and_contaminated_units_the_sentence():
    texts = ["A b", "x y z", "a  B", "now X, y z!", "Now x, y z!", "c"]
    filtered = filter_candidates(candidates(texts), ContaminationIndex(["x y z"], min_words=3))
    assert filtered.kept()["unit_id"].to_pylist() == ["u0", "u5"]
    assert rows_of(filtered.removed()) == [
        ("u1", "leak", "x y z", None),
        ("u2", "duplicate", "u0", 1.0),
        ("u3", "leak", "x y z", None),
        ("u4", "leak", "x y z", None),
    ]
    assert rows_of(filtered.leaks()) == [
        ("u1", "leak", "x y z", False),
        ("u3", "leak", "x y z", False),
        ("u4", "leak", "x y z", False),
    ]


def test_contaminated_units_can_be_kept_and_are_recorded():
    texts = ["A b", "x y z", "a  B", "now X, y z!", "Now x, y z!", "y z", "c"]
    index = ContaminationIndex(["x y z"], min_words=3, ngram=2)
    filtered = filter_candidates(candidates(texts), index, policy="keep")
    assert filtered.kept()["unit_id"].to_pylist() == ["u0", "u1", "u3", "u5", "u6"]
    assert rows_of(filtered.removed()) == [
        ("u2", "duplicate", "u0", 1.0),
        ("u4", "duplicate", "u3", 1.0),
    ]
    assert rows_of(filtered.leaks()) == [
        ("u1", "leak", "x y z", True),
        ("u3", "leak", "x y z", True),
        ("u4", "leak", "x y z", False),
        ("u5", "leaked_ngram", "x y z", True),
    ]
    assert (filtered.num_leaks(ngram=False), filtered.num_leaks(ngram=True)) == (3, 1)
    removing = filter_candidates(candidates(texts), index)
    assert (removing.num_leaks(ngram=False), removing.num_leaks(ngram=True)) == (3, 1)


def test_a_duplicate_of_a_near_duplicate_lists_the_kept_unit():
    texts = ["a b c d e", "a b c d f", "A b c d f", "a b c g h", "a b c d F", "a b c g h"]
    near = NearDuplicatesConfig(threshold=0.6, shingle_words=1, num_bands=64, rows_per_band=1)
    filtered = filter_candidates(candidates(texts), ContaminationIndex([], min_words=3), near)
    assert filtered.kept()["unit_id"].to_pylist() == ["u0", "u3"]
    assert rows_of(filtered.removed()) == [
        ("u1", "near_duplicate", "u0", 4 / 6),
        ("u2", "near_duplicate", "u0", 4 / 6),
        ("u4", "near_duplicate", "u0", 4 / 6),
        ("u5", "duplicate", "u3", 1.0),
    ]


def test_a_text_that_shares_an_ngram_with_a_sentence_is_removed():
    texts = ["now x y z", "x y q", "X, y, z", "q x y z q"]
    filtered = filter_candidates(
        candidates(texts), ContaminationIndex(["x y z q", "y z"], min_words=9, ngram=3)
    )
    assert filtered.kept()["unit_id"].to_pylist() == ["u1"]
    assert {(row["reason"], row["partner"]) for row in filtered.removed().to_pylist()} == {
        ("leaked_ngram", "x y z q")
    }
    assert (
        filtered.count(CONTAMINATED),
        filtered.count(CONTAMINATED_NGRAM),
        filtered.count(KEPT),
    ) == (0, 3, 1)


WORDS = st.lists(st.sampled_from("aAbcd"), max_size=5).map(" ".join)


@settings(deadline=None)
@given(
    st.lists(WORDS, max_size=20), st.lists(WORDS, max_size=2), st.sampled_from(["keep", "remove"])
)
def test_every_removed_duplicate_has_the_stated_similarity_to_a_kept_unit(texts, sentences, policy):
    near = NearDuplicatesConfig(threshold=0.5, shingle_words=2, num_bands=16, rows_per_band=1)
    filtered = filter_candidates(
        candidates(texts), ContaminationIndex(sentences, min_words=2), near, policy
    )
    kept = set(filtered.kept_rows.tolist())
    removed = rows_of(filtered.removed())
    assert len(kept) + len(removed) == len(texts)
    text_of = {f"u{row}": text for row, text in enumerate(texts)}
    for unit_id, reason, partner, similarity in removed:
        if reason.startswith("leak"):
            assert policy == "remove"
            continue
        assert int(partner[1:]) in kept
        assert similarity == (
            jaccard(text_of[unit_id], text_of[partner], 2) if reason == "near_duplicate" else 1.0
        )
        assert similarity >= near.threshold
    for num_candidates in range(len(texts)):
        first = filter_candidates(
            candidates(texts[:num_candidates]),
            ContaminationIndex(sentences, min_words=2),
            near,
            policy,
        )
        assert filtered.cut_at(num_candidates).removed().equals(first.removed())


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="abAB ,", max_size=6), max_size=20),
    st.lists(st.text(alphabet="ab ", max_size=4), max_size=3),
    st.integers(0, 20),
)
def test_filtering_matches_the_naive_result_and_truncation_filters_fewer(
    texts, sentences, num_units
):
    index = ContaminationIndex(sentences, min_words=2)
    filtered = filter_candidates(candidates(texts), index)
    firsts = first_equal(texts)
    leaks = {
        row: leak
        for row, text in enumerate(texts)
        if (leak := find_leak(text, sentences, 2)) is not None
    }
    rows = [row for row in range(len(texts)) if firsts[row] == row and row not in leaks]
    assert filtered.kept_rows.tolist() == rows
    assert filtered.removed().to_pylist() == sorted(
        (
            {
                "unit_id": f"u{row}",
                "reason": "leak" if row in leaks else "duplicate",
                "partner": sentences[leaks[row][0]] if row in leaks else f"u{firsts[row]}",
                "jaccard": None if row in leaks else 1.0,
            }
            for row in range(len(texts))
            if row not in rows
        ),
        key=lambda removed: removed["unit_id"],
    )
    if 0 < num_units <= len(rows):
        cut = filtered.cut(num_units)
        fewer = filter_candidates(candidates(texts[: rows[num_units - 1] + 1]), index)
        assert cut.kept().equals(fewer.kept())
        assert cut.removed().equals(fewer.removed())
    else:
        assert num_units == 0 or filtered.cut(num_units) is filtered


def test_both_passes_report_progress(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.0)
    filter_candidates(candidates(["a", "b", "A"]), ContaminationIndex([], min_words=1))
    assert capsys.readouterr().err.splitlines() == [
        "deduplicate: 3 of 3 units",
        "check for contamination: 3 of 3 units",
    ]
