import gzip
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raykd.corpus import lines as line_blocks
from raykd.corpus import parquet_rows, texts
from raykd.corpus import rows as corpus_rows
from raykd.corpus.read import read_slice
from raykd.corpus.rows import BadRow, Columns, Document, EmptyRow, QuotesNote
from raykd.corpus.slices import Slice, list_sources, plan_slices
from raykd.corpus.texts import read_texts
from raykd.errors import InputError
from raykd.storage import formats
from raykd.storage.manifest import write_once

EVERYTHING = Columns()
LINES = [{"text": "first é", "doc_id": 7}, {"text": "second", "doc_id": "b", "title": "T"}]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_parquet(path, table, **options):
    pq.write_table(table, path, **options)
    return path


def rows_of(path, shard_bytes=1 << 20, columns=EVERYTHING):
    return [row for piece in plan_slices([path], shard_bytes) for row in read_slice(piece, columns)]


def fast_rows_of(path, shard_bytes=1 << 20):
    """The rows as `read_texts` gives them: documents, bad and empty rows, in order."""
    rows = []
    for piece in plan_slices([path], shard_bytes):
        for batch in read_texts(piece, Columns(ids=(), title=None)):
            for offset, start, stop in zip(batch.offsets, batch.starts, batch.stops, strict=True):
                text = batch.data[start:stop].tobytes().decode()
                rows.append(Document(str(path), offset, text))
            rows += batch.bad
            rows += [EmptyRow(str(path), offset) for offset in batch.empty]
    return sorted(rows, key=lambda row: row.offset)


def assert_fast_rows_are_the_slow_ones(path, shard_bytes=1 << 20):
    assert fast_rows_of(path, shard_bytes) == rows_of(
        path, shard_bytes, Columns(ids=(), title=None)
    )


def texts_of(path, shard_bytes=1 << 20):
    return [row.text for row in rows_of(path, shard_bytes)]


def reasons_of(path, **options):
    return {row.offset: row.reason for row in rows_of(path, **options) if isinstance(row, BadRow)}


def not_utf8(type_):
    data = pa.array(["fine", "xx", "good"], type_)
    buffers = data.buffers()
    broken = bytearray(buffers[2].to_pybytes())
    broken[4] = 0xFF
    return pa.Array.from_buffers(type_, 3, [None, buffers[1], pa.py_buffer(bytes(broken))])


# Formats


def test_a_line_of_text_is_a_document_at_its_byte(tmp_path):
    path = write(tmp_path / "a.txt", "é one\r\n\n \t\nlast")
    assert rows_of(path) == [Document(str(path), 0, "é one"), Document(str(path), 12, "last")]


def test_a_unicode_line_separator_does_not_end_a_document(tmp_path):
    path = write(tmp_path / "a.txt", "a\u2028b\x85c\x0cd\n")
    assert texts_of(path) == ["a\u2028b\x85c\x0cd"]


def test_a_byte_order_mark_is_not_text(tmp_path):
    assert texts_of(write(tmp_path / "a.txt", "\ufeffone\ntwo\n")) == ["one", "two"]


def test_jsonl_gives_text_id_and_title(tmp_path):
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in LINES))
    assert rows_of(path) == [
        Document(str(path), 0, "first é", unit_id=7),
        Document(str(path), 38, "second", unit_id="b", title="T"),
    ]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_parquet_gives_rows_of_every_kind_of_string_column(tmp_path, type_):
    table = pa.table({"text": pa.array(["a b", "é"]).cast(type_), "unit_id": [3, 4]})
    path = write_parquet(tmp_path / "a.parquet", table)
    assert rows_of(path) == [Document(str(path), 0, "a b", 3), Document(str(path), 1, "é", 4)]


def test_parquet_gives_rows_of_a_dictionary_column(tmp_path):
    table = pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()})
    assert texts_of(write_parquet(tmp_path / "a.parquet", table)) == ["a", "b", "a"]


