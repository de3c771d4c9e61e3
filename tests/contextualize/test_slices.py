"""The corpus of fewer hits per query is the first part of a larger one."""

import threading

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from test_select import run, training_text

from raykd.contextualize import select
from raykd.contextualize.select import write_slice
from raykd.errors import InputError

TEXTS = ["a", "A", "b", "c d", "c  d", "one two three four five six", "one two three four five 6"]


@settings(deadline=None, max_examples=40)
@given(
    hits=st.lists(
        st.tuples(
            st.sampled_from(["q0", "q1", "q2"]),
            st.sampled_from([f"u{number}" for number in range(9)]),
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=24,
    ),
    texts=st.lists(st.sampled_from(TEXTS), min_size=9, max_size=9),
    limit=st.sampled_from([{}, {"max_units": 2}, {"target_bytes": 5}]),
    evaluation=st.sampled_from([[], ["b"]]),
    near=st.sampled_from([None, {"threshold": 0.2, "shingle_words": 2, "num_bands": 64}]),
    last_rank=st.integers(1, 3),
)
def test_a_slice_has_the_bytes_of_the_corpus_of_fewer_hits(
    hits, texts, limit, evaluation, near, last_rank, tmp_path_factory
):
    texts = {f"u{number}": text for number, text in enumerate(texts)}
    larger, smaller = (tmp_path_factory.mktemp("corpus") for _ in range(2))
    config = {"near_duplicates": near, **limit}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "_WRITE_ROWS", 2)
        try:
            run(smaller, [hit for hit in hits if hit[2] <= last_rank], texts, evaluation, **config)
        except InputError:  # no hit has such a rank, or only leaks have
            return
        run(larger, hits, texts, evaluation, **config)
        write_slice(larger / "out", last_rank, larger / "slice")
    sliced = (larger / "slice" / "text.parquet").read_bytes()
    assert sliced == (smaller / "out" / "text.parquet").read_bytes()


def test_a_slice_of_no_rows_is_empty(tmp_path):
    run(tmp_path, [("q0", "u0", 2)], {"u0": "a"})
    assert len(training_text(tmp_path)) == 1
    assert write_slice(tmp_path / "out", 1, tmp_path / "slice").counts == {"num_units": 0}


def test_a_slice_is_written_once_by_concurrent_trials(tmp_path, monkeypatch):
    run(tmp_path, [("q0", "u0", 1), ("q0", "u1", 2)], {"u0": "a", "u1": "b"})
    written = []
    write_text = select._write_text
    monkeypatch.setattr(
        select, "_write_text", lambda *args: (written.append(1), write_text(*args))[1]
    )

    def trial():
        with FileLock(tmp_path / "slice.lock"):
            write_slice(tmp_path / "out", 1, tmp_path / "slice")

    threads = [threading.Thread(target=trial) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [1]
