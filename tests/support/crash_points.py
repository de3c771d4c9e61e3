"""Failures of the n-th change of a folder: an error of the disk, or the end of the process.

Every change below the folder counts: files that are opened for writing and those that are complete,
renames, removals, new folders, and syncs. Functions of the standard library and of the libraries
that write files themselves are wrapped; raykd's code has no hooks.
"""

import errno
import functools
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch

KILLED = 77
Fault = Literal["error", "kill"]


class CrashPoints:
    """Counter of the changes below a folder that fails at one of them.

    Args:
        folder: real path of the folder.
        number: change that fails, from 1; 0: none.
        fault: "error": the change raises OSError (no space left); "kill": the process ends at once.
            A file that is closed is cut to half before.
        trace: file to write the failing change to.
    """

    def __init__(
        self, folder: Path, number: int = 0, fault: Fault = "error", trace: Path | None = None
    ) -> None:
        self._prefix = f"{os.path.realpath(folder)}/"
        self._number, self._fault, self._trace = number, fault, trace
        self._lock = threading.Lock()
        self.changes: list[str] = []

    def reach(self, what: str, path: Any, cut: Callable[[], None] = lambda: None) -> None:
        """Count a change of a path, and fail if it is the one to fail."""
        if not self.counts(path):
            return
        # The end of the process before a sync or in an empty file leaves no more than its end at
        # the next change.
        if self._fault == "kill" and what.startswith(("fsync", "open")):
            return
        if what in ("unlink", "remove", "rmdir") and not os.path.lexists(path):
            return
        change = f"{what} {os.fsdecode(path).removeprefix(self._prefix)}"
        with self._lock:
            self.changes.append(change)
            if len(self.changes) != self._number:
                return
            if self._trace is not None:
                descriptor = os.open(self._trace, os.O_WRONLY | os.O_CREAT)
                os.write(descriptor, change.encode())
                os.close(descriptor)
        cut()
        if self._fault == "kill":
            os._exit(KILLED)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    def counts(self, path: Any) -> bool:
        """Check whether a path is below the folder."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return str(Path(os.fsdecode(path)).absolute()).startswith(self._prefix)

    @contextmanager
    def installed(self) -> Iterator["CrashPoints"]:
        """Wrap the functions that change files while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("rename", "replace", "link", "truncate", "mkdir", "rmdir", "unlink"):
                patch.setattr(os, name, self._of_path(name, getattr(os, name)))
            # Path.unlink and shutil.rmtree use this name on some versions of Python.
            patch.setattr(os, "remove", os.unlink)
            patch.setattr(os, "fsync", self._fsync)
            opened = self._opening(io.open)
            patch.setattr(io, "open", opened)
            patch.setattr("builtins.open", opened)
            patch.setattr(pq.ParquetWriter, "__init__", self._new_parquet())
            patch.setattr(pq.ParquetWriter, "close", self._closed_parquet())
            for module, name in (
                (pa.ipc, "new_file"),
                (safetensors.torch, "serialize_file"),
                (shutil, "copyfile"),
            ):
                patch.setattr(module, name, self._whole_file(name, getattr(module, name)))
            yield self

    def _of_path(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(path: Any, *rest: Any, dir_fd: int | None = None, **options: Any) -> Any:
            whole = path
            if dir_fd is not None:
                options["dir_fd"] = dir_fd
                with suppress(OSError):
                    whole = Path(f"/proc/self/fd/{dir_fd}").readlink() / os.fsdecode(path)
            self.reach(name, whole)
            return function(path, *rest, **options)

        return call

    def _fsync(self, descriptor: Any) -> None:
        """Count a sync; it is left out, since no test ends the machine."""
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self.reach("fsync", Path(f"/proc/self/fd/{number}").readlink())

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self.counts(file):
                return function(file, mode, *rest, **options)
            self.reach("open", file)
            opened = function(file, mode, *rest, **options)
            before = Path(file).stat().st_size
            close = opened.close

            def close_or_fail() -> None:
                is_open = not opened.closed
                close()
                if is_open:
                    self.reach("write", file, lambda: _cut(file, before))

            opened.close = close_or_fail
            return opened

        return call

    def _new_parquet(self) -> Callable[..., None]:
        function = pq.ParquetWriter.__init__

        def call(writer: Any, where: Any, *rest: Any, **options: Any) -> None:
            writer._crash_path = where
            # The destructor closes the writer, also one that was never opened.
            writer.is_open = False
            self.reach("open", where)
            function(writer, where, *rest, **options)

        return call

    def _closed_parquet(self) -> Callable[..., None]:
        function = pq.ParquetWriter.close

        def call(writer: Any) -> None:
            is_open = writer.is_open
            function(writer)
            if is_open:
                self.reach("write", writer._crash_path, lambda: _cut(writer._crash_path))

        return call

    def _whole_file(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that writes a file itself, or that opens one."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            paths = [value for value in arguments if self.counts(value)]
            self.reach(f"open ({name})", paths[-1] if paths else None)
            result = function(*arguments, **options)
            if result is None and paths:
                self.reach(f"write ({name})", paths[-1], lambda: _cut(paths[-1]))
            return result

        return call


def _cut(path: Any, before: int = 0) -> None:
    """Keep half of what was written to a file of `before` bytes."""
    with suppress(FileNotFoundError):
        size = Path(path).stat().st_size
        descriptor = os.open(path, os.O_WRONLY)
        os.ftruncate(descriptor, (before + size) // 2 if size > before else size // 2)
        os.close(descriptor)
