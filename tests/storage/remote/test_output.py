"""Outputs at URLs: commit, resume on other machines, leases and faults, against an S3 server."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from object_store import SECRET, FaultyProxy
from pyarrow import fs

from raykd.errors import InputError
from raykd.storage.manifest import finished, read_manifest, stage_key, write_once
from raykd.storage.remote.output import local_folder, manifests_at, output_at, url_of

pytestmark = pytest.mark.usefixtures("environment", "store")


@pytest.fixture
def url(request):
    return f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}/run"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Return a function that continues on another machine: with another cache."""

    def change(name):
        monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / name))

    change("first machine")
    return change


def write(out, name, text, calls=None):
    """Write a stage of one file, unless it is complete."""

    def write_file(draft):
        (draft.directory / "part").mkdir()
        (draft.directory / "part" / "text.txt").write_text(text)
        if calls is not None:
            calls.append(name)

    return write_once(out / name, name, {"text": text}, {}, write_file)


def names_in(store, url):
    """Names of all objects of an output, without the folders that pyarrow leaves."""
    key = url.removeprefix("s3://")
    infos = store.get_file_info(fs.FileSelector(key, recursive=True, allow_not_found=True))
    return sorted(i.path.removeprefix(f"{key}/") for i in infos if i.type == fs.FileType.File)


def content_of(store, url, name):
    with store.open_input_stream(f"{url.removeprefix('s3://')}/{name}", compression=None) as file:
        return file.read()


def put(store, url, name, content):
    path = f"{url.removeprefix('s3://')}/{name}"
    with store.open_output_stream(path, compression=None) as file:
        file.write(content)


def test_the_store_has_the_layout_of_the_disk(store, url):
    with output_at(Path(url)) as out:
        write(out, "task", "a")
        write(out, "teacher", "b")
        (out / "report.html").write_text("page")
    assert names_in(store, url) == [
        "_raykd/output.json",
        "report.html",
        "task/manifest.json",
        "task/part/text.txt",
        "teacher/manifest.json",
        "teacher/part/text.txt",
    ]
    assert content_of(store, url, "teacher/part/text.txt") == b"b"


def test_another_machine_skips_what_is_complete(store, url, machine):
    calls = []
    with output_at(Path(url)) as out:
        write(out, "task", "a", calls)
    before = content_of(store, url, "task/manifest.json")
    machine("second machine")
    with output_at(Path(url)) as out:
        write(out, "task", "a", calls)
        write(out, "teacher", "b", calls)
    assert calls == ["task", "teacher"]
    assert content_of(store, url, "task/manifest.json") == before
    machine("first machine")
    with output_at(Path(url)) as out:
        write(out, "teacher", "b", calls)
    assert calls == ["task", "teacher"]


def test_a_changed_stage_replaces_the_objects_of_the_old_one(store, url, machine):
    def write_files(names):
        def write_them(draft):
            for name in names:
                (draft.directory / name).write_text(name)

        return write_them

    for names in (["a", "b"], ["b", "c"]):
        machine(f"machine {names}")
        with output_at(Path(url)) as out:
            write_once(out / "task", "task", {"names": names}, {}, write_files(names))
    assert names_in(store, url) == [
        "_raykd/output.json",
        "task/b",
        "task/c",
        "task/manifest.json",
    ]


