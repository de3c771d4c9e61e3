"""Selection of the files of folders, and reports of the files that are left out."""

import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.corpus.slices import list_sources
from raykd.errors import InputError
from raykd.storage.directories import list_files
from raykd.storage.patterns import Pattern


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "x"}\n')
    return folder


def names_of(listing, folder):
    return [str(path.relative_to(folder)) for path in listing.files]


def left_out(listing, folder):
    return {
        reason.partition(" (")[0].partition(",")[0]: [os.path.relpath(n, folder) for n in names]
        for reason, names in listing.left_out.items()
    }


def test_linked_files_and_folders_are_followed_and_each_is_read_once(tmp_path):
    make(tmp_path, "store/x.jsonl", "corpus/a.jsonl", "blob.jsonl")
    corpus = tmp_path / "corpus"
    (corpus / "linked").symlink_to(tmp_path / "store")
    (corpus / "again").symlink_to(tmp_path / "store")
    (corpus / "b.jsonl").symlink_to(tmp_path / "blob.jsonl")
    (corpus / "c.jsonl").symlink_to("a.jsonl")
    (corpus / "circle").symlink_to(corpus)
    found = list_files([corpus])
    assert names_of(found, corpus) == ["a.jsonl", "again/x.jsonl", "b.jsonl"]
    assert left_out(found, corpus) == {"read already": ["c.jsonl", "circle", "linked"]}
    assert found.lines() == [
        f"left out, read already, by another path: {corpus}/c.jsonl, {corpus}/circle, "
        f"{corpus}/linked"
    ]


def test_names_that_begin_with_an_underscore_or_a_dot_are_hidden_but_no_partitions(tmp_path):
    hidden = [".DS_Store", "_SUCCESS", "_delta_log/0.json", "_temporary/0/part.json"]
    hidden += ["__MACOSX/._a.jsonl", ".cache/b.jsonl", "_c.jsonl", "d.jsonl._COPYING_"]
    make(tmp_path, *hidden, "_year=2024/a.jsonl", "part-0.jsonl", "shard.jsonl/part-0.json")
    found = list_files([tmp_path])
    assert names_of(found, tmp_path) == [
        "_year=2024/a.jsonl",
        "part-0.jsonl",
        "shard.jsonl/part-0.json",
    ]
    assert left_out(found, tmp_path) == {"hidden": sorted({n.split("/")[0] for n in hidden})}
    assert "rows that the table has deleted or replaced are read as well" in found.lines()[-1]
    # What is named itself is read.
    assert names_of(list_files([tmp_path / "_c.jsonl"]), tmp_path) == ["_c.jsonl"]
    assert names_of(list_files([tmp_path / "_temporary"]), tmp_path) == ["_temporary/0/part.json"]


def test_descriptions_of_downloaded_data_sets_are_left_out_of_folders(tmp_path):
    make(tmp_path, "README.md", "dataset_infos.json", ".gitattributes", "data/train.parquet")
    found = list_files([tmp_path])
    assert names_of(found, tmp_path) == ["data/train.parquet"]
    assert left_out(found, tmp_path)["descriptions of a data set"] == [
        "README.md",
        "dataset_infos.json",
    ]


