"""Checked JSON files: every changed or missing byte is detected."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.errors import InputError
from raykd.storage.checked_json import from_checked_json, read_informative, to_checked_json
from raykd.storage.manifest import (
    FILE_NAME,
    check_output,
    commit,
    finished,
    manifest_of_source,
    read_manifest,
    stage_key,
)

_VALUES = st.dictionaries(
    st.text().filter(lambda name: name != "checksum"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


def damages_of(content: bytes) -> list[bytes]:
    """The content with two bits of each byte changed, one by one, and cut off before each byte."""
    changed = [
        content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        for at in range(len(content))
        for bit in (0, 5)
    ]
    return changed + [content[:at] for at in range(len(content))]


@settings(max_examples=50)
@given(_VALUES)
def test_what_is_written_is_read_back(values):
    assert from_checked_json(to_checked_json(values).encode()) == values


@given(_VALUES, st.data())
def test_a_changed_byte_gives_the_same_values_or_none(values, data):
    content = to_checked_json(values).encode()
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255))
    assert from_checked_json(content[:at] + bytes([byte]) + content[at + 1 :]) in (None, values)


@pytest.fixture
def written(tmp_path) -> Path:
    out = tmp_path / "out"
    with commit(out, "greet", {"k": 0.5}, {"who": "world"}) as draft:
        (draft.directory / "hello.txt").write_text("hello")
        draft.counts["num_words"] = 1
    return out


def test_no_changed_byte_and_no_missing_end_of_a_manifest_is_used(written):
    path = written / FILE_NAME
    whole, content = read_manifest(written), path.read_bytes()
    assert whole is not None
    # Of the blanks and digits that mean the same, the content is the same: it is what counts.
    for damaged in damages_of(content):
        path.write_bytes(damaged)
        assert read_manifest(written) in (None, whole)
    path.write_bytes(content.replace(b'"num_words": 1', b'"num_words": 7'))
    assert read_manifest(written) is None
    assert finished(written, stage_key("greet", {"k": 0.5}, {"who": "world"})) is None


def test_a_manifest_without_a_checksum_is_rewritten_and_keeps_user_files(written):
    path = written / FILE_NAME
    values = json.loads(path.read_text())
    del values["checksum"]
    path.write_text(json.dumps(values, indent=2))
    assert read_manifest(written) is None
    check_output(written)
    (written / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out/notes\.txt: in the way of an output"):
        check_output(written)


def test_a_damaged_manifest_of_a_folder_to_read_is_refused_and_one_of_others_is_not(written):
    path = written / FILE_NAME
    assert manifest_of_source(written) == read_manifest(written) is not None
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"out/manifest\.json: damaged, or of an older version"):
        manifest_of_source(written)
    path.write_text('{"name": "an app", "icons": []}')
    assert manifest_of_source(written) is None


def test_a_damaged_informative_file_is_removed_and_reported(tmp_path, capsys):
    path = tmp_path / "times.json"
    assert read_informative(path) == {}
    content = to_checked_json({"ingest": 1.5}).encode()
    path.write_bytes(content)
    assert read_informative(path) == {"ingest": 1.5}
    for damaged in (content.replace(b"1.5", b"7.5"), content[:5], b"", b"\xff" + content, b"[1]"):
        path.write_bytes(damaged)
        assert read_informative(path) == {}
        assert not path.exists()
        assert f"{path}: damaged, or of an older version; removed" in capsys.readouterr().err
