"""Findings of `raykd doctor`, each fault with a remedy."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd
from raykd.cluster import node_facts
from raykd.errors import InputError
from raykd.operations.diagnosis import machine_findings, storage_finding
from raykd.storage.probe import probe_storage

GB = 10**9


def facts(**changes) -> dict:
    own = ".".join(map(str, sys.version_info[:3]))
    versions = {name: version(name) for name in ("raykd", "ray", "torch", "pyarrow")}
    return {
        "host": "h",
        "python": own,
        "versions": versions,
        "gpu_devices": 0,
        "torch_gpus": 0,
        "disk": ["/tmp", 100 * GB],
        "shared_memory": 8 * GB,
        "clock_s": time.time(),
    } | changes


def not_ok(**changes) -> list[tuple[str, str, str]]:
    findings = machine_findings(facts(**changes), "here", time.time())
    assert all(finding.remedy for finding in findings if finding.level != "ok")
    return [(one.subject, one.level, one.text) for one in findings if one.level != "ok"]


def test_a_sound_machine_has_no_remarks():
    assert not_ok() == []
    assert not_ok(gpu_devices=2, torch_gpus=2) == []


VERSIONS = facts()["versions"]


@pytest.mark.parametrize(
    ("changes", "subject", "level", "text"),
    [
        ({"python": "3.10.4"}, "Python", "fault", "3.10.4"),
        ({"python": "3.99.1"}, "Python", "note", "3.99.1, here"),
        ({"versions": VERSIONS | {"ray": "2.9.0"}}, "ray", "fault", "2.9.0, raykd needs"),
        ({"versions": VERSIONS | {"raykd": "0.0.1"}}, "raykd", "fault", "0.0.1, here"),
        ({"versions": VERSIONS | {"raykd": None}}, "raykd", "note", "not installed"),
        ({"versions": VERSIONS | {"torch": None}}, "torch", "note", "not installed"),
        ({"disk": ["/tmp", GB]}, "disk", "fault", "1.0 GB free in /tmp"),
        ({"disk": ["/tmp", 10 * GB]}, "disk", "note", "10.0 GB free in /tmp"),
        # The default of Docker.
        ({"shared_memory": 64 << 20}, "/dev/shm", "fault", "0.1 GB"),
        ({"shared_memory": None}, "/dev/shm", "note", "missing"),
        ({"gpu_devices": 1, "torch_gpus": 0}, "GPUs", "fault", "1 present, torch: 0"),
        ({"gpu_devices": 1, "torch_gpus": "no driver"}, "GPUs", "fault", "torch: no driver"),
        ({"ray_gpus": 4.0, "torch_gpus": 2}, "GPUs", "fault", "4 present, torch: 2"),
        ({"clock_s": time.time() + 4000}, "clock", "fault", "differs from this machine's by"),
        ({"storage_problem": "write: no"}, "storage", "fault", "write: no"),
    ],
)
def test_each_problem_is_found_alone_with_a_remedy(changes, subject, level, text):
    [(found, found_level, found_text)] = not_ok(**changes)
    assert (found, found_level) == (f"here: {subject}", level)
    assert text in found_text


def test_places_for_outputs_are_probed_without_a_trace(tmp_path):
    probe_storage(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no such directory; create it, or mount"):
        probe_storage(tmp_path / "absent" / "run")
    assert storage_finding(str(tmp_path / "run")).level == "ok"
    assert storage_finding("ftp://bucket/run").level == "fault"


def test_the_facts_of_this_machine_are_complete_and_need_neither_torch_nor_ray(tmp_path):
    found = node_facts.facts_of_machine(str(tmp_path / "run"))
    assert found.keys() == facts().keys() | {"storage_problem"}
    assert found["storage_problem"] is None
    source = Path(node_facts.__file__).read_text()
    assert "import raykd" not in source.partition("def ")[0]


def test_the_command_ends_with_1_if_there_is_a_fault(tmp_path, capsys, monkeypatch, unused_port):
    monkeypatch.setattr(node_facts, "facts_of_machine", lambda: facts())
    assert raykd(["doctor", "--out", str(tmp_path / "run"), "--json"]) == 0
    assert {one["level"] for one in json.loads(capsys.readouterr().out)} == {"ok"}
    assert raykd(["doctor", "--out", str(tmp_path / "absent" / "run")]) == 1
    assert "remedy: " in capsys.readouterr().out
    url = f"http://127.0.0.1:{unused_port}"
    assert raykd(["doctor", "--address", url]) == 1
    assert f"fault  dashboard {url}: " in capsys.readouterr().out
