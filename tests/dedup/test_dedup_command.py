"""Deduplication of a whole corpus, from files to files, on Ray."""

import gzip
import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import oracle_dedup
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import ingest
from raykd.dedup import pipeline, steps
from raykd.dedup.clusters import near_duplicates
from raykd.dedup.minhash import NearDuplicatesConfig
from raykd.dedup.pipeline import DedupConfig, Sizes, dedup
from raykd.errors import InputError
from raykd.storage.manifest import digest_of_file

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NEAR = NearDuplicatesConfig(threshold=0.5, shingle_words=2, num_bands=32, rows_per_band=2)
CONFIG = DedupConfig(near_duplicates=NEAR, output_shard_bytes=1000)
SMALL = Sizes(shard_bytes=2000, units_per_partition=70, keys_per_partition=900)


def some_rows() -> list[tuple[str, str]]:
    choose = random.Random(3)
    texts = []
    for _ in range(60):
        parts = [f"w{choose.randrange(300)}" for _ in range(choose.randint(0, 12))]
        texts.append(" ".join(parts))
        for _ in range(choose.randint(0, 4)):
            if parts and choose.random() < 0.6:
                parts[choose.randrange(len(parts))] = f"w{choose.randrange(300)}"
            texts.append(
                choose.choice([" ".join, "  ".join])(parts).replace("w", choose.choice("wW"))
            )
    texts += ["", " ", "?!", "?!", "straße", "STRASSE", "e\u0301a", "éa"]
    ids = [f"u{number:03d}" for number in range(len(texts))]
    choose.shuffle(ids)
    return list(zip(ids, texts, strict=True))


def write_rows(folder: Path, rows: list[tuple[str, str]], num_files: int) -> Path:
    folder.mkdir()
    for number in range(num_files):
        lines = [
            json.dumps({"unit_id": id_, "text": text}) for id_, text in rows[number::num_files]
        ]
        (folder / f"{number}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def files_of(out: Path) -> dict[str, str]:
    paths = [path for path in out.rglob("*.parquet") if path.name != "quarantine.parquet"]
    return {str(path.relative_to(out)): digest_of_file(path) for path in paths}


def kept_of(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "units").iterdir())])


def test_output_equals_the_naive_and_the_in_memory_result(tmp_path):
    rows = [(id_, text) for id_, text in some_rows() if text.strip()]
    out = tmp_path / "out"
    manifest = dedup([write_rows(tmp_path / "corpus", rows, 3)], out, CONFIG, SMALL)
    rows.sort()
    ids, texts = zip(*rows, strict=True)
    firsts = oracle_dedup.first_equal(texts)
    alone = [row for row, first in enumerate(firsts) if first == row]
    table = pa.table(
        {"unit_id": [ids[row] for row in alone], "text": [texts[row] for row in alone]}
    )
    near = near_duplicates(table, NEAR)
    kept_instead = dict(enumerate(firsts))
    for row, partner in zip(near.rows.tolist(), near.partners.tolist(), strict=True):
        kept_instead[alone[row]] = alone[partner]
    expected = []
    for row, first in enumerate(firsts):
        kept = kept_instead[first]
        if kept != row:
            similarity = oracle_dedup.jaccard(texts[row], texts[kept], NEAR.shingle_words)
            is_exact = kept == first
            assert is_exact or similarity >= NEAR.threshold
            assert kept_instead[kept] == kept
            reason = "duplicate" if is_exact else "near_duplicate"
            expected.append((ids[row], reason, ids[kept], 1.0 if is_exact else similarity))
    removed = pq.read_table(out / "removed.parquet")
    assert [tuple(row.values()) for row in removed.to_pylist()] == expected
    gone = {row[0] for row in expected}
    kept = kept_of(out)
    assert list(zip(*kept.to_pydict().values(), strict=True)) == [
        r for r in rows if r[0] not in gone
    ]
    assert manifest.counts["num_units"] == len(kept) > 40
    assert manifest.counts["num_exact_duplicates"] == [r[1] for r in expected].count("duplicate")
    assert manifest.counts["num_near_duplicates"] == [r[1] for r in expected].count(
        "near_duplicate"
    )
    assert {"duplicate", "near_duplicate"} == {row[1] for row in expected}
    assert len(list((out / "units").iterdir())) > 1


