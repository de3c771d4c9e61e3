import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import ingest, shard_paths
from raykd.corpus.unit_lookup import id_range
from raykd.errors import InputError
from raykd.storage.manifest import digest_of_file, read_manifest
from raykd.storage.schemas import QUARANTINE, UNITS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

SENTENCES = [f"Document number {number} warns of a river in flood." for number in range(60)]


def config(**values):
    return CorpusConfig.parse({"paths": ["unused"], **values}, "test")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_corpus(folder):
    """Twenty documents in each of text, gzipped JSONL and Parquet of several row groups."""
    write(folder / "a.txt", "\n".join(SENTENCES[:20]))
    jsonl = "".join(json.dumps({"text": text}) + "\n" for text in SENTENCES[20:40])
    write(folder / "b/b.jsonl.gz", gzip.compress(jsonl.encode()))
    pq.write_table(pa.table({"text": SENTENCES[40:]}), folder / "c.parquet", row_group_size=6)
    return folder


def units_of(out):
    return pa.concat_tables([pq.read_table(path) for path in shard_paths(out)])


def files_of(out):
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, digest_of_file(path))
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def quarantine_of(out):
    tables = [pq.read_table(path) for path in sorted(out.glob("shard-*/quarantine.parquet"))]
    return pa.concat_tables(tables)


def test_every_document_of_every_format_becomes_a_unit(tmp_path):
    manifest = ingest(config(), [write_corpus(tmp_path / "corpus")], tmp_path / "out")
    units = units_of(tmp_path / "out")
    assert units.schema == UNITS
    assert sorted(units["text"].to_pylist()) == sorted(SENTENCES)
    assert quarantine_of(tmp_path / "out").schema == QUARANTINE
    assert manifest.counts == {
        "num_documents": 60,
        "num_units": 60,
        "num_bytes": sum(len(text) for text in SENTENCES),
        "num_quarantined": 0,
        "num_dropped_short": 0,
        "num_dropped_documents": 0,
        "num_empty": 0,
        "num_quotes_removed": 0,
        "num_quotes_kept": 0,
        "num_files": 3,
        "num_duplicate_files": 0,
        "num_shards": 1,
    }


def test_detected_quoting_of_tsv_files_is_counted_and_printed(tmp_path, capsys):
    write(tmp_path / "corpus/pandas.tsv", 'text\tn\n"he said ""yes"" to us all"\t1\n')
    write(tmp_path / "corpus/glue.tsv", 'text\tn\nthe "old" house on the hill\t2\n')
    write(tmp_path / "corpus/glue2.tsv", 'text\tn\nan "old" house on the hill\t3\n')
    write(tmp_path / "corpus/plain.tsv", "text\tn\na house without any marks\t4\n")
    write(tmp_path / "corpus/comma.csv", 'text,n\n"a house and a garden too",5\n')
    removed = "corpus: TSV files whose quotation marks enclose fields: 1 (quoting: none keeps"
    kept = "corpus: TSV files whose quotation marks are kept as text: 2 (quoting: standard removes"
    # The second call finds the completed output.
    for _ in range(2):
        manifest = ingest(config(), [tmp_path / "corpus"], tmp_path / "out")
        assert manifest.counts["num_quotes_removed"] == 1
        assert manifest.counts["num_quotes_kept"] == 2
        printed = capsys.readouterr().err
        assert removed in printed
        assert kept in printed
    assert 'he said "yes" to us all' in units_of(tmp_path / "out")["text"].to_pylist()
    manifest = ingest(config(quoting="none"), [tmp_path / "corpus"], tmp_path / "none")
    assert "quotation marks" not in capsys.readouterr().err
    assert '"he said ""yes"" to us all"' in units_of(tmp_path / "none")["text"].to_pylist()


