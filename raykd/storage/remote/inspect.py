"""Temporary local copies of outputs at URLs, as they are in the store, for inspection."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from raykd.errors import InputError
from raykd.storage.locations import Remote, location_of
from raykd.storage.manifest import FILE_NAME
from raykd.storage.remote.contents import INTERNAL, WORK, is_confined
from raykd.storage.remote.objects import Objects

# Small files by which a run describes its state; everything else is named by a manifest.
_RECORDS = (".json", ".yaml", ".journal")


@contextmanager
def records_at(reference: str) -> Iterator[Path]:
    """Yield a folder with the manifests and the small records of an output, but not its data.

    Args:
        reference: path, which is yielded unchanged, or URL.

    Raises:
        InputError: the store cannot be read, or has nothing there.
    """
    with _copied(reference, lambda name: PurePosixPath(name).suffix in _RECORDS) as folder:
        yield folder


@contextmanager
def everything_at(reference: str) -> Iterator[Path]:
    """Yield a folder with all objects of an output, damaged ones too; otherwise like `records_at`.

    Needs free space for the whole output in the temporary folder (TMPDIR).
    """
    with _copied(reference, lambda name: True) as folder:
        yield folder


@contextmanager
def _copied(reference: str, is_wanted: Callable[[str], bool]) -> Iterator[Path]:
    remote = location_of(reference)
    if not isinstance(remote, Remote):
        yield Path(reference)
        return
    objects = Objects(remote)
    names = [name for name in objects.listing() if _is_output(name) and is_wanted(name)]
    if not any(PurePosixPath(name).name == FILE_NAME for name in names):
        raise InputError(
            f"{remote}: no output of raykd there (no {FILE_NAME}); correct the URL, or wait until "
            "the command that writes it has completed its first stage"
        )
    parent = Path(tempfile.mkdtemp(prefix="raykd-"))
    try:
        out = parent / "output"

        def copy(name: str) -> None:
            below_work = name.removeprefix(f"{WORK}/")
            path = parent / below_work if below_work != name else out / name
            objects.read_file(name, path)

        objects.for_each(copy, names)
        yield out
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _is_output(name: str) -> bool:
    is_internal = name.startswith(f"{INTERNAL}/") and not name.startswith(f"{WORK}/")
    return is_confined(name) and not is_internal