@pytest.mark.slow
def test_units_of_a_large_bucket_are_compared_again_when_their_partner_is_removed(tmp_path):
    words = [f"w{number}" for number in range(40)]
    # The first is near to the next 20, and these to the last 20, which are not near to the first.
    texts = [" ".join(words[:32])]
    texts += [" ".join([*words, f"a{number}"]) for number in range(20)]
    texts += [" ".join([*words, "b", "c", "d", f"e{number}"]) for number in range(20)]
    rows = [(f"u{number:02d}", text) for number, text in enumerate(texts)]
    # One key: the hash of a word that all units contain.
    near = NearDuplicatesConfig(
        threshold=0.75, shingle_words=1, num_bands=1, rows_per_band=1, seed=5
    )
    expected = {f"u{row:02d}": "u00" if row <= 20 else "u21" for row in range(41)}
    for shard_bytes in (200, 10**6):
        out = tmp_path / f"out{shard_bytes}"
        corpus = write_rows(tmp_path / f"corpus{shard_bytes}", rows, 3)
        dedup([corpus], out, DedupConfig(near_duplicates=near), Sizes(shard_bytes=shard_bytes))
        removed = pq.read_table(out / "removed.parquet").to_pylist()
        partners = {row["unit_id"]: row["partner"] for row in removed}
        assert {"u00": "u00", "u21": "u21"} | partners == expected
    table = pa.table({"unit_id": list(expected), "text": texts})
    assert near_duplicates(table, near).partners.tolist() == [0] * 20 + [21] * 19


@pytest.mark.slow
def test_the_output_is_the_same_bytes_for_any_files_order_shards_and_partitions(tmp_path):
    rows = [(id_, text) for id_, text in some_rows() if text.strip()]
    cuts = [
        (1, SMALL),
        (4, Sizes(shard_bytes=500, units_per_partition=1000, keys_per_partition=100)),
        (2, Sizes()),
    ]
    outputs = []
    for number, (num_files, sizes) in enumerate(cuts):
        random.Random(number).shuffle(rows)
        out = tmp_path / f"out{number}"
        dedup([write_rows(tmp_path / f"corpus{number}", rows, num_files)], out, CONFIG, sizes)
        outputs.append(files_of(out))
    # One stream that cannot be sliced; its units are written in files of the size of a shard.
    lines = b"".join(path.read_bytes() for path in (tmp_path / "corpus1").iterdir())
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines))
    dedup([tmp_path / "corpus.jsonl.gz"], tmp_path / "packed", CONFIG, SMALL)
    assert outputs[0] == outputs[1] == outputs[2] == files_of(tmp_path / "packed")
    assert len(outputs[0]) > 2


