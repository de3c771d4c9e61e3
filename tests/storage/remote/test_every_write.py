"""Outputs at URLs whose writes fail at any one request: the same command completes them."""

import json
import shutil
from pathlib import Path

import pytest
from object_store import FaultyProxy
from pyarrow import fs

from raykd.errors import InputError
from raykd.storage.manifest import write_once
from raykd.storage.remote.output import local_folder, output_at

pytestmark = pytest.mark.usefixtures("environment", "store")

WRITES = ("PUT", "DELETE", "POST")
STAGES = {"task": ["rows"], "units": ["a", "b", "c"], "teacher": ["weights"]}


def run(url, top_k, *, is_interrupted=False):
    """Write three stages, intermediate results, and a page; a stage depends on `top_k`."""

    def writing(names):
        def write(draft):
            for name in names:
                (draft.directory / name).write_text(f"{name} {top_k}" * 50)

        return write

    with output_at(Path(url)) as out:
        parts = out.parent / f".{out.name}.parts"
        for stage, names in STAGES.items():
            write_once(parts / stage, "part", {"top_k": top_k}, {}, writing(names))
            write_once(out / stage, stage, {"top_k": top_k}, {}, writing(names))
        (out / "report.html").write_text(f"page {top_k}")
        if is_interrupted:
            raise InputError("interrupted")
        shutil.rmtree(parts)


def objects_of(store, url):
    """Objects of an output with their contents, without times and the state of the session."""
    key = url.removeprefix("s3://")
    infos = store.get_file_info(fs.FileSelector(key, recursive=True, allow_not_found=True))
    found = {}
    for info in infos:
        if info.type == fs.FileType.File:
            with store.open_input_stream(info.path, compression=None) as stream:
                content = stream.read()
            if info.path.endswith(".json"):
                values = json.loads(content)
                ignored = ("duration_s", "checksum", "session", "pending")
                content = {name: value for name, value in values.items() if name not in ignored}
            found[info.path.removeprefix(f"{key}/")] = content
    return found


@pytest.fixture
def proxy(server, monkeypatch):
    proxy = FaultyProxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.address}")
    yield proxy
    proxy.close()


class Refusal:
    """Refusal of the n-th write, or also of all later ones; leases are not refused."""

    def __init__(self, number, *, is_only):
        self.number, self.is_only, self.count = number, is_only, 0

    def __call__(self, line):
        if not line.startswith(WRITES) or "_raykd/leases" in line:
            return None
        self.count += 1
        is_refused = self.count == self.number or (self.count > self.number and not self.is_only)
        return (403, "AccessDenied") if is_refused else None


def sweep(store, proxy, machine, name, *, is_only):
    """Refuse each write of a changed run in turn; return how many there are."""
    expected_url = f"s3://bucket/{name}/expected/run"
    machine(f"{name} expected")
    run(expected_url, 2)
    expected = objects_of(store, expected_url)
    number = 0
    while True:
        number += 1
        url = f"s3://bucket/{name}/{number}/run"
        machine(f"{name} {number}")
        # What it replaces: a run of other settings that was interrupted.
        with pytest.raises(InputError, match="interrupted"):
            run(url, 1, is_interrupted=True)
        refusal = proxy.fault = Refusal(number, is_only=is_only)
        try:
            run(url, 2)
            message = None
        except InputError as error:
            message = str(error)
        proxy.fault = lambda line: None
        if refusal.count < number:
            assert message is None
            assert objects_of(store, url) == expected
            return number - 1
        assert message is not None, number
        assert "access is refused" in message
        # Whatever the store has now is whole or counts as missing.
        machine(f"{name} {number} reader")
        for stage, files in STAGES.items():
            try:
                folder = local_folder(f"{url}/{stage}")
            except InputError:
                continue
            texts = {(folder / file).read_text() for file in files}
            assert texts in [{f"{f} {top_k}" * 50 for f in files} for top_k in (1, 2)]
        if number % 2:
            machine(f"{name} {number}")
        run(url, 2)
        assert objects_of(store, url) == expected, number


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return lambda name: monkeypatch.setenv("RAYKD_CACHE", str(tmp_path / name))


@pytest.mark.parametrize("is_only", [True, False], ids=["one", "all later ones"])
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_a_refused_write_at_any_request_is_resumed_here_and_elsewhere(
    store, proxy, machine, is_only
):
    assert sweep(store, proxy, machine, f"every-write-{is_only}", is_only=is_only) > 20


def test_a_command_whose_lease_cannot_be_written_does_no_work(store, proxy, machine):
    machine("first")
    proxy.fault = lambda line: (403, "AccessDenied") if "_raykd/leases" in line else None
    with pytest.raises(InputError, match="access is refused"):
        run("s3://bucket/no-lease/run", 1)
    assert objects_of(store, "s3://bucket/no-lease/run") == {}
