"""Detection of formats by name and by the first bytes."""

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.corpus.read import read_slice
from raykd.corpus.rows import Document
from raykd.corpus.slices import plan_slices
from raykd.errors import InputError
from raykd.storage import formats
from raykd.storage.formats import format_of, source_digest
from raykd.storage.tables import read_table

JSONL = b'{"text": "one"}\n{"text": "two"}\n'


def write(path, content):
    path.write_bytes(content)
    return path


def texts_of(path):
    rows = [row for piece in plan_slices([path], 1 << 20) for row in read_slice(piece)]
    return [row.text for row in rows if isinstance(row, Document)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "wiki_00", "a.0001"])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_content_is_read_under_any_name(tmp_path, name, pack):
    path = write(tmp_path / name, pack(JSONL))
    assert texts_of(path) == ["one", "two"]
    assert read_table(path, ["text"]).to_pydict() == {"text": ["one", "two"]}


def test_zstd_that_begins_with_a_skippable_frame_is_read(tmp_path):
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    assert texts_of(write(tmp_path / "a.jsonl", skippable + zstandard.compress(JSONL))) == [
        "one",
        "two",
    ]


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["one", "two"]}), file)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", JSONL)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", JSONL, r"a\.jsonl\.gz: is not gzip data .*name the file without \.gz"),
        ("a.jsonl.bz2", bz2.compress(JSONL), "contains bzip2 data; unpack it"),
        ("a.jsonl", lzma.compress(JSONL), "contains xz data; unpack it"),
        ("a.zip", zipped(), r"contains zip data; unpack it, .* \.jsonl\.gz or \.jsonl\.zst; leave"),
        ("a.jsonl", LFS_POINTER, "is a Git LFS pointer to the data, not the data.* git lfs pull"),
        ("a.parquet", LFS_POINTER, "is a Git LFS pointer to the data"),
        ("a.jsonl", parquet(), r"contains Parquet data; name it \.parquet"),
        ("a.parquet", gzip.compress(parquet()), "Parquet is compressed inside; unpack the file"),
        ("README.md", b"# Title\n", r"README\.md: unknown suffix '\.md'"),
        ("empty", b"", "unknown suffix ''"),
        ("a.ipynb", b'{\n "cells": []\n}\n', r"unknown suffix '\.ipynb'"),
    ],
)
def test_content_that_contradicts_the_name_is_reported(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        source_digest(write(tmp_path / name, content))


def test_parquet_without_a_suffix_is_recognized(tmp_path):
    assert format_of(write(tmp_path / "part-0", parquet())) == ("parquet", None)


def test_a_zstd_window_above_the_limit_is_reported_with_a_remedy(tmp_path):
    # Magic number, a frame that states only a window: exponent 21, 2 GiB; an empty last block.
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00"
    path = write(tmp_path / "a.jsonl.zst", frame)
    with pytest.raises(InputError, match=r"needs a window of 2,048 MiB.* recompress it: zstd -d -"):
        texts_of(path)
    with pytest.raises(InputError, match=r"needs a window of 2,048 MiB"):
        read_table(path, ["text"])


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path):
    path = write(tmp_path / os.fsdecode(b"caf\xe9.jsonl"), JSONL + b"{\n")
    assert texts_of(path) == ["one", "two"]
    rows = [row for piece in plan_slices([path], 1 << 20) for row in read_slice(piece)]
    assert {row.source for row in rows} == {f"{tmp_path}/caf\\xe9.jsonl"}
    assert source_digest(path) == source_digest(write(tmp_path / "b.jsonl", JSONL + b"{\n"))
    packed = write(tmp_path / os.fsdecode(b"caf\xe9.jsonl.gz"), gzip.compress(JSONL))
    assert read_table(packed).num_rows == 2


# Tables

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
EXTRA = st.dictionaries(
    st.text(max_size=3).filter(lambda name: name not in ("text", "label")), VALUES, max_size=3
)


