"""Corpora in an object store, read over HTTP from a server of its own process."""

import gzip
import json
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from object_store import SECRET

from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import ingest, shard_paths, write_shard
from raykd.corpus.shards import plan_shards
from raykd.corpus.slices import list_sources
from raykd.errors import InputError
from raykd.storage.formats import source_digest
from raykd.storage.locations import location_of
from raykd.storage.tables import read_table

TEXTS = [f"Document number {n} warns of a river in flood. É {'x' * (n % 7)}" for n in range(300)]
JSONL = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
CONTENTS = {
    "a.txt": "\n".join(TEXTS).encode(),
    "b.jsonl": JSONL,
    "c.jsonl.gz": gzip.compress(JSONL),
    "d/e.txt.zst": zstandard.compress("\n".join(TEXTS[:50]).encode()),
    "d/f.csv": ("text\n" + "\n".join(TEXTS[:9])).encode(),
    "_SUCCESS": b"",
}


def put(store, key, content):
    with store.open_output_stream(key, compression=None) as file:
        file.write(content)


def write_everywhere(store, folder):
    """The same files on the disk and in the store."""
    folder.mkdir()
    pq.write_table(pa.table({"text": TEXTS}), folder / "t.parquet", row_group_size=70)
    contents = CONTENTS | {"g.parquet": (folder / "t.parquet").read_bytes()}
    (folder / "t.parquet").unlink()
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        put(store, f"bucket/corpus/{name}", content)
    return folder


def units_of(source, out, shard_bytes):
    config = CorpusConfig.parse({"paths": ["unused"], "shard_bytes": shard_bytes}, "test")
    tables = []
    for number, parts in enumerate(plan_shards([(source_digest(source), source)], shard_bytes)):
        (out / str(number)).mkdir(parents=True)
        write_shard(parts, config, out / str(number))
        tables += [pq.read_table(path) for path in sorted((out / str(number)).glob("units-*"))]
    return pa.concat_tables(tables), len(tables)


@pytest.mark.usefixtures("environment")
def test_every_format_in_a_store_gives_the_units_of_the_file_on_the_disk(store, tmp_path):
    folder = write_everywhere(store, tmp_path / "corpus")
    remote = list_sources([location_of("s3://bucket/corpus/")]).files
    local = list_sources([folder]).files
    assert len(remote) == len(local) == 6
    assert {source_digest(path) for path in remote} == {source_digest(path) for path in local}
    for source in remote:
        name = str(source).removeprefix("s3://bucket/corpus/")
        there, num_there = units_of(source, tmp_path / "out" / name / "there", 3000)
        here, num_here = units_of(folder / name, tmp_path / "out" / name / "here", 3000)
        assert there.equals(here)
        assert num_there == num_here
        assert there.num_rows > 0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ingest_from_a_store_writes_the_bytes_of_ingest_from_the_disk(store, server, tmp_path):
    folder = write_everywhere(store, tmp_path / "corpus")
    url = f"s3://bucket/corpus?anonymous=true&scheme=http&endpoint_override={server}"
    config = CorpusConfig.parse({"paths": [url], "shard_bytes": 9000}, "test")
    there = ingest(config, [location_of(url)], tmp_path / "there")
    here = ingest(config, [folder], tmp_path / "here")
    assert there.inputs == here.inputs
    assert there.counts == here.counts
    assert [path.read_bytes() for path in shard_paths(tmp_path / "there")] == [
        path.read_bytes() for path in shard_paths(tmp_path / "here")
    ]
    assert server not in (tmp_path / "there/manifest.json").read_text()


@pytest.mark.usefixtures("environment")
def test_a_table_of_queries_is_read_from_a_store(store):
    put(store, "bucket/queries.tsv", b"query_id\ttext\n7\twhich river\n")
    table = read_table(location_of("s3://bucket/queries.tsv"))
    assert table.to_pylist() == [{"query_id": 7, "text": "which river"}]


@pytest.mark.usefixtures("environment", "store")
@pytest.mark.parametrize("place", ["bucket/none.csv", "no-bucket/none.csv"])
def test_a_missing_object_is_reported(place):
    for read in (source_digest, lambda location: list_sources([location]), read_table):
        with pytest.raises(InputError, match=f"s3://{place}: no such file; correct the bucket"):
            read(location_of(f"s3://{place}"))


@pytest.mark.usefixtures("environment")
def test_truncated_objects_are_reported(store, tmp_path):
    put(store, "bucket/cut.jsonl.gz", gzip.compress(JSONL)[:-100])
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "t.parquet")
    put(store, "bucket/cut.parquet", (tmp_path / "t.parquet").read_bytes()[:-10])
    for name in ("cut.jsonl.gz", "cut.parquet"):
        with pytest.raises(InputError, match=rf"s3://bucket/{name}: damaged or truncated"):
            units_of(location_of(f"s3://bucket/{name}"), tmp_path / name, 1 << 20)


def reset_authority(server, num_free_requests):
    """Accept only known credentials after this number of requests."""
    address = f"http://{server}/moto-api/reset-auth"
    data = str(num_free_requests).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "text/plain"}, method="POST")
    urllib.request.urlopen(request).close()


@pytest.mark.usefixtures("environment")
def test_refused_credentials_give_a_remedy_without_secrets(server, store):
    reset_authority(server, num_free_requests=0)
    try:
        with pytest.raises(InputError, match="access is refused; set AWS_ACCESS_KEY_ID") as error:
            list_sources([location_of("s3://bucket/corpus")])
        assert SECRET not in str(error.value)
    finally:
        reset_authority(server, num_free_requests=1_000_000)


def test_an_unreachable_endpoint_is_reported_within_seconds(unused_port):
    url = f"s3://bucket/a.txt?anonymous=true&scheme=http&endpoint_override=127.0.0.1:{unused_port}"
    started = time.monotonic()
    with pytest.raises(
        InputError, match=rf"s3://bucket/a\.txt: 127\.0\.0\.1:{unused_port} does not answer"
    ):
        source_digest(location_of(url))
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://host/a.txt",
            "http://: unknown; known are s3://, gs://, az://, abfss://, hf:// and paths",
        ),
        ("s3://KEY:hidden@bucket/a.txt", "a name and password in it: .* set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/a?secret_key=hidden", "unknown option 'secret_key'; known are anonymous"),
        ("gs://", "has no bucket"),
    ],
)
def test_an_invalid_url_is_refused(url, message):
    with pytest.raises(InputError, match=message) as error:
        CorpusConfig.parse({"paths": [url]}, "recipe.yaml")
    assert "hidden" not in str(error.value)


def test_a_path_is_not_a_url():
    assert location_of("a/s3:b.txt") == Path("a/s3:b.txt")
