import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raykd.errors import InputError
from raykd.storage.manifest import (
    Draft,
    check_output,
    commit,
    digest_of,
    finished,
    read_manifest,
    stage_key,
    write_manifest,
    write_once,
)


def write_hello(out: Path, config: dict[str, int], calls: list[str]):
    def write(draft):
        calls.append("written")
        (draft.directory / "hello.txt").write_text("hello")
        draft.counts["num_words"] = 1

    return write_once(out, "greet", config, {"who": "world"}, write)


def test_a_second_call_writes_nothing(tmp_path):
    calls: list[str] = []
    first = write_hello(tmp_path / "out", {"k": 1}, calls)
    stamp = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    assert write_hello(tmp_path / "out", {"k": 1}, calls) == first
    assert calls == ["written"]
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == stamp


def test_another_setting_is_another_output(tmp_path):
    calls: list[str] = []
    first = write_hello(tmp_path / "out", {"k": 1}, calls)
    second = write_hello(tmp_path / "out", {"k": 2}, calls)
    assert calls == ["written", "written"]
    assert first.key != second.key
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("jello"),
        lambda path: path.write_text("hell"),
        lambda path: path.unlink(),
    ],
    ids=["flipped", "truncated", "missing"],
)
def test_damaged_output_is_not_complete(tmp_path, damage):
    calls: list[str] = []
    write_hello(tmp_path / "out", {"k": 1}, calls)
    damage(tmp_path / "out" / "hello.txt")
    write_hello(tmp_path / "out", {"k": 1}, calls)
    assert calls == ["written", "written"]
    assert (tmp_path / "out" / "hello.txt").read_text() == "hello"


def test_an_error_leaves_the_older_output_and_no_partial_one(tmp_path):
    write_hello(tmp_path / "out", {"k": 1}, [])
    with pytest.raises(OSError, match="disk full"), commit(tmp_path / "out", "greet", {}, {}) as d:
        (d.directory / "half.txt").write_text("ha")
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "hello.txt",
        "manifest.json",
    ]


def test_a_killed_writer_leaves_no_output(tmp_path):
    script = """
import sys, time
from pathlib import Path
from raykd.storage.manifest import commit
with commit(Path(sys.argv[1]), "greet", {}, {}) as draft:
    (draft.directory / "half.txt").write_text("ha")
    print("writing", flush=True)
    time.sleep(60)
"""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not out.exists()
    assert finished(out, stage_key("greet", {}, {})) is None


def test_an_output_with_an_unreadable_manifest_is_not_complete(tmp_path):
    write_hello(tmp_path / "out", {"k": 1}, [])
    (tmp_path / "out" / "manifest.json").write_text("{")
    assert read_manifest(tmp_path / "out") is None


def test_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_counts_and_duration_are_recorded(tmp_path):
    started = time.monotonic()
    manifest = write_hello(tmp_path / "out", {"k": 1}, [])
    assert manifest.counts == {"num_words": 1}
    assert 0 <= manifest.duration_s <= time.monotonic() - started


def test_the_digest_of_a_stage_does_not_depend_on_how_long_its_shards_took(tmp_path):
    digests = []
    for wait_s in (0.0, 0.02):
        out = tmp_path / str(wait_s)
        with commit(out / "shard-0", "part", {}, {}) as draft:
            time.sleep(wait_s)
            (draft.directory / "rows.txt").write_text("rows")
        digests.append(write_manifest(out, "whole", {}, {}, {}, duration_s=wait_s).digest)
    assert digests[0] == digests[1]


def test_an_output_with_a_user_file_is_not_replaced(tmp_path):
    out = tmp_path / "out"

    def write(draft: Draft) -> None:
        (draft.directory / "made.txt").write_text("made")

    write_once(out, "stage", {"setting": 1}, {}, write)
    (out / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match=r"out/notes\.txt: in the way of an output"):
        check_output(out)
    (out / "notes.txt").unlink()
    check_output(out)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_directory_not_made_by_raykd_is_refused_as_output(tmp_path, kind):
    mine = tmp_path / "out" / "mine.txt" if kind == "folder" else tmp_path / "out"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")

    with pytest.raises(InputError, match="in the way of an output of that name, and not made by"):
        check_output(tmp_path / "out")
    assert mine.read_text() == "mine"


def test_an_unwritable_output_is_refused():
    with pytest.raises(InputError, match=r"--out /proc/found: nothing can be written there"):
        check_output(Path("/proc/found"))


def test_an_output_written_by_another_process_is_kept(tmp_path):
    out = tmp_path / "out"
    with commit(out, "greet", {}, {"who": "world"}) as draft:
        (draft.directory / "hello.txt").write_text("hello")
        draft.counts["num_words"] = 1
        write_hello(out, {}, [])
        there = out.stat().st_ino
    assert out.stat().st_ino == there
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_damaged_output_is_replaced(tmp_path):
    out = tmp_path / "out"
    with commit(out, "greet", {}, {"who": "world"}) as draft:
        (draft.directory / "hello.txt").write_text("hello")
        write_hello(out, {}, [])
        (out / "hello.txt").write_text("jello")
    assert (out / "hello.txt").read_text() == "hello"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
