"""Searches from files to files, on Ray."""

import gzip
import json
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle_bm25 import best_hits

from raykd import progress
from raykd.cluster import capacity, datasets
from raykd.corpus.config import CorpusConfig
from raykd.corpus.custom import corpus as custom_corpus
from raykd.corpus.custom import ids as custom_ids
from raykd.corpus.custom.corpus import write_custom_units
from raykd.corpus.custom.units import unit_files
from raykd.corpus.pipeline import ingest, shard_paths
from raykd.corpus.shards import plan_shards
from raykd.corpus.unit_lookup import id_range, ids_between, units_of
from raykd.errors import InputError
from raykd.retrieval import query_sets, rankers, waves
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.pipeline import gather, search_corpus, search_files
from raykd.retrieval.queries import make_queries
from raykd.retrieval.query_sets import QuerySet, write_hits
from raykd.retrieval.waves import plan_waves
from raykd.storage.manifest import digest_of_file
from raykd.storage.schemas import UNITS, hits_schema

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


def one_set(texts: Sequence[str], top_k: int = 4, name: str = "hits") -> list[QuerySet]:
    return [QuerySet(name, make_queries(texts, "none"), top_k)]


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
        manifest = search_corpus(shards[::-1], one_set(texts), CONFIG, out, {"units": "x"})
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


@pytest.mark.parametrize("unit_id_type", [pa.string(), pa.int64()])
def test_hits_are_the_same_bytes_for_any_waves_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit_id_type: pa.DataType
) -> None:
    units = some_units()
    texts = ["cat dog", "", "emu emu bee", "zebra", "ape", "dog cat", "bee bee"]
    outputs = set()
    for num_shards, num_cpus, rows_per_block in [(1, 2, 100), (7, 1, 4), (7, 2, 5), (8, 3, 9)]:
        monkeypatch.setattr(capacity, "total_cpus", lambda cpus=num_cpus: float(cpus))
        monkeypatch.setattr(query_sets, "_ROWS_PER_BATCH", rows_per_block)
        monkeypatch.setattr(waves, "_ROWS_MERGED", rows_per_block)
        folder = tmp_path / f"{num_shards}-{num_cpus}"
        shards = write_shards(folder, units, num_shards)
        for path in shards:
            table = pq.read_table(path)
            ids = table["unit_id"].cast(unit_id_type)
            pq.write_table(table.set_column(0, "unit_id", ids), path)
        empty = pa.table([pa.array([], pa.string())] * 2, names=["unit_id", "text"])
        pq.write_table(empty, folder / "empty.parquet")
        found = [*shards, folder / "empty.parquet"]
        search_corpus(found, one_set(texts, 5), CONFIG, folder / "hits", {"units": "x"})
        outputs.add((folder / "hits" / "hits.parquet").read_bytes())
    assert len(outputs) == 1
    table = pq.read_table(folder / "hits" / "hits.parquet")
    assert table.schema.equals(hits_schema(pa.string(), unit_id_type))
    pairs = zip(table["query_id"].to_pylist(), table["unit_id"].to_pylist(), strict=True)
    expected = [(query, int(name)) for query, name, _ in best_hits(units, texts, 5)]
    assert [(int(query), int(name)) for query, name in pairs] == expected


def test_shards_of_equal_bytes_may_fill_whole_waves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Waves of 1, 1, 2, 4 and 1 shards: with six of nine equal, one wave at least brings nothing
    # new, wherever their digest is in the order.
    monkeypatch.setattr(capacity, "total_cpus", lambda: 1.0)
    units = [("a", "cat"), ("b", "cat dog"), ("c", "dog")]
    shards = write_shards(tmp_path / "shards", units, 3)
    for number in range(6):
        shards.append(tmp_path / "shards" / f"empty-{number}.parquet")
        pq.write_table(UNITS.empty_table(), shards[-1])
    assert len({digest_of_file(path) for path in shards}) == 4
    search_corpus(shards, one_set(["cat", "dog"]), CONFIG, tmp_path / "hits", {"units": "x"})
    search_corpus(
        shards[:3], one_set(["cat", "dog"]), CONFIG, tmp_path / "expected", {"units": "x"}
    )
    outputs = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("hits", "expected")]
    assert outputs[0] == outputs[1]