@settings(max_examples=150, deadline=None)
@given(extra=st.lists(EXTRA, min_size=3, max_size=3))
def test_other_columns_of_json_lines_change_nothing(tmp_path_factory, extra):
    rows = [{"text": f"é {n}", "label": n} for n in range(3)]
    lines = [json.dumps({**more, **row}) for row, more in zip(rows, extra, strict=True)]
    path = write(tmp_path_factory.mktemp("t") / "a.jsonl", "\n".join(lines).encode())
    assert read_table(path, ["text", "label"], text_columns=["text"]).to_pylist() == rows
    assert texts_of(path) == [row["text"] for row in rows]


COLUMNS = st.sampled_from(
    [
        pa.array([[1.0, 2.0], None, []]),
        pa.array([{"a": 1}, None, {"a": 2}]),
        pa.array([b"\xff", b"", None]),
        pa.array(["x", "x", None]).dictionary_encode(),
        pa.nulls(3),
        pa.array([1, 2, 3], pa.timestamp("us")),
    ]
)


@settings(max_examples=60, deadline=None)
@given(others=st.lists(st.tuples(st.sampled_from(["a", "", "b", "text.x"]), COLUMNS), max_size=4))
def test_other_columns_of_parquet_change_nothing(tmp_path_factory, others):
    arrays = [pa.array(["one", "two", "x"]), pa.array([0, 1, 2]), *(array for _, array in others)]
    table = pa.table(arrays, names=["text", "label", *(name for name, _ in others)])
    path = tmp_path_factory.mktemp("t") / "a.parquet"
    pq.write_table(table, path)
    found = read_table(path, ["label", "text"], text_columns=["text"])
    assert found.to_pydict() == {"label": [0, 1, 2], "text": ["one", "two", "x"]}
    assert texts_of(path) == ["one", "two", "x"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_limit_counts_only_the_columns_that_are_read(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(formats, "MAX_TABLE_BYTES", 4000)
    rows = {"text": ["a", "b"], "embedding": [[float(n) / 7 for n in range(2000)]] * 2}
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table(rows), path, use_dictionary=False)
    else:
        lines = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, lines)))
        monkeypatch.setattr(formats, "MAX_TABLE_BYTES", 80_000)
    assert read_table(path, ["text"])["text"].to_pylist() == ["a", "b"]
    if suffix == ".parquet":
        with pytest.raises(InputError, match="more than 4,000 bytes"):
            read_table(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("7", r"line 3: 'text' is a whole number \(7\), text is expected"),
        ("[1]", r"line 3: 'text' is a list"),
        ("true", r"line 3: 'text' is true or false"),
        ('"\\ud83d"', r"line 3: 'text' contains half of a surrogate pair"),
    ],
)
def test_a_value_that_is_not_text_is_reported_with_line_column_and_type(tmp_path, value, words):
    path = write(tmp_path / "a.jsonl", f'{{"text": "a"}}\n\n{{"text": {value}}}\n'.encode())
    with pytest.raises(InputError, match=words):
        read_table(path, ["text"], text_columns=["text"])


def test_values_of_two_types_are_reported_with_a_line_of_each(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"label": 1}\n{"label": 2}\n{"label": "x"}\n')
    with pytest.raises(InputError, match=r"'label' are not of one type: a whole number in line 1"):
        read_table(path, ["label"])


def test_binary_text_is_read_and_invalid_utf8_is_reported_with_its_row(tmp_path):
    good = tmp_path / "good.parquet"
    pq.write_table(pa.table({"text": pa.array([b"a", None, b"\xc3\xa9"])}), good)
    found = read_table(good, ["text"], text_columns=["text"])
    assert found["text"].to_pylist() == ["a", None, "é"]
    bad = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"text": pa.array([b"a", b"\xff"])}), bad)
    with pytest.raises(InputError, match=r"bad\.parquet, row 1 .*'text' is not UTF-8 at byte 0"):
        read_table(bad, ["text"], text_columns=["text"])
