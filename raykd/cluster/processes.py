"""Record of the processes of a Ray that raykd started, so that the next start can end leftovers.

A killed driver cannot shut down its Ray. Most of Ray's processes end with the driver, but its
agents run for up to another minute. Each driver records the ids and start times of its Ray's
processes in a file that only its user can read. A process is ended only if both still match, so
that a reused id is never mistaken for it. Linux only: nothing is recorded on other systems.
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
    """Record this process and its descendants that start inside the block.

    Args:
        folder: folder of the records, see `records_folder`; None to record nothing.
    """
    own = os.getpid()
    before = set(_descendants(own))
    yield
    if folder is None or (started := _start_ticks(own)) is None:
        return
    new = {process: _start_ticks(process) for process in _descendants(own)}
    values = {
        "boot": _boot_id(),
        "driver": [own, started],
        "processes": [
            [process, start]
            for process, start in new.items()
            if start is not None and process not in before
        ],
    }
    write_atomically(folder / f"{own}.json", to_checked_json(values))


def end_leftovers(folder: Path) -> int:
    """End the recorded processes whose driver has ended, and return their number."""
    num_ended = 0
    for path in folder.glob("*.json"):
        values = from_checked_json(path.read_bytes())
        if values is not None and values["boot"] == _boot_id():
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
    """Return this user's folder of records on this machine; None if another user owns it."""
    folder = Path(tempfile.gettempdir()) / f"raykd-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None
    is_private = facts.st_uid == os.getuid() and not facts.st_mode & 0o077
    return folder if is_private and stat.S_ISDIR(facts.st_mode) else None


def _descendants(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        if fields := _stat_fields(int(entry.name)):
            children.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    descendants: list[int] = []
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        descendants += below
        waiting += below
    return descendants


def _is_running(process: int, start: int) -> bool:
    return _start_ticks(process) == start


def _start_ticks(process: int) -> int | None:
    fields = _stat_fields(process)
    # "Z": a zombie has ended, but its parent has not collected it yet.
    return int(fields[_START]) if fields and fields[0] != "Z" else None


def _stat_fields(process: int) -> list[str]:
    try:
        return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