def test_csv_and_tsv_rows_are_documents(tmp_path):
    csv = write(tmp_path / "a.csv", 'doc_id,text\n1,"a, b"\n2,c\n')
    tsv = write(tmp_path / "a.tsv", 'doc_id\ttext\n1\ta, b\n2\t"c\n')
    assert [(row.offset, row.unit_id, row.text) for row in rows_of(csv)] == [
        (0, 1, "a, b"),
        (1, 2, "c"),
    ]
    note, *rows = rows_of(tsv)
    assert note == QuotesNote(str(tsv), are_removed=False)
    assert [row.text for row in rows] == ["a, b", '"c']


def test_texts_titles_and_ids_of_csv_may_be_written_as_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "unit_id,text,title\n1.0,1984,1\n2.0,2001,2\n")
    assert rows_of(path) == [
        Document(str(path), 0, "1984", "1.0", "1"),
        Document(str(path), 1, "2001", "2.0", "2"),
    ]
    assert_fast_rows_are_the_slow_ones(path)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_files_give_the_documents_of_the_plain_one(tmp_path, suffix, pack):
    content = "one\ntwo\nthree"
    path = write(tmp_path / f"a.txt{suffix}", pack(content[:5].encode()) + pack(b"wo\nthree"))
    assert [(row.offset, row.text) for row in rows_of(path, shard_bytes=1)] == [
        (0, "one"),
        (4, "two"),
        (8, "three"),
    ]


# Slices

LINE = st.text(st.sampled_from("aé 。\U0001d11e\r\t\u2028\x85\0"), max_size=12)
# Chunks and slices break anywhere, in characters and before line ends; some lines are too long.
CHUNKS = st.sampled_from([1, 2, 3, 5, 1000])
LIMITS = st.sampled_from([8, 20, 1 << 24])


