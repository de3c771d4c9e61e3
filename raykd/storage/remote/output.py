"""Outputs of commands at URLs: a local working folder that is mirrored to the store."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from raykd import progress
from raykd.errors import InputError
from raykd.storage.locations import Remote, location_of
from raykd.storage.manifest import FILE_NAME, Manifest, digest_of
from raykd.storage.remote.contents import is_confined, pull, read_contents, remove_others
from raykd.storage.remote.lease import LEASE_SECONDS, Lease
from raykd.storage.remote.mirror import Mirror
from raykd.storage.remote.objects import Objects
from raykd.storage.remote.working_folder import CACHE_VARIABLE, WorkingFolder, using

# Complete shards and checkpoints are copied to the store in this interval.
_PUSH_EVERY_S = 20.0
# pathlib joins the two slashes of a URL to one.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_SLASH_OF_OPTION = re.compile(r"=(https?):/(?!/)")


def url_of(path: str | Path) -> str | None:
    """Return the URL if a path is one, also after pathlib has changed its slashes."""
    match = _URL.fullmatch(str(path))
    if match is None:
        return None
    # Also in options, as in ?endpoint_override=http://HOST.
    rest = _SLASH_OF_OPTION.sub(r"=\1://", match[2])
    return f"{match[1]}://{rest}"


def optional_output_at(out: Path | None) -> AbstractContextManager[Path | None]:
    """Make the context manager of `output_at`; None is for a default path, which is no URL."""
    return nullcontext() if out is None else output_at(out)


@contextmanager
def output_at(out: Path) -> Iterator[Path]:
    """Yield the local path of an output: for a URL, one that is mirrored there.

    When the block ends, everything that is complete is in the store.

    Raises:
        InputError: the URL is invalid, the store cannot be written, another command writes to the
            URL, or the URL has objects that raykd did not write.
    """
    if (url := url_of(out)) is None:
        yield out
        return
    remote = _remote_of(url)
    objects = Objects(remote)
    lease = Lease(objects)
    lease.acquire()
    try:
        folder = folder_of(remote, "outputs")
        _make(folder)
        mirror = Mirror(objects, folder, name_of(remote), lease)
        mirror.start()
        try:
            with (
                using(WorkingFolder(remote, folder, mirror.session)),
                _InBackground(lease, mirror),
            ):
                yield mirror.out
        except Exception:
            with suppress(InputError):
                mirror.push()
            raise
        _push_to_end(mirror, remote)
    finally:
        with suppress(InputError):
            lease.release()


def _push_to_end(mirror: Mirror, remote: Remote) -> None:
    try:
        mirror.push()
    except InputError as error:
        raise InputError(
            f"{error}; all results are in {mirror.out}, and the same command copies the rest"
        ) from None
    progress.say(f"{remote}: all outputs are in the store (local copy: {mirror.out})")


def manifests_at(url: str) -> dict[str, Manifest]:
    """Read the manifests of complete directories at a URL, by their names below it.

    Raises:
        InputError: the store cannot be read.
    """
    return read_contents(Objects(_remote_of(url))).complete


def below(url: str, name: str) -> str:
    """URL of an object or folder below a URL; also for a path."""
    base, mark, options = url.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{options}"


def student_of(url: str) -> str:
    """URL of the student of a run; the URL of another folder is returned unchanged."""
    student = below(url, "student")
    return student if _has_manifest(_remote_of(student)) else url


def write_object(url: str, name: str, text: str) -> None:
    """Write a small text file below a URL.

    Raises:
        InputError: the store cannot be written.
    """
    Objects(_remote_of(url)).write(name, text.encode())


def local_folder(reference: str) -> Path:
    """Return a folder, after copying it from the store if the reference is a URL.

    Every file is compared with its digest; files that were copied before are not copied again.

    Args:
        reference: path; or URL of a directory that raykd wrote (one with a manifest), or of a
            folder directly in such a directory.

    Raises:
        InputError: the store cannot be read, or has no complete output there.
    """
    if (url := url_of(reference)) is None:
        return Path(reference)
    remote = _remote_of(url)
    if _has_manifest(remote):
        return _copied(remote)
    above, _, name = remote.key.rpartition("/")
    parent = replace(remote, key=above)
    if above and _has_manifest(parent) and (folder := _copied(parent) / name).is_dir():
        return folder
    raise InputError(
        f"{remote}: no output of raykd there (no {FILE_NAME}); correct the URL, or wait until the "
        "command that writes it has completed this stage"
    )


def _has_manifest(remote: Remote) -> bool:
    return Objects(remote).read(FILE_NAME) is not None


def _copied(remote: Remote) -> Path:
    objects = Objects(remote)
    folder = folder_of(remote, "copies")
    _make(folder)
    contents = read_contents(objects)
    with FileLock(folder.with_suffix(".lock")):
        kept = pull(objects, contents, lambda name: folder / name)
        if FILE_NAME not in kept:
            raise InputError(
                f"{remote}: damaged, or being written; rerun the command that writes it"
            )
        remove_others(folder, {folder / name for name in kept})
    return folder


def _remote_of(url: str) -> Remote:
    remote = location_of(url, to_write=True)
    assert isinstance(remote, Remote)
    return remote


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made a directory ({error.strerror}); set {CACHE_VARIABLE} to a "
            "folder for the local copies of outputs at URLs"
        ) from None


def folder_of(remote: Remote, purpose: str) -> Path:
    """Folder of the local copy of a URL."""
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "raykd").absolute()
    digest = digest_of([remote.scheme, remote.key, sorted(remote.options)])
    return cache / purpose / digest[:24]


def name_of(remote: Remote) -> str:
    """Name of the output in the folder of its local copy."""
    name = remote.key.rpartition("/")[2]
    return name if is_confined(name) and not name.startswith(".") else "output"


class _InBackground:
    """Context manager that renews the lease and copies complete outputs in a thread."""

    def __init__(self, lease: Lease, mirror: Mirror) -> None:
        self._lease, self._mirror = lease, mirror
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=arguments, daemon=True)
            for arguments in (
                (lease.renew, LEASE_SECONDS / 6),
                (mirror.push, _PUSH_EVERY_S),
            )
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if kind is KeyboardInterrupt:
            self._mirror.cancel()
        for thread in self._threads:
            thread.join()

    def _repeat(self, action: Callable[[], None], every_s: float) -> None:
        last = ""
        while not self._stop.wait(every_s):
            try:
                action()
                last = ""
            except Exception as error:
                # Tried again in the next interval; the copy at the end raises what remains.
                if str(error) != last:
                    progress.say(f"{error}; will be tried again")
                last = str(error)