def test_units_are_the_same_for_any_shards_and_any_names_and_sorted_by_id(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    ingest(config(), [corpus], tmp_path / "whole")
    whole = units_of(tmp_path / "whole")
    ids = whole["unit_id"].to_pylist()
    assert ids == sorted(set(ids))
    (corpus / "a.txt").rename(corpus / "z.txt")
    (corpus / "c.parquet").rename(tmp_path / "0.parquet")
    for shard_bytes in (137, 300, 999):
        out = tmp_path / f"shards-{shard_bytes}"
        ingest(config(shard_bytes=shard_bytes), [tmp_path / "0.parquet", corpus], out)
        assert len(shard_paths(out)) > 2
        assert units_of(out).equals(whole)


def test_files_of_units_have_statistics_of_their_ids(tmp_path):
    ingest(config(shard_bytes=1500), [write_corpus(tmp_path / "in")], tmp_path / "out")
    shards = shard_paths(tmp_path / "out")
    assert len(shards) > 1
    for path in shards:
        unit_ids = pq.read_table(path)["unit_id"].to_pylist()
        assert id_range(path) == (unit_ids[0], unit_ids[-1])


def test_a_second_run_writes_nothing_even_where_files_were_renamed(tmp_path):
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    manifest = ingest(config(shard_bytes=500), [corpus], out)
    before = files_of(out)
    corpus.rename(tmp_path / "moved")
    assert ingest(config(shard_bytes=500), [tmp_path / "moved"], out) == manifest
    assert files_of(out) == before


def test_an_interrupted_run_keeps_complete_shards_and_gives_the_same_bytes(tmp_path):
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    manifest = ingest(config(shard_bytes=500), [corpus], out)
    before = files_of(out)
    first, second, *_ = sorted(path.name for path in out.glob("shard-*"))
    write(out / first / "units-00000.parquet", "damaged")
    (out / second / "manifest.json").unlink()
    write(out / f".{first}.partial-1/units-00000.parquet", "left by a killed process")
    write(out / "shard-99999/units-00000.parquet", "of an earlier plan")
    (out / "manifest.json").unlink()
    again = ingest(config(shard_bytes=500), [corpus], out)
    after = files_of(out)
    assert again.counts == manifest.counts
    assert after.keys() == before.keys()
    redone = {name for name in after if after[name][0] != before[name][0]}
    assert {Path(name).parent.name for name in redone} == {"", first, second}
    data = [name for name in after if name.endswith(".parquet")]
    assert {name: after[name][1] for name in data} == {name: before[name][1] for name in data}


def test_changed_settings_and_changed_content_give_new_output(tmp_path):
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    ingest(config(shard_bytes=500), [corpus], out)
    sentence = {"policy": "sentence", "max_words": 6, "min_words": 3}
    manifest = ingest(config(shard_bytes=10_000_000, units=sentence), [corpus], out)
    assert manifest.counts["num_shards"] == 1
    assert manifest.counts["num_units"] == 120
    write(corpus / "a.txt", "One line that is altogether new.")
    assert ingest(config(), [corpus], out).counts["num_documents"] == 41


def test_files_of_equal_content_are_read_once(tmp_path):
    for name in ("a.txt", "b.txt"):
        write(tmp_path / "corpus" / name, SENTENCES[0])
    manifest = ingest(config(), [tmp_path / "corpus"], tmp_path / "out")
    assert manifest.counts["num_units"] == 1
    assert manifest.counts["num_duplicate_files"] == 1


def test_an_oversized_shard_is_written_in_several_files(tmp_path):
    path = write(tmp_path / "a.txt.gz", gzip.compress("\n".join(SENTENCES).encode()))
    ingest(config(shard_bytes=1000), [path], tmp_path / "out")
    names = [path.name for path in shard_paths(tmp_path / "out")]
    assert names == [f"units-0000{number}.parquet" for number in range(3)]
    assert units_of(tmp_path / "out")["text"].to_pylist() == SENTENCES


def test_bad_rows_are_quarantined_and_good_rows_are_kept(tmp_path):
    lines = [json.dumps({"text": text}) for text in SENTENCES]
    lines.insert(30, "no json")
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    manifest = ingest(config(max_bad_fraction=0.02, shard_bytes=700), [path], tmp_path / "out")
    assert manifest.counts["num_quarantined"] == 1
    assert units_of(tmp_path / "out")["text"].to_pylist() == SENTENCES
    assert quarantine_of(tmp_path / "out").to_pylist() == [
        {
            "source": str(path),
            "offset": sum(len(line) + 1 for line in lines[:30]),
            "reason": "not JSON: Expecting value: line 1 column 1 (char 0)",
        }
    ]


def test_too_many_bad_rows_stop_the_stage_and_are_reported(tmp_path):
    lines = [json.dumps({"text": text}) for text in SENTENCES]
    path = write(tmp_path / "a.jsonl", "\n".join(["no json", '{"body": "x"}', *lines]))
    out = tmp_path / "out"
    message = (
        r"2 of 62 rows cannot be read, more than max_bad_fraction = 0\.01 of them\. The first: "
        r".*a\.jsonl, line 1: not JSON.*; .*a\.jsonl, line 2: no key 'text' \(keys: 'body'\)\. "
        r"All are listed in .*/shard-\*/quarantine\.parquet\. Correct"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            ingest(config(), [path], out)
        assert read_manifest(out) is None
    assert ingest(config(max_bad_fraction=0.1), [path], out).counts["num_units"] == 60


def test_bad_rows_are_reported_after_the_sources_were_moved(tmp_path):
    path = write(tmp_path / "old" / "a.jsonl", "no json\n")
    for folder in ("old", "new"):
        (tmp_path / "old").rename(tmp_path / folder)
        with pytest.raises(InputError, match=r"old/a\.jsonl, (line 1|byte 0): not JSON"):
            ingest(config(), [tmp_path / folder / path.name], tmp_path / "out")


def test_a_run_that_fails_does_not_leave_the_manifest_of_another(tmp_path):
    out = tmp_path / "out"
    ingest(config(), [write(tmp_path / "good.txt", SENTENCES[0])], out)
    with pytest.raises(InputError, match=r"bad\.txt, line 1: not UTF-8"):
        ingest(config(), [write(tmp_path / "bad.txt", b"\xff")], out)
    assert read_manifest(out) is None


def test_a_corpus_without_text_or_units_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"empty\.txt: the corpus is empty"):
        ingest(config(), [write(tmp_path / "empty.txt", "\n")], tmp_path / "out")
    with pytest.raises(InputError, match=r"fewer than units\.min_words = 5 words; lower it"):
        ingest(config(), [write(tmp_path / "short.txt", "too short\n")], tmp_path / "out")


def test_an_unreadable_source_is_reported_by_the_driver(tmp_path):
    path = write(tmp_path / "a.txt.gz", gzip.compress(b"one two three four five\n" * 50)[:-9])
    with pytest.raises(InputError, match=r"a\.txt\.gz: damaged or truncated"):
        ingest(config(), [path], tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        ingest(config(), [tmp_path / "none.txt"], tmp_path / "out")


def test_output_among_the_sources_is_refused(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    with pytest.raises(InputError, match=r"corpus: contains the output, .*; write the output else"):
        ingest(config(), [corpus], corpus / "b/out")


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="max_bad_fraction"):
        config(max_bad_fraction=1.5)
    with pytest.raises(InputError, match="shard_bytes"):
        config(shard_bytes=0)


def test_documents_that_are_dropped_are_reported_and_too_many_of_them_stop_ingest(tmp_path, capsys):
    lines = ["too short"] * 3 + ["this document has words enough to be kept"] * 3 + [" "] * 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in lines))
    config = CorpusConfig.parse({"paths": ["a.jsonl"]}, "test")
    manifest = ingest(config, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert manifest.counts["num_dropped_documents"] == 3
    reported = (
        "left out: 2 empty documents; 3 of 6 documents, all pieces too short; "
        "3 pieces with fewer than"
    )
    assert reported in capsys.readouterr().err
    ingest(config, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert reported in capsys.readouterr().err
    strict = CorpusConfig.parse({"paths": ["a.jsonl"], "max_dropped_fraction": 0.4}, "test")
    message = r"3 of 6 documents are dropped, more than max_dropped_fraction = 0\.4.*min_words = 5"
    with pytest.raises(InputError, match=message):
        ingest(strict, [tmp_path / "a.jsonl"], tmp_path / "strict")