def patch_sizes(monkeypatch, chunk_bytes, limit):
    monkeypatch.setattr(line_blocks, "_CHUNK_BYTES", chunk_bytes)
    for module in (line_blocks, corpus_rows, texts):
        monkeypatch.setattr(module, "MAX_DOCUMENT_BYTES", limit)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(LINE, max_size=12),
    shard_bytes=st.integers(1, 40),
    end=st.sampled_from(["", "\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    chunk_bytes=CHUNKS,
    limit=LIMITS,
)
@example(lines=["a" * 20 + "\r"], shard_bytes=1, end="", mark="", chunk_bytes=1, limit=20)
@example(lines=["a\r"], shard_bytes=1, end="\r\n", mark="", chunk_bytes=1, limit=1 << 24)
def test_text_has_the_same_documents_for_any_slices(
    tmp_path_factory, lines, shard_bytes, end, mark, chunk_bytes, limit
):
    content = "\n".join(lines) + end
    path = write(tmp_path_factory.mktemp("t") / "a.txt", mark + content)
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch_sizes(monkeypatch, 1 << 20, limit)
        whole = list(read_slice(Slice(path, 0, None, 0)))
        assert_fast_rows_are_the_slow_ones(path)
        patch_sizes(monkeypatch, chunk_bytes, limit)
        assert rows_of(path, shard_bytes) == whole
        assert_fast_rows_are_the_slow_ones(path, shard_bytes)
    if limit == 1 << 24 and "\0" not in content:
        assert [row.text for row in whole] == [
            line.removesuffix("\r") for line in content.split("\n") if line.strip()
        ]


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.builds(lambda text: json.dumps({"text": text}).encode(), st.text(max_size=5)),
            st.builds(
                lambda text: json.dumps({"text": text}, ensure_ascii=False).encode(),
                st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            ),
            st.binary(max_size=8).map(lambda data: data.replace(b"\n", b"")),
            st.sampled_from(
                [b'{"text": NaN}', b'{"text": "a", "n": NaN}', b"\r", b'"text"', b"[]"]
            ),
            st.sampled_from([b'{"text": "a", "b": "\\ud800"}', b'{"text": "a", "text": "b"}']),
        ),
        max_size=10,
    ),
    shard_bytes=st.integers(1, 60),
    chunk_bytes=CHUNKS,
    end=st.sampled_from([b"", b"\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_jsonl_has_the_same_good_and_bad_rows_for_any_slices(
    tmp_path_factory, lines, shard_bytes, chunk_bytes, end, mark
):
    path = write(tmp_path_factory.mktemp("t") / "a.jsonl", mark + b"\n".join(lines) + end)
    whole = list(read_slice(Slice(path, 0, None, 0)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(line_blocks, "_CHUNK_BYTES", chunk_bytes)
        assert rows_of(path, shard_bytes) == whole
        assert_fast_rows_are_the_slow_ones(path, shard_bytes)


def test_slices_equal_the_file_where_chunks_and_slices_break_inside_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(line_blocks, "_CHUNK_BYTES", 3)
    path = write(tmp_path / "a.txt", "alpha\nbe\n\ngamma delta\nx")
    for shard_bytes in range(1, 25):
        assert texts_of(path, shard_bytes) == ["alpha", "be", "gamma delta", "x"]


def test_parquet_has_the_same_documents_for_any_slices(tmp_path):
    table = pa.table({"text": [f"row {number}" for number in range(50)]})
    path = write_parquet(tmp_path / "a.parquet", table, row_group_size=7)
    assert len(plan_slices([path], 1)) == 8
    whole = rows_of(path, 1 << 20)
    assert [row.offset for row in whole] == list(range(50))
    for shard_bytes in (1, 100, 300):
        assert rows_of(path, shard_bytes) == whole


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=4),
            st.text(max_size=6).map(lambda t: t.encode("utf-8", "replace")),
        ),
        max_size=12,
    ),
    type_=st.sampled_from([pa.binary(), pa.large_binary(), pa.string(), pa.large_string()]),
    group_rows=st.integers(1, 5),
    batch_rows=st.sampled_from([1, 3, 1000]),
    step_rows=st.sampled_from([1, 2, 256]),
)
def test_parquet_has_the_same_good_and_bad_rows_side_by_side_and_one_by_one(
    tmp_path_factory, rows, type_, group_rows, batch_rows, step_rows
):
    if type_ in (pa.string(), pa.large_string()):
        rows = [None if row is None else row.decode("utf-8", "replace") for row in rows]
    column = pa.array(rows, type_)
    path = tmp_path_factory.mktemp("t") / "a.parquet"
    pq.write_table(pa.table({"text": column}), path, row_group_size=group_rows)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(parquet_rows, "_BATCH_ROWS", batch_rows)
        monkeypatch.setattr(parquet_rows, "_STEP_ROWS", step_rows)
        assert_fast_rows_are_the_slow_ones(path, 50)


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_batches_of_parquet_are_small_whether_texts_repeat_or_are_skewed(tmp_path, is_dictionary):
    short = [f"short text {number}" for number in range(20_000)]
    long = [f"{number} " + "x" * 30_000 for number in range(2)] * 1_000
    column = pa.array([*short, *long])
    column = column.dictionary_encode() if is_dictionary else column
    path = write_parquet(tmp_path / "a.parquet", pa.table({"text": column}))
    batches = list(parquet_rows.parquet_batches(Slice(path, 0, None, 0), Columns()))
    assert [number for number, _ in batches] == [
        0,
        *np.cumsum([batch.num_rows for _, batch in batches])[:-1],
    ]
    assert pa.concat_batches([batch for _, batch in batches])["text"].to_pylist() == short + long
    assert max(batch.nbytes for _, batch in batches) < 9 << 20
    assert len(batches) < 30


def test_an_empty_file_has_no_rows(tmp_path):
    assert rows_of(write(tmp_path / "a.txt", "")) == []
    table = pa.table({"text": pa.array([], pa.string())})
    assert rows_of(write_parquet(tmp_path / "a.parquet", table)) == []


# Bad rows