def test_a_file_listed_twice_counts_twice_in_any_wave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [shard] = write_shards(tmp_path / "shards", [("a", "cat"), ("b", "cat dog")], 1)
    for num_cpus in (1, 8):
        monkeypatch.setattr(capacity, "total_cpus", lambda cpus=num_cpus: float(cpus))
        out = tmp_path / f"hits-{num_cpus}"
        search_corpus([shard] * 4, one_set(["cat"], 5), CONFIG, out, {"units": "x"})
        ids = pq.read_table(out / "hits.parquet")["unit_id"].to_pylist()
        assert ids == ["a", "a", "a", "a", "b"]


def test_sets_have_the_same_hits_together_and_alone(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 5)
    sets = [
        *one_set(["cat dog", "emu", "emu"], 3, "a"),
        *one_set(["", "?"], 9, "b"),
        *one_set(["dog cat", "bee emu", "emu"], 100, "c"),
    ]
    together = search_corpus(shards, sets, CONFIG, tmp_path / "together", {"units": "x"})
    for query_set in sets:
        out = tmp_path / query_set.name
        alone = search_corpus(shards, [query_set], CONFIG, out, {"units": "x"})
        name = f"{query_set.name}.parquet"
        assert (out / name).read_bytes() == (tmp_path / "together" / name).read_bytes()
        assert together.counts[f"{query_set.name}.num_hits"] == alone.counts["num_hits"]
    assert together.counts["num_queries"] == 8
    assert together.counts["num_empty_queries"] == 2
    ranks = pq.read_table(tmp_path / "c" / "c.parquet")["rank"].to_pylist()
    assert max(ranks) == len([text for _, text in some_units() if "dog" in text or "cat" in text])


def test_equal_scores_in_different_shards_are_in_the_order_of_ids(tmp_path: Path) -> None:
    units = [(f"{number:02d}", "cat dog") for number in range(30)] + [("zz", "bee")]
    shards = write_shards(tmp_path / "shards", units, 6)
    search_corpus(shards, one_set(["cat"], 7), CONFIG, tmp_path / "hits", {"units": "x"})
    ids = pq.read_table(tmp_path / "hits" / "hits.parquet")["unit_id"].to_pylist()
    assert ids == [f"{number:02d}" for number in range(7)]


def test_only_damaged_files_are_written_again_during_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 5)
    search_corpus(shards, one_set(["cat", "dog"]), CONFIG, tmp_path / "expected", {"units": "x"})
    written: list[dict[str, int]] = []

    def damaging(path: Path, *rest: Any) -> int:
        parts = path.parents[1] / ".hits.parts"
        manifests = parts.glob("*/manifest.json")
        written.append({path.parent.name: path.stat().st_mtime_ns for path in manifests})
        if len(written) == 1:
            for kind in ("hits-", "merged-"):
                [*_, path_to_damage] = sorted(parts.glob(f"{kind}*"))
                content = bytearray((path_to_damage / "hits.bin").read_bytes())
                content[40] ^= 1
                (path_to_damage / "hits.bin").write_bytes(content)
        return write_hits(path, *rest)

    monkeypatch.setattr(rankers, "write_hits", damaging)
    search_corpus(shards, one_set(["cat", "dog"]), CONFIG, tmp_path / "hits", {"units": "x"})
    outputs = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("expected", "hits")]
    assert outputs[0] == outputs[1]
    before, after = written
    again = sorted(name for name in before if after[name] != before[name])
    assert [name.partition("-")[0] for name in again] == ["hits", "merged"]