@pytest.mark.slow
def test_a_second_call_does_nothing_and_a_killed_one_resumes(tmp_path, monkeypatch):
    corpus = write_rows(tmp_path / "corpus", [(i, t) for i, t in some_rows() if t.strip()], 2)
    whole, out = tmp_path / "whole", tmp_path / "out"
    first = dedup([corpus], whole, CONFIG, SMALL)
    assert dedup([corpus], whole, CONFIG, SMALL) == first

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_collect", stop)
    with pytest.raises(KeyboardInterrupt):
        dedup([corpus], out, CONFIG, SMALL)
    monkeypatch.undo()
    assert not out.exists()
    hashed = tmp_path / ".out.parts" / "hash-00000" / "manifest.json"
    written_ns = hashed.stat().st_mtime_ns
    # Makes the work of the second call visible.
    monkeypatch.setattr(pipeline, "shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
    dedup([corpus], out, CONFIG, SMALL)
    assert hashed.stat().st_mtime_ns == written_ns
    assert files_of(out) == files_of(whole)


def test_integer_ids_are_compared_as_numbers(tmp_path):
    table = pa.table({"doc_id": [100, 20, 3, 9], "text": ["a b", "A  b", "c d e f", "a B"]})
    pq.write_table(table, tmp_path / "corpus.parquet")
    dedup([tmp_path / "corpus.parquet"], tmp_path / "out", DedupConfig(), SMALL)
    assert kept_of(tmp_path / "out").to_pydict() == {"unit_id": [3, 9], "text": ["c d e f", "a B"]}
    removed = pq.read_table(tmp_path / "out" / "removed.parquet").to_pydict()
    assert removed["unit_id"] == [20, 100]
    assert removed["partner"] == [9, 9]


def test_empty_shards_may_precede_integer_ids(tmp_path):
    rows = [{"doc_id": 3, "text": "a b"}, {"doc_id": 2, "text": "A b"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "corpus.jsonl").write_text("\n" * 5000 + lines)
    dedup([tmp_path / "corpus.jsonl"], tmp_path / "out", CONFIG, SMALL)
    assert kept_of(tmp_path / "out").to_pydict() == {"unit_id": [2], "text": ["A b"]}
    assert pq.read_table(tmp_path / "out" / "removed.parquet").to_pylist() == [
        {"unit_id": 3, "reason": "duplicate", "partner": 2, "jaccard": 1.0}
    ]


def test_output_of_ingest_is_read_unchanged(tmp_path):
    (tmp_path / "a.txt").write_text("one line of five words\nanother line of five words\n" * 3)
    config = CorpusConfig.parse({"paths": ["a.txt"], "units": {"policy": "line"}}, "test")
    ingest(config, [tmp_path / "a.txt"], tmp_path / "ingested")
    manifest = dedup([tmp_path / "ingested"], tmp_path / "out", DedupConfig())
    assert manifest.counts["num_units_read"] == 6
    assert kept_of(tmp_path / "out")["text"].to_pylist() == [
        "one line of five words",
        "another line of five words",
    ]


def test_units_with_equal_digests_are_compared_by_content(tmp_path):
    units = pa.table({"unit_id": ["u0", "u1", "u2", "u3", "u4"], "text": ["a", "b", "c", "B", "A"]})
    pq.write_table(units, tmp_path / "units.parquet")
    job = steps.DedupJob(
        parts=tmp_path / "parts",
        unit_files=(tmp_path / "units.parquet",),
        near=None,
        settings={},
        inputs={},
        starts=np.array([0, 5]),
        digest_mask=0,
    )
    steps.hash_shard(0, job=job)
    steps.find_equal(0, job=job)
    rows, kept_rows = steps.equal_rows(0, job)
    assert dict(zip(rows.tolist(), kept_rows.tolist(), strict=True)) == {3: 1, 4: 0}


@pytest.mark.parametrize("near", [None, NearDuplicatesConfig()])
@pytest.mark.parametrize("num_rows", [1, 2, 50])
def test_a_corpus_without_duplicates_is_unchanged(tmp_path, near, num_rows):
    rows = [(f"u{number}", f"word{number} is another") for number in range(num_rows)]
    corpus = write_rows(tmp_path / "corpus", rows, 1)

    dedup([corpus], tmp_path / "out", DedupConfig(near_duplicates=near), SMALL)

    assert kept_of(tmp_path / "out")["unit_id"].to_pylist() == sorted(id_ for id_, _ in rows)
    assert pq.read_metadata(tmp_path / "out" / "removed.parquet").num_rows == 0


def test_a_shard_without_duplicates_is_unchanged(tmp_path):
    rows = [(f"u{number:03d}", "same" if number < 9 else f"word{number}") for number in range(300)]
    corpus = write_rows(tmp_path / "corpus", rows, 1)

    dedup([corpus], tmp_path / "out", CONFIG, SMALL)

    assert kept_of(tmp_path / "out").num_rows == 292


def test_an_invalid_corpus_gives_one_clear_line(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    with pytest.raises(InputError, match="no such file"):
        dedup([corpus], tmp_path / "out", DedupConfig())
    corpus.write_text('{"unit_id": "a", "text": "x"}\n{"unit_id": "a", "text": "y"}\n')
    with pytest.raises(InputError, match="the id 'a' appears twice"):
        dedup([corpus], tmp_path / "out", DedupConfig())
    corpus.write_text('{"body": "x"}\n')
    with pytest.raises(InputError, match="text"):
        dedup([corpus], tmp_path / "out", DedupConfig())
    with pytest.raises(InputError, match="contains the output"):
        dedup([tmp_path], tmp_path / "out", DedupConfig())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    corpus.write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match="mine: in the way of an output"):
        dedup([corpus], tmp_path / "mine", DedupConfig())
    assert (tmp_path / "mine" / "thesis.tex").exists()