def test_bad_lines_of_jsonl_are_returned_with_the_good_ones(tmp_path):
    lines = [
        b'{"text": "good"}',
        b'{"text": ',
        b'{"text": "\xff"}',
        b'["text"]',
        b'"text"',
        b'{"body": "x", "id": 1}',
        b'{"text": null}',
        b'{"text": " "}',
        b'{"text": 5}',
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b'{"a":' * 100_000,
        b'{"text": "x", "doc_id": [1]}',
        b'{"text": "x", "doc_id": true}',
        b'{"text": "x", "doc_id": 9223372036854775808}',
        b'{"text": "also good", "doc_id": null}',
    ]
    rows = rows_of(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert [row.text for row in rows if isinstance(row, Document)] == ["good", "also good"]
    reasons = [row.reason for row in rows if isinstance(row, BadRow)]
    assert [reason.split(":")[0] for reason in reasons] == [
        "not JSON",
        "not UTF-8 at byte 10 of the line",
        "one JSON object per line is expected, not an array; unpack it with jq -c '.[]'",
        "not a JSON object but str",
        "no key 'text' (keys",
        "'text' is not a string but int",
        "contains half of a surrogate pair",
        "contains a NUL character; is the file UTF-16?",
        "not JSON",
        "the id is neither a string nor an int64",
        "the id is neither a string nor an int64",
        "the id is neither a string nor an int64",
    ]
    assert reasons[4] == "no key 'text' (keys: 'body', 'id')"
    assert sum(isinstance(row, EmptyRow) for row in rows) == 2


def test_an_empty_id_is_reported(tmp_path):
    csv = write(tmp_path / "a.csv", "unit_id,text\na,x\n,y\n")
    jsonl = write(tmp_path / "a.jsonl", '{"text": "x", "unit_id": ""}\n')
    assert reasons_of(csv) == {1: "the id is empty; give an id to all rows, or to none"}
    assert reasons_of(jsonl) == {0: "the id is empty; give an id to all rows, or to none"}


def test_a_bad_id_or_title_is_ignored_if_it_is_not_read(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "doc_id": [1], "title": 3}')
    assert [row.text for row in rows_of(path, columns=Columns(ids=(), title=None))] == ["x"]


def test_an_array_of_rows_is_reported_with_a_remedy(tmp_path):
    one_line = write(tmp_path / "a.json", '[{"text": "a"}, {"text": "b"}]')
    many_lines = write(tmp_path / "b.json", '[\n  {"text": "a"},\n  {"text": "b"}\n]\n')
    remedy = "one JSON object per line is expected, not an array; unpack it with jq -c '.[]'"
    assert reasons_of(one_line) == {0: remedy}
    assert reasons_of(many_lines)[0] == remedy


def test_a_row_with_a_title_may_lack_text(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "", "title": "T"}\n{"title": "U"}\n')
    assert [(row.text, row.title) for row in rows_of(path)] == [("", "T"), ("", "U")]
    assert rows_of(path, columns=Columns(title=None)) == [
        EmptyRow(str(path), 0),
        BadRow(str(path), 27, "no key 'text' (keys: 'title')"),
    ]


def test_bad_lines_of_text_are_returned_with_their_bytes(tmp_path):
    path = write(tmp_path / "a.txt", b"good\n\xff\xfeh\0\ni\0\nbad \xc3\nfine\n")
    assert reasons_of(path) == {
        5: "not UTF-8 at byte 0 of the line",
        10: "contains a NUL character; is the file UTF-16?",
        13: "not UTF-8 at byte 4 of the line",
    }
    assert [row.text for row in rows_of(path) if isinstance(row, Document)] == ["good", "fine"]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary()])
def test_bad_rows_of_parquet_are_returned_with_their_row(tmp_path, type_):
    table = pa.table({"text": not_utf8(type_), "doc_id": [1, 2, 3]})
    path = write_parquet(tmp_path / "a.parquet", table)
    assert rows_of(path) == [
        Document(str(path), 0, "fine", 1),
        BadRow(str(path), 1, "'text' is not UTF-8"),
        Document(str(path), 2, "good", 3),
    ]


def test_null_and_blank_rows_of_every_format_are_empty(tmp_path):
    values = ["a", None, "", " \u3000"]
    parquet = write_parquet(tmp_path / "a.parquet", pa.table({"text": values}))
    nulls = write_parquet(tmp_path / "b.parquet", pa.table({"text": pa.nulls(2)}))
    jsonl = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": v}) + "\n" for v in values))
    csv = write(tmp_path / "a.csv", 'n,text\n1,a\n2,\n3,""\n4, \u3000\n')
    for path, empty in ((parquet, [1, 2, 3]), (csv, [1, 2, 3]), (nulls, [0, 1])):
        found = [row.offset for row in rows_of(path) if isinstance(row, EmptyRow)]
        assert found == empty
        assert_fast_rows_are_the_slow_ones(path)
    assert [type(row) for row in rows_of(jsonl)] == [Document, EmptyRow, EmptyRow, EmptyRow]
    assert_fast_rows_are_the_slow_ones(jsonl)


