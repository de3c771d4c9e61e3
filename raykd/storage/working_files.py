"""Partial files and folders: written under a hidden name, and renamed when they are complete."""

import errno
import glob
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raykd.errors import InputError

# What is kept next to an incomplete output.
_PARTS = ("parts", "units", "embeddings", "rows")

# In messages of libraries written in Rust, and of `shutil.copytree`.
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
_COPY_ERROR = re.compile(r"\[Errno (\d+)\]")


def write_atomically(path: Path, text: str) -> None:
    """Replace a small text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if the block ends without an error."""
    partial = partial_of(path)
    try:
        with naming(path):
            yield partial
            sync(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_if_new(path: Path, text: str) -> None:
    """Call `write_atomically` unless the file already has this content."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)


def sweep(directory: Path, pattern: str = "**/.*.partial-*") -> None:
    """Remove partial outputs of ended processes of this machine below a directory.

    Args:
        directory: directory to search.
        pattern: pattern of partial outputs, relative to the directory.
    """
    ending = re.compile(rf"\.partial-{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}$")
    for path in list(directory.glob(pattern)):
        match = ending.search(path.name)
        if match and not is_alive(int(match[1])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def discard(directory: Path) -> None:
    """Remove an output atomically: it never exists in part."""
    outdated = partial_of(directory)
    with suppress(FileNotFoundError):
        directory.rename(outdated)
    shutil.rmtree(outdated, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Translate disk errors of all libraries to an OSError with a file name."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # Another error may quote one of a disk: that of a task, or of another machine.
        pattern = _COPY_ERROR if isinstance(error, shutil.Error) else _RUST_ERROR
        if number is None and (match := pattern.search(str(error))):
            number = int(match[1])
        if number is None or getattr(error, "filename", None):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def is_partial(path: Path, directory: Path) -> bool:
    """Check whether a path below a directory is, or is in, a partial output."""
    parts = path.relative_to(directory).parts
    return any(part.startswith(".") and ".partial-" in part for part in parts)


def files_below(folder: Path) -> Iterator[Path]:
    """List the files below a folder, except partial ones, locks and links."""
    for directory, folders, files in os.walk(folder):
        here = Path(directory)
        folders[:] = [name for name in folders if not is_partial(here / name, folder)]
        for name in files:
            path = here / name
            if not (name.endswith(".lock") or is_partial(path, folder) or path.is_symlink()):
                yield path


def partial_of(final: Path) -> Path:
    """Make a path next to the final one that is unique across processes and machines."""
    owner = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return final.with_name(f".{final.name}.partial-{owner}")


def is_alive(process_id: int) -> bool:
    """Check whether a process of this machine is alive."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def renamed(partial: Path, directory: Path) -> bool:
    """Rename a directory atomically; return False if the target exists."""
    try:
        partial.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def working_directory(out: Path, name: str) -> Path:
    """Hidden directory next to `out` for intermediate results of an incomplete output."""
    out = out.absolute()
    return out.with_name(f".{out.name}.{name}")


def discard_parts(out: Path) -> None:
    """Remove the intermediate results of an output."""
    for name in _PARTS:
        shutil.rmtree(working_directory(out, name), ignore_errors=True)


def sweep_parts(out: Path) -> None:
    """Remove partial files of killed processes, which may be as large as the output."""
    for name in _PARTS:
        sweep(working_directory(out, name))
    out = out.absolute()
    sweep(out.parent, f".{glob.escape(out.name)}.partial-*")