def test_damaged_merged_hits_repeat_the_search_of_their_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Waves of 2, 2 and 2 shards: the hits of the first four are there merged only.
    shards = write_shards(tmp_path / "shards", some_units(), 6)
    search_corpus(shards, one_set(["cat", "dog"]), CONFIG, tmp_path / "expected", {"units": "x"})
    parts = tmp_path / ".hits.parts"
    searched: list[int] = []
    for_each = datasets.for_each

    def counting(function: Any, items: Sequence[Any], **rest: Any) -> list[Any]:
        if rest["label"].startswith("search"):
            searched.append(sum(not wanted_folder(task).exists() for task in items))
        return for_each(function, items, **rest)

    def wanted_folder(task: Any) -> Path:
        return parts / f"hits-{digest_of_file(shards[task.shard])}"

    def damaging(*rest: Any) -> int:
        if len(searched) == 3:
            for folder in parts.glob("merged-*"):
                (folder / "hits.bin").write_bytes(b"")
        return write_hits(*rest)

    monkeypatch.setattr(rankers, "write_hits", damaging)
    monkeypatch.setattr(datasets, "for_each", counting)
    search_corpus(shards, one_set(["cat", "dog"]), CONFIG, tmp_path / "hits", {"units": "x"})
    assert searched == [2, 2, 2, 2, 2, 0]
    outputs = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("expected", "hits")]
    assert outputs[0] == outputs[1]


def test_hits_are_removed_once_merged_and_not_searched_for_again_with_other_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 7)
    queries = one_set(["cat", "dog emu"])
    search_corpus(shards, queries, CONFIG, tmp_path / "expected", {"units": "x"})
    searched: list[str] = []
    for_each = datasets.for_each

    def stopping(function: Any, items: Sequence[Any], **rest: Any) -> list[Any]:
        if rest["label"].startswith("search"):
            searched.extend(shards[task.shard].name for task in items)
        if rest["label"].startswith("merge, wave 3 of 3"):
            raise InterruptedError
        return for_each(function, items, **rest)

    monkeypatch.setattr(datasets, "for_each", stopping)
    with pytest.raises(InterruptedError):
        search_corpus(shards, queries, CONFIG, tmp_path / "hits", {"units": "x"})
    parts = tmp_path / ".hits.parts"
    assert sorted(searched) == [path.name for path in shards]
    assert sorted(path.name for path in parts.glob("hits-*")) == sorted(
        f"hits-{digest_of_file(tmp_path / 'shards' / name)}" for name in searched[4:]
    )
    assert len(list(parts.glob("merged-*"))) == 1
    unmerged = searched[4:]
    searched.clear()
    monkeypatch.setattr(capacity, "total_cpus", lambda: 3.0)
    search_corpus(shards, queries, CONFIG, tmp_path / "hits", {"units": "x"})
    assert searched == unmerged
    outputs = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("expected", "hits")]
    assert outputs[0] == outputs[1]


def test_shards_come_in_waves_that_double_in_the_order_of_their_digests() -> None:
    digests = ["c", "a", "e", "b", "d", "f", "g"]
    assert plan_waves(digests, 1, 1) == [[1], [3], [0, 4], [2, 5, 6]]
    assert plan_waves(digests, 2, 1) == [[1, 3], [0, 4], [2, 5, 6]]
    assert plan_waves(digests, 16, 16) == [[1, 3, 0, 4, 2, 5, 6]]


def test_waves_after_the_first_are_multiples_of_the_cpus_and_the_last_takes_the_rest() -> None:
    def sizes(num_shards: int, num_first: int, num_cpus: int) -> list[int]:
        digests = [f"{number:04d}" for number in range(num_shards)]
        return [len(wave) for wave in plan_waves(digests, num_first, num_cpus)]

    assert sizes(32, 1, 2) == [1, 2, 4, 8, 17]
    assert sizes(16, 1, 2) == [1, 2, 4, 9]
    assert sizes(17, 1, 2) == [1, 2, 4, 8, 2]
    assert sizes(3, 3, 2) == [3]
    assert sizes(150, 8, 64) == [8, 64, 78]
    assert sizes(1000, 8, 64) == [8, 64, 128, 256, 544]
    assert sizes(11, 3, 8) == [3, 8]
    assert sizes(12, 3, 8) == [3, 9]


def test_many_queries_are_split_so_that_cpus_can_share_a_shard():
    top_k = np.ones(40_000, np.int32)
    blocks = query_sets.blocks_of(top_k)
    assert [last - first for first, last in blocks] == [5000] * 8
    assert query_sets.blocks_of(top_k[:5000]) == [(0, 5000)]
    assert len(query_sets.blocks_of(100 * top_k)) == 8
    assert len(query_sets.blocks_of(1000 * top_k)) == 20