def test_a_title_that_is_a_number_is_kept_and_one_of_another_type_ignored(tmp_path):
    titles = [1984, 0.5, True, ["a"], {"b": 1}, "T", None]
    lines = "".join(json.dumps({"text": "x", "title": title}) + "\n" for title in titles)
    found = rows_of(write(tmp_path / "a.jsonl", lines))
    assert [row.title for row in found] == ["1984", "0.5", None, None, None, "T", None]
    assert [row.has_odd_title for row in found] == [True] * 5 + [False] * 2
    table = pa.table({"text": ["x", "y"], "title": [1984, None]})
    found = rows_of(write_parquet(tmp_path / "a.parquet", table))
    assert [(row.title, row.has_odd_title) for row in found] == [("1984", True), (None, False)]


def test_a_line_above_the_limit_is_bad_for_any_slices_and_the_next_is_good(tmp_path, monkeypatch):
    for module in (line_blocks, corpus_rows, texts):
        monkeypatch.setattr(module, "MAX_DOCUMENT_BYTES", 10)
    monkeypatch.setattr(line_blocks, "_CHUNK_BYTES", 4)
    path = write(tmp_path / "a.txt", "0123456789\n0123456789a\nnext\n" + "x" * 50)
    whole = rows_of(path, 1000)
    assert whole == [
        Document(str(path), 0, "0123456789"),
        BadRow(str(path), 11, "the line has more than 10 bytes"),
        Document(str(path), 23, "next"),
        BadRow(str(path), 28, "the line has more than 10 bytes"),
    ]
    for shard_bytes in range(1, 80, 3):
        assert rows_of(path, shard_bytes) == whole


# Files that cannot be read


def truncated(pack):
    return pack(random.Random(0).randbytes(5000))[:-50]


def with_a_byte_changed(pack, at):
    packed = bytearray(pack(b'{"text": "a row"}\n' * 5000))
    packed[at] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", truncated(gzip.compress)),
        ("a.jsonl.gz", with_a_byte_changed(gzip.compress, 60)),
        ("a.jsonl.gz", with_a_byte_changed(gzip.compress, -5)),
        ("a.jsonl.zst", truncated(zstandard.compress)),
        ("a.parquet", b"PAR1" + b"x" * 100),
        ("a.parquet", b""),
    ],
)
def test_a_damaged_or_truncated_file_is_reported(tmp_path, name, content):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=rf"{name}: damaged or truncated .*get or write the file"):
        rows_of(path)


def test_gzip_padded_with_zeros_and_of_several_members_is_read_to_its_end(tmp_path):
    members = gzip.compress(b"one\n") + gzip.compress(b"") + gzip.compress(b"two\n")
    path = write(tmp_path / "a.txt.gz", members + bytes(512))
    assert [row.text for row in rows_of(path)] == ["one", "two"]


