"""Outputs of commands: their paths, their lock, and Ray's temporary copy of a submitted project."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from raykd import progress
from raykd.errors import InputError

# pathlib joins the two slashes of a URL to one.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
# `ray job submit --working-dir` unpacks the project into a folder below these two.
_COPY_FOLDERS = ("runtime_resources", "working_dir_files")
# Ray sets it for the command of a job.
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def output_path(out: Path, option: str = "--out") -> Path:
    """The absolute path of an output, checked before any work starts.

    Args:
        out: path given by the user, or the default one.
        option: name of the option, for the message.

    Raises:
        InputError: the path is a URL, its name is not UTF-8, or it is in the temporary folder of a
            Ray job.
    """
    if url := _URL.fullmatch(str(out)):
        raise InputError(
            f"{option} {url[1]}://{url[2]}: results are written to local or mounted folders only; "
            "give a path, and copy the results to the object store afterwards"
        )
    path = out.resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{option} {path}: the path is not UTF-8, as Parquet files need it; choose another one"
        ) from None
    if in_job_copy(path) or (not out.is_absolute() and _JOB_VARIABLE in os.environ):
        raise InputError(
            f"{option} {out}: relative to {Path.cwd()}, a temporary folder of the Ray job, which "
            f"Ray deletes; give an absolute path on storage that outlives the job, such as "
            f"{option} /mnt/shared/{out.name}"
        )
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Context manager that one process at a time enters for a run directory; the others wait.

    Two would write into the metrics files of the same trainings, and train each of them twice. A
    process enters again what it is in. The lock of a process that was killed is free. On file
    systems without locks nobody waits.

    Args:
        folder: run directory, which exists.
    """
    # One object per file, which counts how often this process has entered.
    lock = FileLock(folder / ".lock", is_singleton=True)
    with ExitStack() as entered:
        try:
            lock.acquire(timeout=0)
            entered.callback(lock.release)
        except Timeout:
            progress.say(f"  {folder}: waiting for another process that makes this run")
            lock.acquire()
            entered.callback(lock.release)
        except (OSError, NotImplementedError):
            pass  # another error of this folder is found by what is written into it
        yield


def in_job_copy(path: Path) -> bool:
    """Check whether a path is in the copy of the project that Ray made for a job."""
    return set(_COPY_FOLDERS) <= set(path.absolute().parts)


def missing_hint(path: Path) -> str:
    """Additional hint for a missing file: in a Ray job it may not have been uploaded."""
    if not in_job_copy(path):
        return ""
    return (
        "; this is Ray's copy of the project, without the files that .gitignore or .rayignore "
        "names: give an absolute path or a URL that the cluster can read"
    )
