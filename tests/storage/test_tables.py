import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from raykd.errors import InputError
from raykd.storage import formats
from raykd.storage.formats import source_digest
from raykd.storage.locations import explained
from raykd.storage.tables import read_table

ROWS = [
    {"idx": 0, "sentence": 'She said "no".', "label": 0.5},
    {"idx": 1, "sentence": " é ", "label": 2.0},
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


CONTENTS = {
    ".jsonl": as_jsonl(ROWS),
    ".csv": 'idx,sentence,label\n0,"She said ""no"".",0.5\n1, é ,2.0\n',
    ".tsv": 'idx\tsentence\tlabel\n0\tShe said "no".\t0.5\n1\t é \t2.0\n',
}


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_text_format_gives_the_same_rows(tmp_path, suffix, compression):
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[compression]
    path = write(tmp_path / f"data.v1{suffix}{compression}", pack(CONTENTS[suffix].encode()))
    table = read_table(path)
    assert table.to_pylist() == ROWS
    assert table.schema.types == [pa.int64(), pa.string(), pa.float64()]


def test_parquet_gives_plain_strings_for_every_kind_of_string_column(tmp_path):
    table = pa.table(
        {
            "a": pa.array(["x", "y"], pa.large_string()),
            "b": pa.array(["x", "x"]).dictionary_encode(),
            "c": pa.array([1, None], pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet", ["c", "b", "a"])
    assert read.schema.types == [pa.int32(), pa.string(), pa.string()]
    assert read.to_pydict() == {"c": [1, None], "b": ["x", "x"], "a": ["x", "y"]}


def test_tsv_keeps_an_unclosed_quotation_mark(tmp_path):
    path = write(tmp_path / "t.tsv", 'sentence\tlabel\r\n"open\t1\r\nx" y\t0\r\n')
    assert read_table(path).to_pydict() == {"sentence": ['"open', 'x" y'], "label": [1, 0]}


def test_quoted_csv_fields_may_have_commas_and_line_breaks(tmp_path):
    path = write(tmp_path / "t.csv", 'text,n\n"a, b\nc",1\n')
    assert read_table(path).to_pylist() == [{"text": "a, b\nc", "n": 1}]


def test_a_csv_field_of_sixteen_mebibytes_is_read(tmp_path):
    long = "word " * ((16 << 20) // 5)
    path = write(tmp_path / "t.csv", f'text,n\n"{long}",1\n')
    assert read_table(path).to_pylist() == [{"text": long, "n": 1}]


def test_only_columns_written_as_numbers_throughout_become_numbers(tmp_path):
    path = write(tmp_path / "t.tsv", "a\tb\tc\td\n007\t-1\t1e-3\tnan\n1\t2\t.5\t3\n")
    assert read_table(path).schema.types == [pa.string(), pa.int64(), pa.float64(), pa.string()]


def test_named_columns_keep_texts_and_ids_as_they_are_written(tmp_path):
    rows = "unit_id\tdoc_id\ttext\tlabel\n1.0\t1\t1984\t1\n2.5\t2\t2001\t0\n"
    csv = write(tmp_path / "t.csv", rows.replace("\t", ","))
    for path in (csv, write(tmp_path / "t.tsv", rows)):
        read = read_table(path, text_columns=["text"], id_columns=["unit_id", "doc_id"])
        assert read.to_pydict() == {
            "unit_id": ["1.0", "2.5"],
            "doc_id": [1, 2],
            "text": ["1984", "2001"],
            "label": [1, 0],
        }


def test_a_unicode_line_separator_does_not_end_a_line(tmp_path):
    rows = [{"text": "a\u2028b\x85c\x0cd"}]
    assert read_table(write(tmp_path / "t.jsonl", as_jsonl(rows))).to_pylist() == rows


def test_a_key_that_only_later_rows_have_is_a_column(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"a": 1}\n\n{"b": "x", "a": 2}\n')
    assert read_table(path).to_pydict() == {"a": [1, 2], "b": [None, "x"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xls", "a", r"t\.xls: unknown suffix '\.xls'; known are \.parquet"),
        ("t.gz", "a", r"t\.gz: is not gzip data"),
        ("t.parquet.gz", "a", r"compressed inside"),
        ("t.txt", "a", r"a table is expected"),
        ("t.parquet", "PAR1 not really", r"t\.parquet: damaged or truncated"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', r"t\.jsonl, line 2: not JSON"),
        ("t.jsonl", '{"a":' * 100_000, r"line 1: not JSON"),
        ("t.jsonl", "1\n", r"line 1: one JSON object per line is expected"),
        (
            "t.json",
            '[{"a": 1}]',
            r"line 1: one JSON object per line .*, not an array; .* jq -c '\.\[\]'",
        ),
        ("t.json", '\n [\n {"a": 1}\n]\n', r"line 2: one JSON object per line .*, not an array"),
        ("t.jsonl", '{"a": 1}\n{"a": "x"}\n', r"the values of 'a' are not of one type"),
        ("t.jsonl", '{"a": 1}\n\n{"a": "\\ud800"}\n', r"line 3: 'a' contains half of a surrogate"),
        ("t.csv", 'a,b\n1,"x"y\n', r"line 2: not CSV"),
        ("t.csv", 'a,b\n1,"x\n', r"not CSV"),
        ("t.csv", "a,b\n1,2\n1,2,3\n", r"line 3: 3 fields where the first line names 2 columns"),
        ("t.tsv", "a\tb\n1\n", r"line 2: 1 field where the first line names 2 columns"),
        ("t.tsv", "a\ta\n1\t2\n", r"the column 'a' appears twice; rename"),
        ("t.tsv", "", r"is empty; the first line must name the columns"),
        ("t.tsv", b"a\nok\n\xff\n", r"t\.tsv, line 3: not UTF-8 at byte 5"),
        ("t.tsv.gz", b"", r"is empty, not a gzip file"),
        ("t.tsv.gz", b"a\tb\n", r"is not gzip data .*b'a.tb.n'.*; name the file without \.gz"),
        ("t.tsv.gz", gzip.compress(b"a\n" * 999, mtime=0)[:-3], r"t\.tsv\.gz: damaged or trunc"),
        ("t.tsv.zst", zstandard.compress(b"a\n" * 999)[:-3], r"t\.tsv\.zst: damaged or truncated"),
    ],
)
def test_an_unreadable_table_is_reported(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / name, content))


def test_a_missing_column_is_reported_with_the_existing_ones(tmp_path):
    path = write(tmp_path / "t.csv", "sentence,label\nx,1\n")
    with pytest.raises(InputError, match=r"no column 'text'; the columns are sentence, label"):
        read_table(path, ["text"])
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"no column 'text'; the columns are a"):
        read_table(tmp_path / "t.parquet", ["text"])


def test_a_repeated_parquet_column_is_refused_if_it_is_read(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table([["a"], ["b"], [1]], names=["text", "text", "n"]), path)
    assert read_table(path, ["n"]).to_pydict() == {"n": [1]}
    with pytest.raises(InputError, match=r"t\.parquet: the column 'text' appears twice; rename"):
        read_table(path, ["n", "text"])


def test_parquet_strings_that_are_not_utf8_are_refused(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )
    pq.write_table(pa.table({"a": broken}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: damaged or truncated \(.*UTF8"):
        read_table(tmp_path / "t.parquet")


def test_running_out_of_memory_is_not_reported_as_damage(tmp_path):
    with pytest.raises(MemoryError), explained(tmp_path / "t.parquet"):
        pa.allocate_buffer(1 << 60)


def test_unsupported_files_are_not_reported_as_damaged(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": ["text"]}), path, compression="snappy")
    # Name and codec of the column in the footer; Arrow reads no LZO.
    snappy, lzo = b"\x01a\x15\x02", b"\x01a\x15\x06"
    assert path.read_bytes().count(snappy) == 1
    path.write_bytes(path.read_bytes().replace(snappy, lzo))
    with pytest.raises(InputError, match=r"t\.parquet: not supported \(.*LZO.*\); write .* zstd"):
        read_table(path)
    with pytest.raises(InputError, match=r"t\.parquet: not supported"), explained(path):
        raise pa.ArrowNotImplementedError("a type of the future")


def test_missing_files_and_directories_are_reported(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv: no such file"):
        read_table(tmp_path / "no.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match=r"is a directory"):
        read_table(tmp_path / "d.csv")


def test_a_decompression_bomb_is_stopped_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_TABLE_BYTES", 1000)
    path = write(tmp_path / "t.csv.gz", gzip.compress(b"a\n" + b"1\n" * 5000, mtime=0))
    with pytest.raises(InputError, match="more than 1,000 bytes of data"):
        read_table(path)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz", "unnamed.gz"])
def test_a_table_that_expands_too_much_is_refused_in_bounded_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(formats, "_MIN_EXPANDED_BYTES", 1000)
    path = write(tmp_path / name, gzip.compress(b"\n" * 3_000_000, mtime=0))
    with pytest.raises(InputError, match=rf"{name}: expands to more than 200 times its size"):
        read_table(path)


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_parquet_of_few_bytes_that_stand_for_many_is_refused(tmp_path, monkeypatch, is_dictionary):
    monkeypatch.setattr(formats, "MAX_TABLE_BYTES", 5_000_000)
    texts = pa.array(["a" * 10_000] * 3000)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": texts.dictionary_encode() if is_dictionary else texts}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"t\.parquet: more than 5,000,000 bytes of data"):
        read_table(path)


def test_the_digest_of_a_source_depends_on_content_and_format(tmp_path):
    one = write(tmp_path / "one.jsonl", '{"text": "x"}\n')
    same = write(tmp_path / "same.jsonl", '{"text": "x"}\n')
    as_text = write(tmp_path / "one.txt", '{"text": "x"}\n')
    assert source_digest(one) == source_digest(same) != source_digest(as_text)


def test_a_source_that_is_not_a_file_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        source_digest(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a directory, a file is expected"):
        source_digest(tmp_path)
