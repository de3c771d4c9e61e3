"""Final messages of `raykd search` and `raykd dedup`."""

import json
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [json.dumps({"text": f"number {n} of many"}) for n in range(1200)]
    lines[7] = "{"
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join([*lines, json.dumps({"text": "Number 9 of  many"})]))
    return path


def test_search_reports_hits_empty_queries_and_unreadable_rows(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"query_id": 1, "text": "many"}\n{"query_id": 2, "text": "?"}\n')
    out = tmp_path / "found"
    paths = ["--corpus", str(corpus), "--queries", str(queries), "--out", str(out)]
    assert raykd(["search", *paths, "--top-k", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/hits.parquet: 3 hits of 2 queries in 1,200 units",
        "empty queries (no searchable terms): 1",
        f"{out}/quarantine.parquet: unreadable rows: 1",
    ]


def test_dedup_reports_kept_and_removed_units(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clean"
    assert raykd(["dedup", str(corpus), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/units: 1,199 of 1,200 units",
        f"{out}/removed.parquet: 1 removed units: duplicates 1, near duplicates 0",
        f"{out}/quarantine.parquet: unreadable rows: 1",
    ]


def test_search_and_dedup_report_the_detected_quoting_of_tsv_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tsv").write_text('text\tn\n"many ""words"""\t1\n')
    (tmp_path / "b.tsv").write_text('text\tn\nmany "words" here\t1\n')
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"query_id": 1, "text": "many"}\n')
    corpus = [str(tmp_path / name) for name in ("a.tsv", "b.tsv")]
    lines = [
        "TSV files whose quotation marks enclose fields (--quoting none keeps them as text): 1",
        "TSV files whose quotation marks are kept as text (--quoting standard removes them): 1",
    ]
    found = ["--queries", str(queries), "--out", str(tmp_path / "found")]
    assert raykd(["search", "--corpus", *corpus, *found]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == lines
    assert raykd(["dedup", *corpus, "--out", str(tmp_path / "clean")]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == lines
