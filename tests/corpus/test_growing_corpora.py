import hashlib
import random
from pathlib import Path

import pytest
from serial_tasks import serial_tasks

from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import ingest
from raykd.corpus.shards import plan_shards
from raykd.storage.manifest import digest_of_file, read_manifest

KIB = 1 << 10
SHARD_BYTES = 64 * KIB


@pytest.fixture
def serial():
    with serial_tasks():
        yield


def config(**values):
    return CorpusConfig.parse({"paths": ["unused"], **values}, "test")


def write_files(folder, sizes):
    """Text files of random bytes: pairs (digest, path) in the order of the digests."""
    folder.mkdir()
    sources = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.txt"
        content = f"{number} ".encode() * (size // len(f"{number} ")) + b"\n"
        path.write_bytes(content)
        sources.append((hashlib.sha256(content).hexdigest(), path))
    return sorted(sources)


def plan(sources):
    return {
        tuple((part.digest, part.piece.start, part.piece.stop) for part in parts)
        for parts in plan_shards(sources, SHARD_BYTES)
    }


def test_an_added_file_changes_no_shard_of_large_files_and_about_one_of_small_ones(tmp_path):
    rng = random.Random(0)
    small = write_files(tmp_path / "small", [rng.randint(100, 4 * KIB) for _ in range(200)])
    large = write_files(tmp_path / "large", [rng.randint(8 * KIB, 200 * KIB) for _ in range(20)])

    def num_changed(sources, added):
        whole = plan(sources)
        return [len(whole - plan([s for s in sources if s != source])) for source in added]

    shards_of_large = plan(large)
    assert num_changed(large, large) == [
        sum(parts[0][0] == digest for parts in shards_of_large) for digest, _ in large
    ]
    assert len(plan(small)) > 20
    changed = num_changed(small, small[::10])
    assert max(changed) <= 3
    assert sum(changed) <= 1.5 * len(changed)


def test_shards_have_every_slice_once_in_order_and_are_not_larger_than_asked_for(tmp_path):
    rng = random.Random(1)
    sources = write_files(tmp_path / "in", [rng.randint(10, 12 * KIB) for _ in range(400)])
    shards = plan_shards(sources, SHARD_BYTES)
    assert [part.digest for parts in shards for part in parts] == [digest for digest, _ in sources]
    sizes = [sum(part.piece.num_bytes for part in parts) for parts in shards]
    assert max(sizes) <= SHARD_BYTES
    # A file of 8 KiB has its own shard, and smaller ones make shards of 16 KiB on average.
    assert 150 < len(shards) < 320


TEXTS = [f"Document number {number} warns of a river in flood tonight." for number in range(99)]


def write_text(path, first, last):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in TEXTS[first:last]))


def files_of(out: Path):
    """Digests of all files except manifests, which have durations; and the digest of the units."""
    manifest = read_manifest(out)
    files = {
        str(path.relative_to(out)): digest_of_file(path)
        for path in out.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    return files, manifest.digest, manifest.key, manifest.counts


def shards_of(out: Path):
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/manifest.json")}


@pytest.mark.usefixtures("serial")
def test_only_added_and_changed_files_are_read_and_the_output_is_that_of_a_fresh_call(
    tmp_path, capsys
):
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    settings = config(shard_bytes=2000, units={"min_words": 3})
    for number in range(4):
        write_text(corpus / f"{number}.txt", 20 * number, 20 * number + 20)
    ingest(settings, [corpus], out)
    assert "as before" not in capsys.readouterr().err
    before = shards_of(out)

    def grown(case, kept, num_files):
        """Ingest again; return the shards of before, and compare with a fresh call."""
        ingest(settings, [corpus], out)
        line = f"ingest: {kept} of {num_files} files as before"
        assert line in capsys.readouterr().err
        ingest(settings, [corpus], tmp_path / f"fresh-{case}")
        assert files_of(out) == files_of(tmp_path / f"fresh-{case}")
        return shards_of(out)

    write_text(corpus / "new.txt", 80, 99)
    after = grown("added", 4, 5)
    assert before.items() < after.items()
    assert len(after) == len(before) + 1
    (corpus / "0.txt").unlink()
    assert grown("removed", 4, 4).items() < after.items()
    write_text(corpus / "1.txt", 5, 33)
    grown("changed", 3, 4)
    [damaged, *_] = sorted(out.glob("shard-*/units-00000.parquet"))
    damaged.write_bytes(b"damaged")
    (out / "manifest.json").unlink()
    grown("damaged", 3, 4)


@pytest.mark.usefixtures("serial")
def test_random_changes_of_many_small_files_give_the_output_of_a_fresh_call(tmp_path):
    rng = random.Random(2)
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    settings = config(shard_bytes=3000, units={"policy": "sentence", "min_words": 2})
    for step in range(3):
        for _ in range(12):
            first = rng.randint(0, 98)
            name = f"{rng.randint(0, 40)}.{rng.choice(['txt', 'csv'])}"
            write_text(corpus / name, first, first + rng.randint(1, 8))
        for path in corpus.glob("*.csv"):
            path.write_text("text\n" + path.read_text().removeprefix("text\n"))
        for path in rng.sample(sorted(corpus.iterdir()), 3 * step):
            path.unlink()
        ingest(settings, [corpus], out)
        ingest(settings, [corpus], tmp_path / f"fresh-{step}")
        assert files_of(out) == files_of(tmp_path / f"fresh-{step}")
