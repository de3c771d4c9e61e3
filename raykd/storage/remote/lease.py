"""Lease of an output: one command at a time writes to a URL.

A command writes an object of its own into the folder `_raykd/leases` and then lists the folder. If
the list has the object of another command, it removes its own and is refused. Stores list every
object from the moment it is written, so that of two commands at least the later one sees the other.
This needs no conditional requests, which some stores lack. The holder writes its object again in
the background. Age is measured by the store's clock: a lease that was not renewed for
`LEASE_SECONDS` has ended, and so has that of a process of this machine that is no longer alive.
"""

import json
import os
import platform
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from raykd import progress
from raykd.errors import InputError
from raykd.storage.remote.objects import Objects
from raykd.storage.working_files import is_alive

LEASE_SECONDS = 120
LEASES = "_raykd/leases"
# Two commands that start at the same moment may both see the other one.
_MAX_TRIES = 3
_PAUSE_S = 1.0


class Lease:
    """Lease of the output at the root of `objects`, from `acquire` to `release`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.name = f"{LEASES}/{uuid.uuid4().hex}.json"
        self._owner = {
            "machine": platform.node(),
            "process": os.getpid(),
            "processes": _process_space(),
            "command": " ".join(["raykd", *sys.argv[1:2]]),
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "seconds": LEASE_SECONDS,
        }

    def acquire(self) -> None:
        """Acquire the lease.

        Raises:
            InputError: another command has it, or the store cannot be written.
        """
        other = None
        for number in range(_MAX_TRIES):
            self._write()
            other = self._other()
            if other is None:
                return
            self.release()
            if number + 1 < _MAX_TRIES:
                time.sleep(random.uniform(0.5, 1) * _PAUSE_S)
        raise InputError(other)

    def renew(self) -> None:
        """Write the lease again, which prolongs it.

        Raises:
            InputError: the lease was lost, see `check`.
        """
        self.check()
        self._write()

    def check(self) -> None:
        """Check that no other command has taken over.

        Raises:
            InputError: the lease was removed, by the user, or by another command after it had ended
                because this process or machine was suspended.
        """
        if self.name not in self._objects.listing(LEASES):
            raise InputError(
                f"{self._objects.root}: another command took over, or the lease "
                f"{self._objects.place(self.name)} was removed; rerun the same command when no "
                "other command writes there"
            )

    def release(self) -> None:
        """Remove the lease."""
        self._objects.delete([self.name])

    def _write(self) -> None:
        self._objects.write(self.name, json.dumps(self._owner, indent=2).encode())

    def _other(self) -> str | None:
        """Describe another command that has the lease; remove leases that have ended."""
        present = self._objects.listing(LEASES)
        own = present.get(self.name)
        if own is None:
            return f"{self._objects.place(self.name)}: was removed; rerun the same command"
        for name, info in sorted(present.items()):
            if name == self.name:
                continue
            content = self._objects.read(name)
            if content is None:
                continue  # released in the meantime
            age_s = own.changed_s - info.changed_s
            owner = _owner_of(content)
            if has_ended(owner, age_s):
                progress.say(f"{self._objects.root}: took over from {_described(owner)}")
                self._objects.delete([name])
            else:
                return self._refusal(name, owner, age_s)
        return None

    def _refusal(self, name: str, owner: dict[str, Any], age_s: float) -> str:
        return (
            f"{self._objects.root}: in use by {_described(owner)}, seen {max(0, age_s):.0f} s ago; "
            "wait for it, or choose another --out; if it was killed, its lease ends "
            f"{LEASE_SECONDS} s after it was last seen; if you are sure that it does not run, "
            f"remove {self._objects.place(name)}"
        )


def has_ended(owner: dict[str, Any], age_s: float) -> bool:
    """Check whether a lease has ended, by its age and by its process if it is of this machine."""
    if age_s > LEASE_SECONDS:
        return True
    process = owner.get("process")
    if owner.get("processes") != _process_space() or not isinstance(process, int):
        return False
    return process != os.getpid() and not is_alive(process)


def _process_space() -> str:
    """Identify the boot and the container in which this process has its number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {uuid.getnode()}"


def _owner_of(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _described(owner: dict[str, Any]) -> str:
    if not owner:
        return "another command"
    return (
        f"`{owner.get('command')}` (process {owner.get('process')} on {owner.get('machine')}, "
        f"started {owner.get('started')})"
    )
