"""Findings of `raykd doctor`: facts of machines and clusters, judged, each with a remedy."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import requires, version
from typing import Any, Literal

from packaging.requirements import Requirement

from raykd.cluster.dashboard import Head, check_access, find_token, get, requires_token
from raykd.errors import InputError
from raykd.storage.locations import location_of
from raykd.storage.probe import probe_storage

Level = Literal["ok", "note", "fault"]

_MIN_PYTHON = (3, 11)
_MIN_DISK_BYTES = 2 << 30
_LITTLE_DISK_BYTES = 20 << 30
_MIN_SHARED_MEMORY_BYTES = 1 << 30
# Object stores refuse requests of clocks that differ by 15 minutes.
_MAX_CLOCK_DIFFERENCE_S = 60.0


@dataclass(frozen=True)
class Finding:
    """Result of one check; notes and faults have a remedy."""

    subject: str
    level: Level
    text: str
    remedy: str | None = None


def machine_findings(facts: Mapping[str, Any], where: str, own_clock_s: float) -> list[Finding]:
    """Judge the facts of one machine, see `node_facts.facts_of_machine`.

    Args:
        facts: facts of the machine.
        where: name of the machine, for the findings.
        own_clock_s: this machine's clock when the facts were collected.
    """
    if problem := facts.get("problem"):
        return [Finding(where, "fault", str(problem), "see the log of the node: ray logs")]
    findings = [
        _python(facts["python"], where),
        *_packages(facts["versions"], where),
        _disk(facts["disk"][0], facts["disk"][1], where),
        _shared_memory(facts["shared_memory"], where),
        _gpus(facts, where),
    ]
    difference_s = facts["clock_s"] - own_clock_s
    # The facts of a cluster are minutes old at most, and never from the future.
    if difference_s > _MAX_CLOCK_DIFFERENCE_S:
        findings.append(_clock(where, difference_s))
    if problem := facts.get("storage_problem"):
        remedy = "give every node access: an instance profile, a service account, or a mount"
        findings.append(Finding(f"{where}: storage", "fault", str(problem), remedy))
    elif "storage_problem" in facts:
        findings.append(Finding(f"{where}: storage", "ok", "write, read, list and delete work"))
    return findings


def storage_finding(out: str) -> Finding:
    """Probe a place for outputs from this machine."""
    subject = f"storage {out}"
    try:
        probe_storage(location_of(out, to_write=True))
    except (InputError, OSError) as error:
        return Finding(subject, "fault", str(error), "correct --out, or its credentials")
    return Finding(subject, "ok", "write, read, list and delete work")


def token_finding() -> Finding:
    """Report the token that jobs are sent with."""
    try:
        token = find_token()
    except InputError as error:
        return Finding("token", "fault", str(error), "correct RAY_AUTH_TOKEN_PATH")
    if token is None:
        remedy = "ray get-auth-token --generate, then copy it to the head"
        return Finding("token", "note", "none found", remedy)
    return Finding("token", "ok", f"found in {token[1]}")


def head_findings(head: Head) -> list[Finding]:
    """Judge the dashboard of a head: access, version of Ray, clock."""
    subject = f"dashboard {head.url}"
    try:
        notes = check_access(head)
        has_token = requires_token(head)
        answer = get(head, "/api/version")
    except InputError as error:
        return [Finding(subject, "fault", str(error), "see above")]
    findings = [
        Finding(subject, "note", note, "ray dashboard cluster.yaml opens a tunnel")
        for note in notes
    ]
    if has_token:
        findings.append(Finding(subject, "ok", "answers, and requires the token"))
    else:
        remedy = "start the head with RAY_AUTH_MODE=token"
        text = "answers without a token: every user of this machine can run code there"
        findings.append(Finding(subject, "note", text, remedy))
    if match := re.search(rb'"ray_version":\s*"([^"]+)"', answer.body):
        findings.append(_version("ray", match[1].decode(), "head"))
    if answer.clock_s is not None:
        findings.append(_clock("head", answer.clock_s - time.time()))
    return findings


def _clock(where: str, difference_s: float) -> Finding:
    text = f"differs from this machine's by {abs(difference_s):.0f} s"
    if abs(difference_s) <= _MAX_CLOCK_DIFFERENCE_S:
        return Finding(f"{where}: clock", "ok", text)
    remedy = "synchronize the clocks (chrony, or timedatectl set-ntp true)"
    return Finding(f"{where}: clock", "fault", text, remedy)


def _python(found: str, where: str) -> Finding:
    subject = f"{where}: Python"
    if tuple(map(int, found.split(".")[:2])) < _MIN_PYTHON:
        return Finding(subject, "fault", found, "use an image with Python 3.11 or newer")
    own = ".".join(map(str, sys.version_info[:2]))
    if not found.startswith(f"{own}."):
        return Finding(
            subject,
            "note",
            f"{found}, here {own}",
            "jobs work; functions sent from here by ray:// do not",
        )
    return Finding(subject, "ok", found)


def _packages(versions: Mapping[str, str | None], where: str) -> list[Finding]:
    return [
        _version(name, found, where)
        for name, found in versions.items()
        if name in ("raykd", "ray", "torch", "pyarrow")
    ]


def _version(name: str, found: str | None, where: str) -> Finding:
    """Judge the version of a package against this raykd and its requirements."""
    subject = f"{where}: {name}"
    own = version("raykd")
    if name == "raykd":
        if found is None:
            return Finding(subject, "note", "not installed", "raykd submit installs it by pip")
        if found != own:
            remedy = f"install raykd=={own} there, or submit with --raykd pip or --raykd WHEEL"
            return Finding(subject, "fault", f"{found}, here {own}", remedy)
        return Finding(subject, "ok", found)
    wanted = _requirement(name)
    if found is None:
        remedy = "raykd submit installs it by pip; an image that has it starts faster"
        return Finding(subject, "note", "not installed", remedy)
    if not wanted.specifier.contains(found, prereleases=True):
        remedy = f"install {name}{wanted.specifier} there"
        return Finding(subject, "fault", f"{found}, raykd needs {wanted.specifier}", remedy)
    return Finding(subject, "ok", found)


def _requirement(name: str) -> Requirement:
    parsed: Sequence[Requirement] = [Requirement(text) for text in requires("raykd") or ()]
    return next(one for one in parsed if one.name == name and one.marker is None)


def _disk(folder: str, free_bytes: int, where: str) -> Finding:
    subject, text = f"{where}: disk", f"{free_bytes / 1e9:,.1f} GB free in {folder}"
    remedy = "free some space, or set TMPDIR and RAY_TMPDIR to a larger disk"
    if free_bytes < _MIN_DISK_BYTES:
        return Finding(subject, "fault", text, remedy)
    if free_bytes < _LITTLE_DISK_BYTES:
        return Finding(subject, "note", text, remedy)
    return Finding(subject, "ok", text)


def _shared_memory(num_bytes: int | None, where: str) -> Finding:
    subject = f"{where}: /dev/shm"
    remedy = "start the container with --shm-size=30% of the memory (Ray's objects are there)"
    if num_bytes is None:
        return Finding(subject, "note", "missing: Ray keeps its objects on the disk", remedy)
    level: Level = "fault" if num_bytes < _MIN_SHARED_MEMORY_BYTES else "ok"
    text = f"{num_bytes / 1e9:,.1f} GB"
    return Finding(subject, level, text, remedy if level == "fault" else None)


def _gpus(facts: Mapping[str, Any], where: str) -> Finding:
    subject, seen = f"{where}: GPUs", facts["torch_gpus"]
    num_wanted = facts.get("ray_gpus", facts["gpu_devices"])
    if isinstance(seen, str) or seen < num_wanted:
        remedy = "use an image whose CUDA fits the driver and torch (constraints.txt)"
        return Finding(subject, "fault", f"{num_wanted:g} present, torch: {seen}", remedy)
    return Finding(subject, "ok", f"{seen} seen by torch" if seen else "none")