def test_parquet_with_a_damaged_page_is_reported(tmp_path):
    table = pa.table({"text": [f"some text of row {number}" for number in range(2000)]})
    path = write_parquet(
        tmp_path / "a.parquet", table, write_page_checksum=True, use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    data[5000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.parquet: damaged or truncated"):
        rows_of(path)


def test_an_empty_compressed_file_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt\.gz: is empty, not a gzip file"):
        rows_of(write(tmp_path / "a.txt.gz", b""))


def test_a_decompression_bomb_is_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_MIN_EXPANDED_BYTES", 1000)
    path = write(tmp_path / "a.txt.zst", zstandard.compress(b"x\n" * 2_000_000))
    with pytest.raises(InputError, match="expands to more than 200 times its size; .*unpack"):
        rows_of(path)


def test_a_missing_text_column_is_reported_with_the_existing_columns(tmp_path):
    parquet = write_parquet(tmp_path / "a.parquet", pa.table({"body": ["x"], "n": [1]}))
    csv = write(tmp_path / "a.csv", "body,n\nx,1\n")
    for path in (parquet, csv):
        with pytest.raises(InputError, match=r"no column 'text'; the columns are body, n"):
            rows_of(path)


@pytest.mark.parametrize("name", ["text", "doc_id"])
def test_a_repeated_parquet_column_is_refused(tmp_path, name):
    table = pa.table([["a"], ["x"], ["y"]], names=["text", name, "doc_id"])
    path = write_parquet(tmp_path / "a.parquet", table)
    with pytest.raises(InputError, match=rf"a\.parquet: the column '{name}' appears twice; rename"):
        rows_of(path)


def test_a_text_column_of_numbers_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", pa.table({"text": [1, 2]}))
    with pytest.raises(InputError, match=r"a\.parquet: column 'text' has type int64, text is"):
        rows_of(path)


# Sources


def test_directories_are_searched_in_order_and_each_file_is_taken_once(tmp_path):
    for name in ("b/x.txt", "b/a.jsonl.gz", "a.parquet", ".hidden.txt", ".cache/y.txt", "_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "")
    expected = [tmp_path / "b/x.txt", tmp_path / "a.parquet", tmp_path / "b/a.jsonl.gz"]
    assert list_sources([tmp_path / "b/x.txt", tmp_path]).files == expected


def test_of_raykds_outputs_only_units_and_corpora_are_read(tmp_path):
    (tmp_path / "given").mkdir()
    of_others = write(tmp_path / "given" / "manifest.json", "{}")
    assert list_sources([tmp_path / "given"]).files == [of_others]
    write_once(tmp_path / "clean", "dedup", {}, {}, write_dedup_output)
    clean = tmp_path / "clean/units/units-00000.parquet"
    assert list_sources([tmp_path / "clean"]).files == [clean]
    write_once(tmp_path / "hits", "search", {}, {}, write_hits_output)
    with pytest.raises(InputError, match="the directory has no text files"):
        list_sources([tmp_path / "hits"])


def write_dedup_output(draft):
    (draft.directory / "units").mkdir()
    for name in ("units/units-00000.parquet", "removed.parquet", "quarantine.parquet"):
        write(draft.directory / name, "")


def write_hits_output(draft):
    write(draft.directory / "hits.parquet", "")


def test_an_invalid_source_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        list_sources([tmp_path / "none.txt"])
    with pytest.raises(InputError, match="the directory has no files"):
        list_sources([tmp_path])
    write(tmp_path / "a.docx", "")
    with pytest.raises(InputError, match=r"a\.docx: unknown suffix '\.docx'; known are \.parquet"):
        list_sources([tmp_path])


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_place_of_a_bad_line_is_its_line_number(tmp_path, suffix):
    content = "one\n\ndrei\r\nvierté\nfive".encode()
    packed = {"": content, ".gz": gzip.compress(content), ".zst": zstandard.compress(content)}
    path = str(write(tmp_path / f"a.txt{suffix}", packed[suffix]))
    starts = [0, 4, 5, 11, 19]
    expected = ["line 1", "line 2", "line 3", "line 4", "line 5"]
    assert [line_blocks.place_of(path, start) for start in starts] == expected


def test_the_place_of_a_bad_row_that_is_no_line_is_its_number():
    assert line_blocks.place_of("a.parquet", 7) == "row 7 (counted from 0)"
    assert line_blocks.place_of("a.csv.gz", 7) == "row 7 (counted from 0)"
    assert line_blocks.place_of("s3://bucket/a.jsonl", 7) == "byte 7"
    assert line_blocks.place_of("missing.jsonl", 3 << 30) == "byte 3221225472"


def test_the_place_of_a_bad_line_is_its_byte_where_the_file_is_gone_or_another(tmp_path):
    assert line_blocks.place_of(str(tmp_path / "gone.jsonl"), 7) == "byte 7"
    assert line_blocks.place_of(str(write(tmp_path / "a.jsonl.gz", b"no gzip")), 7) == "byte 7"
    assert line_blocks.place_of(str(write(tmp_path / "a.jsonl", b"a\nb\n")), 7) == "byte 7"
