"""Corpora that Ray Data reads: any order of blocks gives the same units."""

import json
import os
import tarfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
import ray.data

from raykd.cluster import sources
from raykd.corpus.config import CorpusConfig
from raykd.corpus.dataset.copy import copied, copied_table
from raykd.corpus.dataset.documents import plan_files, write_block
from raykd.corpus.dataset.readers import with_absolute_paths
from raykd.corpus.pipeline import ingest, shard_paths
from raykd.errors import InputError
from raykd.storage.manifest import digest_of_file

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TEXTS = [f"Document number {number} warns of a river in flood." for number in range(40)]
TABLE = pa.table({"text": TEXTS, "source": ["news"] * 40})


def write_parquet(folder: Path) -> dict[str, object]:
    pq.write_table(TABLE, folder / "a.parquet")
    return {"name": "parquet", "paths": ["a.parquet"]}


def write_json(folder: Path) -> dict[str, object]:
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "a.jsonl").write_text("\n".join(lines[:20]))
    (folder / "b.jsonl").write_text("\n".join(lines[20:]))
    return {"name": "json", "paths": ["a.jsonl", "b.jsonl"]}


def write_csv(folder: Path) -> dict[str, object]:
    pyarrow.csv.write_csv(TABLE, folder / "a.csv")
    return {"name": "csv", "paths": ["a.csv"]}


def write_orc(folder: Path) -> dict[str, object]:
    pyarrow.orc.write_table(TABLE, folder / "a.orc")
    return {"name": "orc", "paths": ["a.orc"]}


def write_delta(folder: Path) -> dict[str, object]:
    deltalake.write_deltalake(folder / "table", TABLE)
    deltalake.write_deltalake(folder / "table", TABLE.slice(0, 1), mode="overwrite")
    return {"name": "delta", "path": "table", "version": 0}


def write_tar(folder: Path) -> dict[str, object]:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, text in enumerate(TEXTS):
            info = tarfile.TarInfo(f"{number:04d}.text")
            info.size = len(text)
            tar.addfile(info, BytesIO(text.encode()))
    return {"name": "webdataset", "paths": ["a.tar"]}


def write_hub(folder: Path) -> dict[str, object]:
    (folder / "hub").mkdir()
    pq.write_table(TABLE.slice(0, 9), folder / "hub" / "train-00000-of-00002.parquet")
    pq.write_table(TABLE.slice(9), folder / "hub" / "train-00001-of-00002.parquet")
    return {"name": "huggingface", "path": "hub"}


def ingested(folder: Path, reader: dict[str, object], **values: object) -> dict[str, str]:
    """The digests of the files of units."""
    config = CorpusConfig.parse({"reader": reader, "shard_bytes": 1000, **values}, "test")
    assert config.reader is not None
    config = config.model_copy(update={"reader": with_absolute_paths(config.reader, Path.cwd())})
    ingest(config, [], folder / "units")
    assert list(folder.glob(".units.*")) == []
    return {
        str(path.relative_to(folder)): digest_of_file(path)
        for path in shard_paths(folder / "units")
    }


def texts_of(folder: Path) -> list[str]:
    tables = [pq.read_table(path) for path in shard_paths(folder / "units")]
    return pa.concat_tables(tables)["text"].to_pylist()