def test_exclusions_are_applied_and_unused_ones_are_reported(tmp_path):
    make(tmp_path, "a.md", "x/a.md", "x/b.jsonl", "x/old/c.jsonl", "y/old/d.jsonl")
    found = list_files([tmp_path], ["*.md", "x/old", "*.nothing"])
    assert names_of(found, tmp_path) == ["x/b.jsonl", "y/old/d.jsonl"]
    assert left_out(found, tmp_path)["excluded"] == ["a.md", "x/a.md", "x/old"]
    assert found.lines()[-1] == "exclude: nothing matches '*.nothing'"
    with pytest.raises(InputError, match="every file is excluded"):
        list_files([tmp_path / "x"], ["*"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("x/*", ["x/b.jsonl", "x/deep/c.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "x/b.jsonl", "x/deep/c.jsonl"]),
        ("**/c.*", ["x/deep/c.jsonl"]),
        ("x/*/c.jsonl", ["x/deep/c.jsonl"]),
        ("?/[ab].jsonl", ["x/b.jsonl"]),
        ("**", ["a.jsonl", "x/b.jsonl", "x/deep/c.jsonl", "x/t.txt"]),
        ("_*.jsonl", ["_h.jsonl"]),
    ],
)
def test_patterns_name_files_and_whole_folders(tmp_path, pattern, expected):
    make(tmp_path, "a.jsonl", "x/b.jsonl", "x/deep/c.jsonl", "_h.jsonl")
    if pattern == "**":
        make(tmp_path, "x/t.txt")
    (tmp_path / "yy").mkdir()
    (tmp_path / "yy" / "circle").symlink_to(tmp_path)
    assert names_of(list_files([tmp_path / pattern]), tmp_path) == expected


def test_a_name_with_special_characters_that_exists_is_no_pattern(tmp_path):
    make(tmp_path, "data [v1]/a[0].jsonl", "data [v1]/a0.jsonl", "data [v1]/b*.jsonl")
    folder = tmp_path / "data [v1]"
    assert names_of(list_files([folder / "a[0].jsonl"]), folder) == ["a[0].jsonl"]
    assert names_of(list_files([folder / "b*.jsonl"]), folder) == ["b*.jsonl"]
    assert names_of(list_files([folder / "a[0-9].jsonl"]), folder) == ["a0.jsonl"]
    assert names_of(list_files([folder / "a*"]), folder) == ["a0.jsonl", "a[0].jsonl"]
    with pytest.raises(InputError, match=r"c\*\.jsonl: no file matches the pattern"):
        list_files([folder / "c*.jsonl"])


def test_pipes_sockets_devices_and_dangling_links_are_refused_unopened(tmp_path, monkeypatch):
    for name in ("pipe", "socket", "link", "device"):
        make(tmp_path, f"{name}/a.jsonl")
    os.mkfifo(tmp_path / "pipe" / "p.jsonl")
    monkeypatch.chdir(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jsonl")
        (tmp_path / "link" / "l.jsonl").symlink_to("nowhere")
        (tmp_path / "device" / "d.jsonl").symlink_to("/dev/zero")
        for folder, words in (
            ("pipe", r"p\.jsonl: is a pipe, a file is expected"),
            ("socket", r"s\.jsonl: is a socket, a file is expected"),
            ("device", r"d\.jsonl: is a device, a file is expected"),
            ("link", r"l\.jsonl: a link to nowhere, which does not exist"),
        ):
            with pytest.raises(InputError, match=words):
                list_files([tmp_path / folder])
            with pytest.raises(InputError, match=words):
                list_files([next((tmp_path / folder).glob("[psld].jsonl"))])
            assert len(list_files([tmp_path / folder], ["[psld].jsonl"]).files) == 1
            assert len(list_files([tmp_path / folder / "a*"]).files) == 1


def test_a_folder_with_only_hidden_files_is_an_error_that_lists_them(tmp_path):
    make(tmp_path, "_SUCCESS")
    with pytest.raises(InputError, match=r"the directory has no files \(left out, hidden .*_SUC"):
        list_files([tmp_path])


def test_an_output_in_a_searched_folder_is_detected_through_links_and_patterns(tmp_path):
    make(tmp_path, "store/x.jsonl", "corpus/a.jsonl")
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "store")
    found = list_files([tmp_path / "corpus"])
    assert found.holds(tmp_path / "store" / "out")
    assert not found.holds(tmp_path / "out")
    of_pattern = list_files([tmp_path / "corpus" / "*.jsonl"])
    assert not of_pattern.holds(tmp_path / "corpus" / "out")
    assert of_pattern.holds(tmp_path / "corpus" / "out.jsonl")
    assert list_files([tmp_path / "corpus" / "**/*.jsonl"]).holds(tmp_path / "corpus" / "out")


def test_a_file_without_a_suffix_is_read_if_it_has_json_lines(tmp_path):
    make(tmp_path, "AA/wiki_00", "AB/wiki_01")
    assert len(list_sources([tmp_path]).files) == 2
    (tmp_path / "AA" / "notes").write_text("some words\n")
    with pytest.raises(
        InputError, match=r"notes: unknown suffix ''; .* rename .*--exclude 'notes'"
    ):
        list_sources([tmp_path])
    assert len(list_sources([tmp_path], ["notes"]).files) == 2


NAMES = st.lists(st.sampled_from(["a", "b", "_c", ".d", "e.txt"]), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(paths=st.lists(NAMES, min_size=1, max_size=6), skipped=st.sampled_from(["a", "*.txt", "b"]))
def test_every_file_is_read_or_left_out_by_name_or_below_what_is(tmp_path_factory, paths, skipped):
    folder = tmp_path_factory.mktemp("f")
    for names in paths:
        path = folder.joinpath(*names, "x.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (folder / "z.jsonl").write_text("{}")
    found = list_files([folder], [skipped])
    out = {name for names in found.left_out.values() for name in names}
    for path in folder.rglob("*.jsonl"):
        above = {str(parent) for parent in (path, *path.parents)}
        assert (path in found.files) != bool(above & out)


def test_a_pattern_matches_name_by_name():
    assert Pattern("a/**/b").matches(["a", "b"])
    assert Pattern("a/**/b").matches(["a", "x", "y", "b", "below"])
    assert not Pattern("a/*/b").matches(["a", "b"])
    assert not Pattern("*.txt").matches(["a", "b.txt"])
    assert Pattern("**/*.txt").matches(["a", "b.txt"])
