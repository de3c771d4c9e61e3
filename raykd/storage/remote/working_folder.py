"""Local working folder of the output that this process writes to a URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raykd.errors import InputError
from raykd.storage.locations import Remote

# Folder of the local copies; several machines need one that all of them mount.
CACHE_VARIABLE = "RAYKD_CACHE"
# Written by each command that writes to the URL.
SESSION_FILE = ".raykd-output.json"


@dataclass(frozen=True)
class WorkingFolder:
    """Local working folder of an output at a URL.

    Attributes:
        remote: the URL.
        folder: the folder, with the output and its intermediate results.
        session: content of a file in it, by which other machines recognize that they see it.
    """

    remote: Remote
    folder: Path
    session: str

    def is_visible(self) -> bool:
        """Return whether this machine sees the folder: the command's, or one with the same disk."""
        try:
            return self.session in (self.folder / SESSION_FILE).read_text()
        except OSError:
            return False

    def check_apart(self, source: Remote) -> None:
        """Check that the output is not inside an input, and the other way round.

        Raises:
            InputError: a later run would read the output as an input.
        """
        own, other = f"{self.remote}/", f"{source}/"
        if own.startswith(other) or other.startswith(own):
            raise InputError(
                f"{source}: contains the output, {self.remote}, or is inside it; write the output "
                "elsewhere"
            )


_current: list[WorkingFolder] = []


def current() -> WorkingFolder | None:
    """Return the working folder of the output that this process writes to a URL, if any."""
    return _current[-1] if _current else None


@contextmanager
def using(folder: WorkingFolder) -> Iterator[None]:
    """Make a folder the current one in the block."""
    _current.append(folder)
    try:
        yield
    finally:
        _current.remove(folder)