def test_a_repeated_search_does_nothing_and_another_one_replaces_it(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 2)
    queries = one_set(["cat"])
    out = tmp_path / "hits"
    search_corpus(shards, queries, CONFIG, out, {"units": "x"})
    written = (out / "hits.parquet").stat().st_mtime_ns
    search_corpus(shards, queries, CONFIG, out, {"units": "x"})
    assert (out / "hits.parquet").stat().st_mtime_ns == written
    fewer = [QuerySet("hits", queries[0].table, 1)]
    assert search_corpus(shards, fewer, CONFIG, out, {"units": "x"}).counts["num_hits"] == 1


def test_finished_shards_of_an_interrupted_search_are_used_again(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", some_units(), 2)
    queries = one_set(["cat"])
    whole = shards[1].read_bytes()
    ids = pq.read_metadata(shards[1]).row_group(0).column(0)
    start = ids.dictionary_page_offset
    # The statistics pass reads texts only; the search comes upon the damage.
    damaged = bytearray(whole)
    damaged[start : start + ids.total_compressed_size] = bytes(ids.total_compressed_size)
    shards[1].write_bytes(damaged)
    digest = digest_of_file(shards[0])
    counted = tmp_path / ".hits.parts" / f"statistics-{digest}" / "df.arrow"
    files = []
    for _ in range(2):
        with pytest.raises(InputError, match=r"units-1\.parquet: damaged or truncated"):
            search_corpus(shards, queries, CONFIG, tmp_path / "hits", {"units": "x"})
        assert not (tmp_path / "hits").exists()
        files.append(counted.stat().st_ino)
    assert files[0] == files[1]
    shards[1].write_bytes(whole)
    search_corpus(shards, queries, CONFIG, tmp_path / "hits", {"units": "x"})
    search_corpus(shards, queries, CONFIG, tmp_path / "undisturbed", {"units": "x"})
    hits = [(tmp_path / out / "hits.parquet").read_bytes() for out in ("hits", "undisturbed")]
    assert hits[0] == hits[1]
    assert not (tmp_path / ".hits.parts").exists()


def test_gather_returns_the_requested_units(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", [("a", "1"), ("b", "2"), ("c", "3")], 2)
    table = gather(shards, pa.array(["c", "b", "nowhere"]))
    assert sorted(zip(*table.to_pydict().values(), strict=True)) == [("b", "2"), ("c", "3")]
    assert gather(shards, pa.array([], pa.string())).schema == UNITS


def test_a_file_of_units_is_searched_only_for_ids_in_its_range(tmp_path: Path) -> None:
    path, *_ = write_shards(tmp_path / "shards", [("b", "1"), ("d", "2"), ("m", "3")], 1)
    assert id_range(path) == ("b", "m")
    ordered = pa.array(["a", "b", "c", "m", "n"])
    assert ids_between(ordered, "b", "m").to_pylist() == ["b", "c", "m"]
    assert ids_between(ordered, None, None).equals(ordered)
    assert units_of((path, pa.array(["b", "c", "m"])))["text"].to_pylist() == ["1", "3"]
    table = pq.read_table(path)
    pq.write_table(table, tmp_path / "plain.parquet", write_statistics=False)
    assert id_range(tmp_path / "plain.parquet") == (None, None)


def test_row_groups_without_requested_ids_are_not_read(tmp_path: Path) -> None:
    # As given: in no order, and with ids between those of another group.
    table = pa.table([["d", "a", "z", "y", "c", "e"], list("123456")], schema=UNITS)
    for name, has_statistics in (("units", ["unit_id"]), ("plain", False)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=2, write_statistics=has_statistics)
        assert units_of((path, pa.array(["a", "c"])))["text"].to_pylist() == ["2", "5"]
    path = tmp_path / "units.parquet"
    content = bytearray(path.read_bytes())
    place = pq.read_metadata(path).row_group(1).column(1).data_page_offset
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert units_of((path, pa.array(["a", "c"])))["text"].to_pylist() == ["2", "5"]
    with pytest.raises(InputError, match="units.parquet: damaged"):
        units_of((path, pa.array(["a", "y"])))


def test_a_shard_is_sent_its_own_ids_and_no_others() -> None:
    ordered = pa.array([f"{number:06d}" for number in range(10_000)])
    own = ids_between(ordered, "000100", "000109")
    assert len(own) == 10
    assert len(pickle.dumps(own)) < 1000


def test_custom_ids_keep_their_type_and_titles_are_searched(tmp_path: Path, queries: Path) -> None:
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


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "corpus.parquet"])
def test_unsliceable_files_are_searched_in_files_of_the_size_of_a_shard(
    tmp_path: Path, queries: Path, name: str
) -> None:
    rows = [{"unit_id": f"u{number:03d}", "text": f"emu {number} cat"} for number in range(800)]
    plain = write_jsonl(tmp_path / "plain.jsonl", rows)
    packed = tmp_path / name
    if name.endswith(".gz"):
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        pq.write_table(pa.Table.from_pylist(rows), packed)
    written = write_custom_units({"digest": packed}, tmp_path / "given", 2000)
    assert len(written) == 1
    tables = [pq.read_table(path) for path in unit_files(written)]
    assert [sum(map(len, table["text"].to_pylist())) for table in tables] == [2002] * 4 + [682]
    assert pa.concat_tables(tables).to_pylist() == rows
    for corpus, shard_bytes in ((plain, None), (packed, 2000)):
        out = tmp_path / f"{corpus.stem}-hits"
        search_files([corpus], queries, out, top_k=9, shard_bytes=shard_bytes)
    found = [path.read_bytes() for path in tmp_path.glob("*-hits/hits.parquet")]
    assert found[0] == found[1]