@pytest.mark.parametrize(
    "write",
    [
        write_parquet,
        write_json,
        *(pytest.param(w, marks=pytest.mark.exhaustive) for w in (write_csv, write_orc)),
        *(pytest.param(w, marks=pytest.mark.exhaustive) for w in (write_delta, write_tar)),
        pytest.param(write_hub, marks=pytest.mark.slow),
    ],
    ids=lambda write: write.__name__.removeprefix("write_"),
)
def test_every_reader_gives_the_same_units(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    digests = ingested(tmp_path, write(tmp_path))
    assert sorted(texts_of(tmp_path)) == sorted(TEXTS)
    (tmp_path / "other").mkdir()
    pq.write_table(TABLE.slice(0, 7), tmp_path / "other" / "1.parquet")
    pq.write_table(TABLE.slice(7), tmp_path / "other" / "0.parquet", row_group_size=3)
    (tmp_path / "same").mkdir()
    expected = ingested(tmp_path / "same", {"name": "parquet", "paths": ["other"]})
    assert list(digests.values()) == list(expected.values())


def test_a_finished_ingest_does_not_read_its_source_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = write_parquet(tmp_path)
    digests = ingested(tmp_path, reader)
    path = tmp_path / "a.parquet"
    state = path.stat()
    # Not readable any more, but of the same size and time.
    path.write_bytes(b"x" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert ingested(tmp_path, reader) == digests


def test_empty_documents_are_counted_and_equal_documents_are_kept(tmp_path):
    pq.write_table(pa.table({"text": [*TEXTS, TEXTS[3], None, "", None]}), tmp_path / "a.parquet")
    reader = {"name": "parquet", "paths": [str(tmp_path / "a.parquet")]}
    config = CorpusConfig.parse({"reader": reader}, "test")
    counts = ingest(config, [], tmp_path / "units").counts
    assert (counts["num_documents"], counts["num_empty"]) == (41, 3)


@pytest.mark.parametrize(
    ("reader", "values", "message"),
    [
        ({"name": "parquet", "paths": ["none.parquet"]}, {}, r"reader 'parquet' cannot open"),
        (
            {"name": "parquet", "paths": ["a.parquet"]},
            {"text_column": "body"},
            r"reader parquet: no column 'body'; it has text, source: set text_column",
        ),
        ({"name": "parquet", "paths": ["n.parquet"]}, {}, r"the column 'text' has int64, not text"),
        ({"name": "parquet", "paths": ["b.parquet"]}, {}, r"'text' has bytes that are not UTF-8"),
        ({"name": "parquet", "paths": ["e.parquet"]}, {}, r"reader parquet: has no rows"),
        ({"name": "lance", "uri": "a.lance"}, {}, r"reader 'lance' needs a package .*install it"),
        (
            {"name": "huggingface", "path": "no/name"},
            {},
            r"'no/name' .* needs a revision, a commit",
        ),
        (
            {"name": "huggingface", "path": "no/name", "revision": "v1"},
            {},
            r"reader 'huggingface' cannot open its source: .*no/name",
        ),
    ],
)
def test_a_source_that_cannot_be_read_is_one_clear_error(
    tmp_path, monkeypatch, reader, values, message
):
    monkeypatch.chdir(tmp_path)
    pq.write_table(TABLE, tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "n.parquet")
    pq.write_table(pa.table({"text": [b"good", b"\xff\xfe"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "e.parquet")
    with pytest.raises(InputError, match=message):
        ingested(tmp_path, reader, **values)


def test_a_changed_file_of_a_reader_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"text": ["the first text of the file"]}), tmp_path / "a.parquet")
    reader = {"name": "parquet", "paths": ["a.parquet"]}
    config = {"units": {"policy": "line"}}
    ingested(tmp_path, reader, **config)
    assert texts_of(tmp_path) == ["the first text of the file"]
    pq.write_table(pa.table({"text": ["another text in this file"]}), tmp_path / "a.parquet")
    ingested(tmp_path, reader, **config)
    assert texts_of(tmp_path) == ["another text in this file"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give paths, or a reader"),
        ({"paths": ["a"], "reader": {"name": "json", "paths": ["a"]}}, "reader and paths"),
        ({"columns": ["t"], "reader": {"name": "json", "paths": ["a"]}}, "reader and columns"),
        ({"reader": {"name": "jsonl", "paths": ["a"]}}, "'reader.name': unknown value 'jsonl'"),
        ({"reader": {"name": "lance", "path": "a"}}, "unknown key 'reader.path'"),
        (
            {
                "reader": {
                    "name": "iceberg",
                    "table_identifier": "db.docs",
                    "catalog_kwargs": {"s3.secret-access-key": "x"},
                }
            },
            "s3.secret-access-key: a recipe must not contain secrets",
        ),
    ],
)
def test_a_wrong_section_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        CorpusConfig.parse(values, "corpus")


@pytest.mark.slow
def test_documents_of_a_dataset_do_not_depend_on_its_blocks(tmp_path):
    contents = set()
    for number, size in enumerate([40, 1, 7]):
        rows = TABLE.take(pa.array([(7 * row + number) % 40 for row in range(40)]))
        blocks = [rows.slice(start, size) for start in range(0, 40, size)]
        with copied(ray.data.from_arrow(blocks), "text", tmp_path / "out") as files:
            contents.add(tuple(digest_of_file(path) for path in files))
    assert len(contents) == 1
    assert list(tmp_path.glob(".*")) == []


def test_the_partitions_of_large_corpora_fill_several_files(tmp_path):
    arguments = {"folder": tmp_path, "text_column": "text", "other_columns": (), "source": "s"}
    blocks = [write_block(TABLE.slice(start, 20), **arguments) for start in (0, 20)]
    total = sum(len(text) for text in TEXTS)
    files = plan_files(blocks, total // 4)
    assert files[0][0] == 0
    assert files[-1][1] == 256
    assert 3 <= len(files) <= 5
    assert all(end == start for (_, end), (start, _) in pairwise(files))
    assert plan_files(blocks, total + 1) == [(0, 256)]


def test_rows_of_a_small_dataset_are_sorted_by_their_key(tmp_path):
    rows = ray.data.from_items([{"query_id": f"q{n}", "text": "a"} for n in (3, 1, 2)])
    with copied_table(rows, "query_id", tmp_path / "out") as path:
        assert pq.read_table(path)["query_id"].to_pylist() == ["q1", "q2", "q3"]


def test_members_of_archives_are_not_unpickled(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        code = b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR."
        info = tarfile.TarInfo("0.pkl")
        info.size = len(code)
        tar.addfile(info, BytesIO(code))
    rows = sources.read("webdataset", {"paths": [str(tmp_path / "a.tar")]}).take_all()
    assert rows[0]["pkl"] == code
    assert not (tmp_path / "run").exists()
