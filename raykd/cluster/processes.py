"""Processes of a Ray that raykd started: recorded, so that the next start ends what is left.

A driver that is killed cannot end its Ray. Most of Ray's processes end with it, but its agents live
on for up to a minute. Each driver records the ids and start times of its Ray's processes in a file
that only its user can read; a process is ended only if both still agree, so never one that got the
id later. Linux only: elsewhere nothing is recorded.
"""

import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raykd.storage.checked_json import from_checked_json, to_checked_json
from raykd.storage.working_files import write_atomically

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys" / "kernel" / "random" / "boot_id"
# Fields of /proc/ID/stat after the command in parentheses: parent, and start in ticks since boot.
_PARENT, _START = 1, 19


@contextmanager
def recorded(folder: Path | None) -> Iterator[None]:
    """Record this process, and those below it that start in the block.

    Args:
        folder: of the records, see `records_folder`; None to record nothing.
    """
    own = os.getpid()
    before = set(_processes_below(own))
    yield
    if folder is None or (started := _start_of(own)) is None:
        return
    new = {process: _start_of(process) for process in _processes_below(own)}
    values = {
        "boot": _boot(),
        "driver": [own, started],
        "processes": [
            [process, start]
            for process, start in new.items()
            if start is not None and process not in before
        ],
    }
    write_atomically(folder / f"{own}.json", to_checked_json(values))


def end_leftovers(folder: Path) -> int:
    """End the recorded processes whose driver is gone; returns their number."""
    num_ended = 0
    for path in folder.glob("*.json"):
        values = from_checked_json(path.read_bytes())
        if values is not None and values["boot"] == _boot():
            if _is_running(*values["driver"]):
                continue
            for process, start in values["processes"]:
                if _is_running(process, start):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(process, signal.SIGKILL)
                        num_ended += 1
        path.unlink(missing_ok=True)
    return num_ended


def records_folder() -> Path | None:
    """The folder of this user's records on this machine; None where another user owns it."""
    folder = Path(tempfile.gettempdir()) / f"raykd-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None
    is_private = facts.st_uid == os.getuid() and not facts.st_mode & 0o077
    return folder if is_private and stat.S_ISDIR(facts.st_mode) else None


def _processes_below(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        if fields := _fields_of(int(entry.name)):
            children.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _is_running(process: int, start: int) -> bool:
    return _start_of(process) == start


def _start_of(process: int) -> int | None:
    fields = _fields_of(process)
    # A zombie has ended; its parent has not asked for it yet.
    return int(fields[_START]) if fields and fields[0] != "Z" else None


def _fields_of(process: int) -> list[str]:
    try:
        return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
