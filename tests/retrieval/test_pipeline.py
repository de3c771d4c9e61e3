"""Searches from files to files, on Ray."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle_bm25 import best_hits

from raykd import progress
from raykd.corpus.pipeline import CorpusConfig, ingest, shard_paths
from raykd.errors import InputError
from raykd.retrieval.pipeline import gather, search, search_files
from raykd.retrieval.queries import make_queries
from raykd.retrieval.scoring import Bm25Config
from raykd.retrieval.search import RetrievalConfig
from raykd.schemas import UNITS, hits_schema

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

CONFIG = RetrievalConfig(top_k=4, keywords="none")


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_shards(folder: Path, units: Sequence[tuple[str, str]], num_shards: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"units-{number}.parquet" for number in range(num_shards)]
    for number, path in enumerate(paths):
        ids, texts = zip(*units[number::num_shards], strict=True)
        pq.write_table(pa.table([list(ids), list(texts)], schema=UNITS), path)
    return paths


def some_units() -> list[tuple[str, str]]:
    rng = random.Random(1)
    words = ["ape", "bee", "cat", "dog", "emu"]
    return [
        (f"{number:02d}", " ".join(rng.choices(words, k=rng.randint(0, 5)))) for number in range(40)
    ]


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    rows = [{"query_id": 7, "text": "cat cat"}, {"query_id": 3, "text": "emu"}]
    return write_jsonl(tmp_path / "queries.jsonl", rows)


def test_hits_are_the_same_bytes_for_any_shards_and_equal_the_oracle(tmp_path: Path) -> None:
    units = some_units()
    texts = ["cat dog", "", "emu emu bee", "zebra"]
    outputs = []
    for num_shards in (1, 3, 11):
        shards = write_shards(tmp_path / f"shards-{num_shards}", units, num_shards)
        out = tmp_path / f"hits-{num_shards}"
        manifest = search(shards[::-1], make_queries(texts, "none"), CONFIG, out, {"units": "x"})
        assert (manifest.counts["num_queries"], manifest.counts["num_empty_queries"]) == (4, 1)
        outputs.append((out / "hits.parquet").read_bytes())
        assert sorted(path.name for path in out.iterdir()) == ["hits.parquet", "manifest.json"]
    assert outputs[0] == outputs[1] == outputs[2]
    table = pq.read_table(tmp_path / "hits-3" / "hits.parquet")
    assert table.schema.equals(hits_schema())
    expected = best_hits(units, texts, 4)
    found = zip(
        (int(name) for name in table["query_id"].to_pylist()),
        table["unit_id"].to_pylist(),
        table["score"].to_pylist(),
        strict=True,
    )
    assert list(found) == expected
    assert table["rank"].to_pylist() == [1, 2, 3, 4, 1, 2, 3, 4]
    assert not list(tmp_path.glob(".*"))


def test_a_repeated_search_does_nothing_and_another_one_replaces_it(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 2)
    queries = make_queries(["cat"], "none")
    out = tmp_path / "hits"
    search(shards, queries, CONFIG, out, {"units": "x"})
    written = (out / "hits.parquet").stat().st_mtime_ns
    search(shards, queries, CONFIG, out, {"units": "x"})
    assert (out / "hits.parquet").stat().st_mtime_ns == written
    config = RetrievalConfig(top_k=1, keywords="none")
    assert search(shards, queries, config, out, {"units": "x"}).counts["num_hits"] == 1


def test_finished_shards_of_an_interrupted_search_are_used_again(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 2)
    queries = make_queries(["cat"], "none")
    whole = shards[1].read_bytes()
    ids = pq.read_metadata(shards[1]).row_group(0).column(0)
    start = ids.dictionary_page_offset
    # The statistics pass reads texts only; the search comes upon the damage.
    damaged = bytearray(whole)
    damaged[start : start + ids.total_compressed_size] = bytes(ids.total_compressed_size)
    shards[1].write_bytes(damaged)
    counted = tmp_path / ".hits.parts" / "statistics-00000" / "df.npy"
    files = []
    for _ in range(2):
        with pytest.raises(InputError, match=r"units-1\.parquet: damaged or truncated"):
            search(shards, queries, CONFIG, tmp_path / "hits", {"units": "x"})
        assert not (tmp_path / "hits").exists()
        files.append(counted.stat().st_ino)
    assert files[0] == files[1]
    shards[1].write_bytes(whole)
    search(shards, queries, CONFIG, tmp_path / "hits", {"units": "x"})
    search(shards, queries, CONFIG, tmp_path / "undisturbed", {"units": "x"})
    hits = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("hits", "undisturbed")]
    assert hits[0] == hits[1]
    assert not (tmp_path / ".hits.parts").exists()


def test_gather_returns_the_units_asked_for(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", [("a", "1"), ("b", "2"), ("c", "3")], 2)
    table = gather(shards, pa.array(["c", "b", "nowhere"]))
    assert sorted(zip(*table.to_pydict().values(), strict=True)) == [("b", "2"), ("c", "3")]
    assert gather(shards, pa.array([], pa.string())).schema == UNITS


def test_given_ids_keep_their_type_and_titles_are_searched(tmp_path: Path, queries: Path) -> None:
    rows = [
        {"doc_id": 12, "title": "Cat", "text": "nothing else"},
        {"doc_id": -4, "title": "", "text": "an emu"},
        {"doc_id": 5, "text": "dogs"},
    ]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    manifest = search_files([corpus], queries, tmp_path / "out", top_k=10)
    table = pq.read_table(tmp_path / "out" / "hits.parquet")
    assert table.schema.equals(hits_schema(pa.int64(), pa.int64()))
    assert table.select(["query_id", "unit_id", "rank"]).to_pydict() == {
        "query_id": [7, 3],
        "unit_id": [12, -4],
        "rank": [1, 1],
    }
    assert manifest.counts["average_length"] == pytest.approx(6 / 3)


def test_one_corpus_in_parquet_tsv_and_jsonl_gives_the_same_hits(
    tmp_path: Path, queries: Path
) -> None:
    units = [(name, text) for name, text in some_units() if text]
    ids, texts = zip(*units, strict=True)
    renamed = [f"u{name}" for name in ids]
    pq.write_table(pa.table({"unit_id": renamed, "text": texts}), tmp_path / "a.parquet")
    lines = [f"{name}\t{text}" for name, text in zip(renamed, texts, strict=True)]
    (tmp_path / "b.tsv").write_text("\n".join(["unit_id\ttext", *lines]))
    rows = [{"unit_id": name, "text": text} for name, text in zip(renamed, texts, strict=True)]
    folder = tmp_path / "c"
    folder.mkdir()
    write_jsonl(folder / "1.jsonl", rows[:7])
    (folder / "2.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows[7:]).encode())
    )
    hits = []
    for number, corpus in enumerate((tmp_path / "a.parquet", tmp_path / "b.tsv", folder)):
        out = tmp_path / f"out-{number}"
        search_files([corpus], queries, out, top_k=5, bm25=Bm25Config(k1=0.9, b=0.4))
        hits.append((out / "hits.parquet").read_bytes())
    assert hits[0] == hits[1] == hits[2]


def test_lines_of_text_get_ids_of_their_own(tmp_path: Path, queries: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a dog\n\na cat\n")
    (tmp_path / "copy.txt").write_text("a dog\n\na cat\n")
    search_files([corpus, tmp_path / "copy.txt"], queries, tmp_path / "out", top_k=10)
    [unit_id] = pq.read_table(tmp_path / "out" / "hits.parquet")["unit_id"].to_pylist()
    assert unit_id[16:] == "-000000000007-00000000"
    lines = CorpusConfig.parse({"paths": ["-"], "units": {"policy": "line"}}, "test")
    ingest(lines, [corpus], tmp_path / "units")
    [shard] = shard_paths(tmp_path / "units")
    assert unit_id in pq.read_table(shard)["unit_id"].to_pylist()


def test_a_file_of_equal_bytes_and_another_format_is_another_corpus(
    tmp_path: Path, queries: Path
) -> None:
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"doc_id": 1, "text": "a cat"}])
    search_files([corpus], queries, tmp_path / "out", top_k=1)
    search_files([corpus.rename(tmp_path / "corpus.txt")], queries, tmp_path / "out", top_k=1)
    hits = pq.read_table(tmp_path / "out" / "hits.parquet")
    assert hits["unit_id"].type == pa.string()


def test_equal_files_repeat_the_ids_they_give(tmp_path: Path, queries: Path) -> None:
    corpus = write_jsonl(tmp_path / "1.jsonl", [{"doc_id": 1, "text": "cat"}])
    search_files([corpus], queries, tmp_path / "out", top_k=1)
    (tmp_path / "2.jsonl").write_bytes(corpus.read_bytes())
    (tmp_path / "empty-1.jsonl").touch()
    (tmp_path / "empty-2.jsonl").touch()
    message = r"1\.jsonl and .*2\.jsonl: the id 1 appears twice, .* give one of them"
    with pytest.raises(InputError, match=message):
        search_files(sorted(tmp_path.glob("*[12].jsonl")), queries, tmp_path / "out", top_k=1)


def test_output_among_what_is_searched_is_refused(tmp_path: Path, queries: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_jsonl(folder / "1.jsonl", [{"text": "cat"}])
    with pytest.raises(InputError, match=r"corpus: holds the output, .*; write the output else"):
        search_files([folder], queries, folder / "hits", top_k=1)


def test_the_merge_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.0)
    shards = write_shards(tmp_path / "shards", some_units(), 11)
    search(shards, make_queries(["cat"], "none"), CONFIG, tmp_path / "hits", {"units": "x"})
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("merge")]
    assert lines == ["merge: 8 of 11 blocks of hits", "merge: 11 of 11 blocks of hits"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"doc_id": 1, "body": "cat"}], "no key 'text'"),
        ([{"doc_id": 1, "text": "cat"}, {"doc_id": None, "text": "dog"}], "at 29: .* is missing"),
        ([{"doc_id": "1", "text": "cat"}, {"doc_id": 1, "text": "dog"}], "is a whole number"),
        ([{"doc_id": 1, "text": "cat"}, {"doc_id": 1, "text": "dog"}], "the id 1 appears twice"),
        ([{"doc_id": "é", "text": "cat"}] * 2, "the id 'é' appears twice"),
        ([], "holds no row"),
    ],
)
def test_a_wrong_corpus_is_refused(
    tmp_path: Path, queries: Path, rows: list[Any], message: str
) -> None:
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    with pytest.raises(InputError, match=message):
        search_files([corpus], queries, tmp_path / "out", top_k=1)
    assert not (tmp_path / "out").exists()


def test_ids_of_two_kinds_or_twice_in_two_files_are_refused(tmp_path: Path, queries: Path) -> None:
    first = write_jsonl(tmp_path / "1.jsonl", [{"doc_id": "x", "text": "cat"}])
    other = write_jsonl(tmp_path / "2.jsonl", [{"doc_id": "x", "text": "dog"}])
    bare = write_jsonl(tmp_path / "3.jsonl", [{"text": "dog"}])
    with pytest.raises(InputError, match="the id 'x' appears twice"):
        search_files([first, other], queries, tmp_path / "out", top_k=1)
    with pytest.raises(InputError, match="give every row an id of one type, or none"):
        search_files([first, bare], queries, tmp_path / "out", top_k=1)


def test_a_missing_column_or_file_is_named(tmp_path: Path, queries: Path) -> None:
    pq.write_table(pa.table({"body": ["cat"]}), tmp_path / "corpus.parquet")
    with pytest.raises(InputError, match=r"corpus\.parquet: no column 'text'"):
        search_files([tmp_path / "corpus.parquet"], queries, tmp_path / "out", top_k=1)
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        search_files([tmp_path / "nowhere.jsonl"], queries, tmp_path / "out", top_k=1)
    with pytest.raises(InputError, match=r"absent\.tsv: no such file"):
        search_files([queries], tmp_path / "absent.tsv", tmp_path / "out", top_k=1)


def test_a_few_bad_rows_are_set_aside_and_listed(tmp_path: Path, queries: Path) -> None:
    rows = [{"doc_id": number, "text": "cat"} for number in range(200)]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    with corpus.open("a") as file:
        file.write("not JSON\n")
    search_files([corpus], queries, tmp_path / "out", top_k=1)
    [row] = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert row["reason"].startswith("not JSON")