def test_intermediate_results_are_kept_until_they_are_removed(store, url, machine):
    with pytest.raises(InputError, match="interrupted"), output_at(Path(url)) as out:
        write(out.parent, f".{out.name}.parts/shard-0", "hits")
        raise InputError("interrupted")
    assert "_raykd/work/.run.parts/shard-0/manifest.json" in names_in(store, url)
    machine("second machine")
    calls = []
    with output_at(Path(url)) as out:
        write(out.parent, f".{out.name}.parts/shard-0", "hits", calls)
        for path in sorted((out.parent / f".{out.name}.parts").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert calls == []
    assert names_in(store, url) == ["_raykd/output.json"]


def test_work_that_was_not_copied_yet_is_resumed_on_the_same_machine(store, url, monkeypatch):
    calls = []
    with pytest.raises(KeyboardInterrupt), output_at(Path(url)) as out:
        write(out, "task", "a", calls)
        raise KeyboardInterrupt
    assert "task/manifest.json" not in names_in(store, url)
    with output_at(Path(url)) as out:
        write(out, "task", "a", calls)
    assert calls == ["task"]
    assert "task/manifest.json" in names_in(store, url)


def test_files_that_were_deleted_from_the_cache_are_copied_again(store, url):
    with output_at(Path(url)) as out:
        write(out, "task", "a")
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    calls = []
    with output_at(Path(url)) as out:
        write(out, "task", "a", calls)
    assert calls == []
    assert "task/manifest.json" in names_in(store, url)


@pytest.mark.parametrize("damage", ["other bytes", "shorter", "missing", "manifest"])
def test_damage_in_the_store_makes_the_stage_run_again(store, url, machine, damage):
    with output_at(Path(url)) as out:
        write(out, "task", "abc")
        write(out, "teacher", "d")
    if damage == "missing":
        store.delete_file(f"{url.removeprefix('s3://')}/task/part/text.txt")
    elif damage == "manifest":
        put(store, url, "task/manifest.json", b'{"stage": "task"')
    else:
        put(store, url, "task/part/text.txt", b"xyz" if damage == "other bytes" else b"ab")
    machine("second machine")
    calls = []
    with output_at(Path(url)) as out:
        write(out, "task", "abc", calls)
        write(out, "teacher", "d", calls)
    assert calls == ["task"]
    machine("third machine")
    assert (local_folder(f"{url}/task") / "part" / "text.txt").read_text() == "abc"


CHILD = """
    import os, signal, sys, time
    from pathlib import Path
    from raykd.storage.manifest import write_once
    from raykd.storage.remote.objects import Objects
    from raykd.storage.remote.output import output_at

    url, moment = sys.argv[1:]
    count = 0

    def counted(function):
        def call(self, name, *rest):
            global count
            if not name.startswith("_raykd/leases"):
                if count == int(moment):
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
            return function(self, name, *rest)
        return call

    Objects.write = counted(Objects.write)
    Objects.write_file = counted(Objects.write_file)

    def write(draft):
        for number in range(3):
            (draft.directory / f"part-{number}").write_text(str(number) * 100)

    with output_at(Path(url)) as out:
        write_once(out / "units", "units", {}, {}, write)
        (out / "report.html").write_text("page")
    print("complete")
"""


def in_child(url, moment, cache):
    environment = os.environ | {"RAYKD_CACHE": str(cache)}
    code = textwrap.dedent(CHILD)
    return subprocess.run(
        [sys.executable, "-c", code, url, str(moment)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("moment", range(7))
def test_a_command_killed_at_any_write_is_resumed_on_another_machine(
    store, url, machine, tmp_path, moment
):
    # State, state with the names of the files, page, three files, manifest.
    killed = in_child(url, moment, tmp_path / "first machine")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert manifests_at(url) == {}
    resumed = in_child(url, 1000, tmp_path / "second machine")
    assert "complete" in resumed.stdout, resumed.stderr
    assert names_in(store, url) == [
        "_raykd/output.json",
        "report.html",
        "units/manifest.json",
        "units/part-0",
        "units/part-1",
        "units/part-2",
    ]
    folder = local_folder(f"{url}/units")
    assert (folder / "part-2").read_text() == "2" * 100
    assert finished(folder, stage_key("units", {}, {})) is not None


def test_remains_of_a_killed_command_are_removed_by_one_with_other_settings(
    store, url, machine, tmp_path
):
    killed = in_child(url, 6, tmp_path / "first machine")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [name for name in names_in(store, url) if name.startswith("units/")]
    machine("second machine")
    with output_at(Path(url)) as out:
        write(out, "task", "a")
    assert [name for name in names_in(store, url) if name.startswith("units/")] == []


def test_a_second_command_is_refused_while_the_first_runs(store, url, machine):
    with output_at(Path(url)) as out:
        write(out, "task", "a")
        machine("second machine")
        with (
            pytest.raises(InputError, match=rf"{url}: in use by .*process {os.getpid()} on .*"),
            output_at(Path(url)),
        ):
            pass
        assert len([n for n in names_in(store, url) if n.startswith("_raykd/leases")]) == 1
    with output_at(Path(url)) as out:
        assert read_manifest(out / "task") is not None


def lease_of(seconds_ago, process, **owner):
    return json.dumps({"machine": "elsewhere", "process": process, "seconds": 120, **owner})


def test_a_lease_of_another_machine_blocks_until_it_ends(store, url, monkeypatch):
    put(store, url, "_raykd/leases/other.json", lease_of(0, 1).encode())
    with (
        pytest.raises(InputError, match=r"process 1 on elsewhere.*remove s3://.*/other\.json"),
        output_at(Path(url)),
    ):
        pass
    monkeypatch.setattr("raykd.storage.remote.lease.LEASE_SECONDS", 1)
    time.sleep(2.5)
    with output_at(Path(url)) as out:
        write(out, "task", "a")
    assert "_raykd/leases/other.json" not in names_in(store, url)


def test_a_command_whose_lease_was_taken_writes_nothing_more(store, url):
    message = "another command took over"
    with pytest.raises(InputError, match=message), output_at(Path(url)) as out:
        for name in names_in(store, url):
            if name.startswith("_raykd/leases"):
                store.delete_file(f"{url.removeprefix('s3://')}/{name}")
        write(out, "task", "a")
    assert "task/manifest.json" not in names_in(store, url)


def test_objects_that_raykd_did_not_write_are_never_replaced(store, url):
    put(store, url, "thesis.docx", b"years of work")
    with (
        pytest.raises(InputError, match=r"not made by raykd \(it has thesis\.docx"),
        output_at(Path(url)),
    ):
        pass
    assert names_in(store, url) == ["thesis.docx"]


def test_an_object_next_to_the_outputs_is_left_alone(store, url, machine):
    with output_at(Path(url)) as out:
        write(out, "task", "a")
    put(store, url, "notes.txt", b"mine")
    put(store, url, "task/notes.txt", b"mine too")
    machine("second machine")
    with output_at(Path(url)) as out:
        write(out, "task", "b")
    assert content_of(store, url, "notes.txt") == b"mine"
    assert content_of(store, url, "task/notes.txt") == b"mine too"


def test_a_manifest_with_names_outside_of_the_output_is_not_copied(store, url, machine, tmp_path):
    with output_at(Path(url)) as out:
        write(out, "task", "a")
    values = json.loads(content_of(store, url, "task/manifest.json"))
    from raykd.storage.checked_json import to_checked_json

    record = values["outputs"].pop("part/text.txt")
    values["outputs"]["../../../escaped"] = record
    values.pop("checksum")
    put(store, url, "task/manifest.json", to_checked_json(values).encode())
    machine("second machine")
    with output_at(Path(url)) as out:
        assert not (out / "task").exists()
    assert list(tmp_path.rglob("escaped")) == []


@pytest.fixture
def proxy(server, monkeypatch):
    proxy = FaultyProxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.address}")
    yield proxy
    proxy.close()


@pytest.mark.parametrize(
    "fault", [(503, "SlowDown"), (500, "InternalError"), "cut"], ids=["503", "500", "cut"]
)
def test_faults_that_pass_do_not_change_the_output(store, url, proxy, machine, fault):
    seen = set()

    def first_time(line):
        is_new = line not in seen and line.startswith("PUT") and "text.txt" in line
        seen.add(line)
        return fault if is_new else None

    proxy.fault = first_time
    with output_at(Path(url)) as out:
        write(out, "task", "a" * 100_000)
    assert [line for line in seen if "text.txt" in line]
    machine("second machine")
    assert (local_folder(f"{url}/task") / "part/text.txt").read_text() == "a" * 100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((503, "SlowDown"), "refuses requests at this rate"),
        ((500, "InternalError"), "did not write it|does not answer"),
        ((403, "AccessDenied"), "access is refused; set AWS_ACCESS_KEY_ID"),
        ("cut", "does not answer"),
    ],
    ids=["503", "500", "403", "cut"],
)
def test_faults_that_stay_end_the_command_and_keep_its_results(
    store, url, proxy, monkeypatch, fault, message
):
    monkeypatch.setattr("raykd.storage.remote.objects._PAUSES_S", (0.1,))
    proxy.fault = lambda line: fault if line.startswith("PUT") and "text.txt" in line else None
    with pytest.raises(InputError, match=message) as error, output_at(Path(url)) as out:
        write(out, "task", "a" * 100_000)
    assert "the same command copies the rest" in str(error.value)
    assert SECRET not in str(error.value)
    assert manifests_at(url) == {}
    proxy.fault = lambda line: None
    calls = []
    with output_at(Path(url)) as out:
        write(out, "task", "a" * 100_000, calls)
    assert calls == []
    assert list(manifests_at(url)) == ["task/manifest.json"]


def test_a_missing_bucket_is_reported_before_any_work(tmp_path):
    with pytest.raises(InputError, match="no bucket 'nowhere'"), output_at(Path("s3://nowhere/a")):
        raise AssertionError


def test_a_url_is_recognized_after_pathlib_changed_it():
    assert url_of(Path("s3://bucket/run?region=eu-west-1")) == "s3://bucket/run?region=eu-west-1"
    assert url_of("gs://bucket") == "gs://bucket"
    options = (
        "s3://b/k?region=x&endpoint_override=http://h:1",
        "az://b?endpoint_override=https://h",
    )
    for url in options:
        assert url_of(Path(url)) == url
    assert url_of(Path("runs/s3")) is None
    assert url_of(Path("/s3:/x")) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/run", "unknown; known are s3://, gs://, az://, abfss:// and paths"),
        ("abfss://container@account/run", "write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net"),
        (f"hf://datasets/a/b@{'0' * 40}/run", "datasets of the hub are only read"),
    ],
)
def test_stores_that_cannot_be_written_are_refused(url, message):
    with pytest.raises(InputError, match=message), output_at(Path(url)):
        raise AssertionError
