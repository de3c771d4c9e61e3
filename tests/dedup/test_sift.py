import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_dedup import find_leak, first_equal

from raykd import progress
from raykd.dedup.leaks import LeakIndex
from raykd.dedup.sift import KEPT, LEAK, LEAKED_NGRAM, sift


def candidates(texts):
    ids = [f"u{number}" for number in range(len(texts))]
    return pa.table({"unit_id": ids, "text": pa.array(texts, pa.large_string())})


def test_a_duplicate_names_the_unit_kept_and_a_leak_the_sentence():
    texts = ["A b", "x y z", "a  B", "now X, y z!", "Now x, y z!", "c"]
    sifted = sift(candidates(texts), LeakIndex(["x y z"], min_words=3))
    assert sifted.kept()["unit_id"].to_pylist() == ["u0", "u5"]
    assert sifted.removed().to_pylist() == [
        {"unit_id": "u1", "reason": "leak", "partner": "x y z"},
        {"unit_id": "u2", "reason": "duplicate", "partner": "u0"},
        {"unit_id": "u3", "reason": "leak", "partner": "x y z"},
        {"unit_id": "u4", "reason": "leak", "partner": "x y z"},
    ]


def test_a_text_that_shares_words_in_a_row_with_a_sentence_is_removed_for_that():
    texts = ["now x y z", "x y q", "X, y, z", "q x y z q"]
    sifted = sift(candidates(texts), LeakIndex(["x y z q", "y z"], min_words=9, ngram=3))
    assert sifted.kept()["unit_id"].to_pylist() == ["u1"]
    assert {(row["reason"], row["partner"]) for row in sifted.removed().to_pylist()} == {
        ("leaked_ngram", "x y z q")
    }
    assert (sifted.count(LEAK), sifted.count(LEAKED_NGRAM), sifted.count(KEPT)) == (0, 3, 1)


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="abAB ,", max_size=6), max_size=20),
    st.lists(st.text(alphabet="ab ", max_size=4), max_size=3),
    st.integers(0, 20),
)
def test_sifting_is_the_obvious_one_and_cutting_it_is_sifting_fewer(texts, sentences, num_units):
    index = LeakIndex(sentences, min_words=2)
    sifted = sift(candidates(texts), index)
    firsts = first_equal(texts)
    leaks = {
        row: leak
        for row, text in enumerate(texts)
        if (leak := find_leak(text, sentences, 2)) is not None
    }
    rows = [row for row in range(len(texts)) if firsts[row] == row and row not in leaks]
    assert sifted.kept_rows.tolist() == rows
    assert sifted.removed().to_pylist() == sorted(
        (
            {
                "unit_id": f"u{row}",
                "reason": "leak" if row in leaks else "duplicate",
                "partner": sentences[leaks[row][0]] if row in leaks else f"u{firsts[row]}",
            }
            for row in range(len(texts))
            if row not in rows
        ),
        key=lambda removed: removed["unit_id"],
    )
    if 0 < num_units <= len(rows):
        cut = sifted.cut(num_units)
        fewer = sift(candidates(texts[: rows[num_units - 1] + 1]), index)
        assert cut.kept().equals(fewer.kept())
        assert cut.removed().equals(fewer.removed())
    else:
        assert num_units == 0 or sifted.cut(num_units) is sifted


def test_both_passes_show_how_far_they_are(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.0)
    sift(candidates(["a", "b", "A"]), LeakIndex([], min_words=1))
    assert capsys.readouterr().err.splitlines() == [
        "deduplicate: 3 of 3 units",
        "check for leaks: 3 of 3 units",
    ]
