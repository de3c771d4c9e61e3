"""Submission of a command as a Ray job: its files, and the runtime environment.

A path in a recipe means the same as in a job that Ray's own command submits: a relative one is sent
with the job, an absolute one is read on the cluster, a URL from the object store. Only files that
the recipe names are sent.
"""

import json
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from raykd import progress
from raykd.errors import InputError
from raykd.operations.expected_version import VARIABLE as EXPECTED_VERSION
from raykd.operations.submitted_command import Command
from raykd.operations.submitted_files import PACKAGE_PREFIX, contents_of
from raykd.operations.wheel import requirements_of, unpack

MAX_BYTES = 100 << 20


@dataclass(frozen=True)
class Submission:
    """Job that is ready to be sent.

    Attributes:
        job_id: id of the job.
        entrypoint: command line on the cluster.
        folder: working directory, sent with the job.
        files: the files in it, relative, without those of a wheel.
        num_bytes: their size.
        runtime_env: Ray's runtime environment, without the working directory.
        notes: remarks for the user.
    """

    job_id: str
    entrypoint: str
    folder: Path
    files: tuple[str, ...]
    num_bytes: int
    runtime_env: Mapping[str, Any]
    notes: tuple[str, ...]

    def ray_command(self, url: str) -> str:
        """Build the equivalent `ray job submit` command."""
        words = ["ray", "job", "submit", "--address", url, "--submission-id", self.job_id]
        words += ["--working-dir", str(self.folder)]
        words += ["--runtime-env-json", json.dumps(self.runtime_env)]
        return f"{shlex.join(words)} -- {self.entrypoint}"


@contextmanager
def prepared(
    command: Command,
    *,
    raykd: str,
    include: Sequence[Path] = (),
    job_id: str | None = None,
    is_kept: bool = False,
) -> Iterator[Submission]:
    """Build the working directory of a job; it is removed at the end of the block.

    Args:
        command: command of the job.
        raykd: origin of raykd on the cluster: "pip", "image", or the path of a wheel.
        include: additional files and folders to send.
        job_id: id of the job; None for a new one.
        is_kept: whether the directory remains if there is no error.

    Raises:
        InputError: the recipe is invalid, a file is missing, or the files are too large.
    """
    folder = Path(tempfile.mkdtemp(prefix="raykd-submit-"))
    is_whole = False
    try:
        yield prepare(command, folder, raykd=raykd, include=include, job_id=job_id)
        is_whole = True
    finally:
        if not (is_kept and is_whole):
            shutil.rmtree(folder, ignore_errors=True)


def prepare(
    command: Command,
    folder: Path,
    *,
    raykd: str,
    include: Sequence[Path] = (),
    job_id: str | None = None,
) -> Submission:
    """Build the working directory of a job in an empty folder; see `prepared`."""
    contents = contents_of(command, include)
    files, root, notes = contents.files, contents.root, list(contents.notes)
    num_bytes = _copy(files, root, folder)
    packages = _model_packages(contents.models)
    variables = {EXPECTED_VERSION: version("raykd")}
    if log_format := os.environ.get(progress.LOG_VARIABLE):
        variables[progress.LOG_VARIABLE] = log_format
    runtime_env: dict[str, Any] = {"env_vars": variables}
    if raykd == "pip":
        runtime_env["pip"] = [f"raykd=={version('raykd')}", *packages]
    elif raykd != "image":
        wheel = Path(raykd)
        variables[EXPECTED_VERSION] = unpack(wheel, folder)
        runtime_env["pip"] = [*requirements_of(wheel), *packages]
    elif packages:
        notes.append(f"the cluster's image must have {', '.join(packages)}")
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Submission(
        job_id=job_id or f"raykd-{contents.name}-{started}-{uuid.uuid4().hex[:6]}",
        entrypoint=contents.entrypoint,
        folder=folder,
        files=tuple(file.relative_to(root).as_posix() for file in files),
        num_bytes=num_bytes,
        runtime_env=runtime_env,
        notes=tuple(notes),
    )


def _copy(files: Sequence[Path], root: Path, folder: Path) -> int:
    """Copy files to the working directory, unless they are too large; return their size."""
    sizes = {file: file.stat().st_size for file in files}
    num_bytes = sum(sizes.values())
    if num_bytes > MAX_BYTES:
        largest = max(files, key=lambda file: sizes[file])
        raise InputError(
            f"raykd submit: {len(files):,} files of {size_text(num_bytes)} would be sent with the "
            f"job (the largest: {largest}, {size_text(sizes[largest])}), more than "
            f"{size_text(MAX_BYTES)}; put large files in an object store and name them by URL"
        )
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return num_bytes


def _model_packages(models: Sequence[str]) -> list[str]:
    """Pin the distributions of models that are named as `package:NAME/FOLDER`."""
    names = [
        model.removeprefix(PACKAGE_PREFIX).partition("/")[0]
        for model in models
        if model.startswith(PACKAGE_PREFIX)
    ]
    distributions = packages_distributions() if names else {}
    found = [distributions.get(name) for name in dict.fromkeys(names)]
    return [f"{one[0]}=={version(one[0])}" for one in found if one]


def size_text(num_bytes: float) -> str:
    """Format a size, such as `12.3 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"
