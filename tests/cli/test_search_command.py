"""`raykd search` as a user types it, with the options that change what a term is and counts."""

import json
from math import log
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def hits_of(folder: Path, *options: str) -> dict[str, float]:
    """Unit id -> score of the query "the cat"."""
    units = [("u1", "Cats purr"), ("u2", "the dog and the horse"), ("u3", "cat cat cat")]
    rows = [json.dumps({"unit_id": name, "text": text}) for name, text in units]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    (folder / "queries.jsonl").write_text('{"query_id": 1, "text": "the cat"}')
    paths = ["--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--out", "found"]
    assert raykd(["search", *paths, *options]) == 0
    found = pq.read_table("found/hits.parquet").to_pydict()
    return dict(zip(found["unit_id"], found["score"], strict=True))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_terms_are_words_as_they_stand_unless_told_otherwise(tmp_path: Path) -> None:
    assert sorted(hits_of(tmp_path)) == ["u2", "u3"]


def test_a_stemmer_finds_other_forms_and_stop_words_find_nothing(tmp_path: Path) -> None:
    assert sorted(hits_of(tmp_path, "--stemmer", "english", "--stop-words")) == ["u1", "u3"]


def test_a_variant_scores_by_its_own_formula(tmp_path: Path) -> None:
    found = hits_of(tmp_path, "--variant", "atire", "--b", "0", "--k1", "1")
    # ATIRE: log(N / df) * tf (k1 + 1) / (tf + k1), with "cat" and "the" in one unit of three each.
    assert found == pytest.approx({"u2": log(3) * 4 / 3, "u3": log(3) * 6 / 4})


def test_an_unknown_stemmer_is_told_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--corpus", "a.jsonl", "--queries", "q.jsonl", "--out", "o", "--stemmer", "klingon"]
    assert raykd(["search", *options]) == 2
    assert "stemmer" in (message := capsys.readouterr().err)
    assert "english" in message