def test_a_change_of_the_shard_size_rewrites_the_files_of_units(tmp_path: Path) -> None:
    text = "".join(f'{{"text": "number {number}"}}\n' for number in range(100))
    packed = tmp_path / "corpus.jsonl.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    nums_files = [
        len(unit_files(write_custom_units({"digest": packed}, tmp_path / "given", shard_bytes)))
        for shard_bytes in (2000, 300)
    ]
    assert nums_files == [1, 3]


def test_long_rows_are_written_before_many_are_in_memory(tmp_path: Path) -> None:
    rows = [{"unit_id": number, "text": "x" * (1 << 20)} for number in range(20)]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    [path] = unit_files(write_custom_units({"digest": corpus}, tmp_path / "given", 64 << 20))
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [8, 8, 4]


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


def test_equal_files_have_repeated_ids(tmp_path: Path, queries: Path) -> None:
    corpus = write_jsonl(tmp_path / "1.jsonl", [{"doc_id": 1, "text": "cat"}])
    search_files([corpus], queries, tmp_path / "out", top_k=1)
    (tmp_path / "2.jsonl").write_bytes(corpus.read_bytes())
    (tmp_path / "empty-1.jsonl").touch()
    (tmp_path / "empty-2.jsonl").touch()
    message = r"1\.jsonl and .*2\.jsonl: the id 1 appears twice, .* give one of them"
    with pytest.raises(InputError, match=message):
        search_files(sorted(tmp_path.glob("*[12].jsonl")), queries, tmp_path / "out", top_k=1)


def test_output_inside_the_searched_corpus_is_refused(tmp_path: Path, queries: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_jsonl(folder / "1.jsonl", [{"text": "cat"}])
    with pytest.raises(InputError, match=r"corpus: contains the output, .*; write the output else"):
        search_files([folder], queries, folder / "hits", top_k=1)
    for inside in (folder / "1.jsonl", queries):
        with pytest.raises(InputError, match=r"is inside the output, .*, which would replace it"):
            search_files([folder / "1.jsonl"], queries, inside.parent, top_k=1)
        assert inside.exists()


def test_waves_report_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.0)
    shards = write_shards(tmp_path / "shards", some_units(), 7)
    search_corpus(shards, one_set(["cat"]), CONFIG, tmp_path / "hits", {"units": "x"})
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("search")] == [
        *(f"search, wave 1 of 3: {number} of 2 shards" for number in (1, 2)),
        *(f"search, wave 2 of 3: {number} of 2 shards" for number in (1, 2)),
        *(f"search, wave 3 of 3: {number} of 3 shards" for number in (1, 2, 3)),
    ]
    assert "merge, wave 3 of 3: 1 of 1 blocks of queries" in lines


def test_more_hits_than_can_be_numbered_are_refused_and_the_most_are_all_there_are(
    tmp_path: Path, queries: Path
) -> None:
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"doc_id": n, "text": "cat"} for n in (1, 2)])
    with pytest.raises(InputError, match=r"'top_k': .* less than or equal to 2147483647, not 3"):
        search_files([corpus], queries, tmp_path / "out", top_k=3_000_000_000)
    found = search_files([corpus], queries, tmp_path / "out", top_k=2_147_483_647)
    assert found.counts["num_hits"] == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"doc_id": 1, "body": "cat"}], "no key 'text'"),
        (
            [{"doc_id": 1, "text": "cat"}, {"doc_id": None, "text": "dog"}],
            r"corpus\.jsonl, line 2: .* is missing",
        ),
        ([{"doc_id": "1", "text": "cat"}, {"doc_id": 1, "text": "dog"}], "is a whole number"),
        ([{"doc_id": 1, "text": "cat"}, {"doc_id": 1, "text": "dog"}], "the id 1 appears twice"),
        ([{"doc_id": "é", "text": "cat"}] * 2, "the id 'é' appears twice"),
        ([], "has no rows"),
    ],
)
def test_an_invalid_corpus_is_refused(
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
    with pytest.raises(InputError, match=r"1\.jsonl and .*2\.jsonl: the id 'x' appears twice"):
        search_files([first, other], queries, tmp_path / "out", top_k=1)
    with pytest.raises(InputError, match="give every row an id of one type, or none"):
        search_files([first, bare], queries, tmp_path / "out", top_k=1)


def test_ids_of_two_types_in_two_tables_are_reported_with_both_files(
    tmp_path: Path, queries: Path
) -> None:
    for name, unit_id in (("digits", "17"), ("words", "x17")):
        (tmp_path / f"{name}.csv").write_text(f"unit_id,text\n{unit_id},cat\n")
    files = [tmp_path / "digits.csv", tmp_path / "words.csv"]
    with pytest.raises(InputError, match="JSONL with the ids in quotation marks") as caught:
        search_files(files, queries, tmp_path / "out", top_k=1)
    assert all(str(file) in str(caught.value) for file in files)


@pytest.mark.parametrize("to_id", [int, "u{}".format])
def test_one_repeated_id_is_found_among_ids_that_are_compared_in_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_id: Callable[[int], str | int]
) -> None:
    monkeypatch.setattr(custom_corpus, "_IDS_PER_PARTITION", 30)
    rows = [{"unit_id": to_id(number), "text": "emu"} for number in range(200)]
    path = write_jsonl(tmp_path / "corpus.jsonl", rows)
    written = write_custom_units({"once": path}, tmp_path / "given", 1000)
    assert len(unit_files(written)) > 5
    assert [path for path in (tmp_path / "given").iterdir() if path.is_file()] == []
    write_jsonl(path, [*rows, rows[3]])
    with pytest.raises(InputError, match=f"the id {to_id(3)!r} appears twice"):
        write_custom_units({"twice": path}, tmp_path / "given", 1000)


def test_distinct_ids_with_the_same_hash_are_accepted(tmp_path: Path) -> None:
    rows = [{"unit_id": f"u{number}", "text": "emu"} for number in range(2500)]
    sources = {"digest": write_jsonl(tmp_path / "corpus.jsonl", rows)}
    written = write_custom_units(sources, tmp_path / "given", 1 << 20)
    [hashes] = [custom_ids.id_hashes(path) for path in unit_files(written)]
    custom_ids.check_ids(hashes, plan_shards(sources.items(), 1 << 20), written)


def test_a_missing_column_or_file_is_reported(tmp_path: Path, queries: Path) -> None:
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
