"""Manifests of output directories, by which completed stages are skipped.

An output directory is complete if it has a `manifest.json` whose key is the digest of the stage's
settings and inputs, and whose files have the recorded sizes and digests. The manifest has a
checksum. A manifest without a checksum (of older versions) counts as damaged: the stage runs again.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import xxhash
from pydantic import BaseModel, ValidationError

from raykd.errors import InputError
from raykd.storage.checked_json import from_checked_json, to_checked_json
from raykd.storage.working_files import (
    is_partial,
    naming,
    partial_of,
    renamed,
    sweep,
    sync,
    write_atomically,
)

FILE_NAME = "manifest.json"
# Any of these shows that raykd wrote a manifest that is now damaged.
_MARKS = (b'"stage": "', b'"outputs": {', b'"raykd_version": "')
_READ_BYTES = 1 << 22


class ByteStream(Protocol):
    """Source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; none at the end."""


class FileRecord(BaseModel):
    """Size and xxh3-128 digest of one output file."""

    num_bytes: int
    digest: str


class Manifest(BaseModel):
    """Manifest of one directory: its files, and the stage, settings and inputs that made it."""

    stage: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, FileRecord]
    counts: dict[str, float]
    raykd_version: str
    duration_s: float

    @property
    def digest(self) -> str:
        """Digest of the outputs' names and contents: the input digest of the next stage."""
        return digest_of({name: record.digest for name, record in self.outputs.items()})


@dataclass
class Draft:
    """Output directory that is being written."""

    directory: Path
    counts: dict[str, float] = field(default_factory=dict)


def digest_of(value: Any) -> str:
    """sha256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """xxh3-128 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return digest_of_stream(file)


def digest_of_stream(stream: ByteStream) -> str:
    """xxh3-128 of the rest of a stream, hexadecimal."""
    state = xxhash.xxh3_128()
    while chunk := stream.read(_READ_BYTES):
        state.update(chunk)
    return state.hexdigest()


def stage_key(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Digest of the settings, the contents of inputs and raykd's version, for one stage."""
    return digest_of(
        {"stage": stage, "config": config, "inputs": inputs, "raykd": version("raykd")}
    )


def read_manifest(directory: Path) -> Manifest | None:
    """Read the manifest of a directory; None if it is missing or damaged."""
    try:
        values = from_checked_json((directory / FILE_NAME).read_bytes())
        return None if values is None else Manifest.model_validate(values)
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def manifest_of_source(directory: Path) -> Manifest | None:
    """Read the manifest of an input directory; None if raykd did not write it.

    Raises:
        InputError: the manifest is damaged.
    """
    manifest = read_manifest(directory)
    path = directory / FILE_NAME
    if manifest is None and path.is_file():
        content = path.read_bytes()
        if any(mark in content for mark in _MARKS):
            raise InputError(
                f"{path}: damaged, or of an older version of raykd; run the command that wrote "
                f"{directory} again"
            )
    return manifest


def check_source(folder: Path) -> None:
    """Compare a folder that the user names with the manifest in it, or in the folder above it.

    Raises:
        InputError: raykd wrote a manifest there, and it, or a file in `folder`, is damaged.
    """
    for directory in (folder, folder.parent):
        manifest = manifest_of_source(directory)
        for name, record in manifest.outputs.items() if manifest else ():
            path = directory / name
            if path.is_relative_to(folder) and not _is_whole(path, record):
                state = "not as raykd wrote it" if path.is_file() else "missing"
                raise InputError(
                    f"{path}: {state} (see {directory / FILE_NAME}); run the command that wrote "
                    f"{directory} again, or, if you changed the file, copy {folder} to another "
                    "place and use the copy"
                )


def digest_of_directory(directory: Path) -> str:
    """Digest of the complete output in a directory."""
    manifest = read_manifest(directory)
    assert manifest is not None, directory
    return manifest.digest


def finished(directory: Path, key: str) -> Manifest | None:
    """Read the manifest if the directory has the complete, undamaged output of this key."""
    manifest = read_manifest(directory)
    if manifest is None or manifest.key != key:
        return None
    files = manifest.outputs.items()
    is_whole = all(_is_whole(directory / name, record) for name, record in files)
    return manifest if is_whole else None


def _is_whole(path: Path, record: FileRecord) -> bool:
    if not path.is_file() or path.stat().st_size != record.num_bytes:
        return False
    return digest_of_file(path) == record.digest


def check_replaceable(directory: Path) -> None:
    """Check that an output does not replace the user's files, for example with `--out .`.

    Raises:
        InputError: an existing file or directory has no manifest, or contains a file that is not in
            the manifest.
    """
    if not directory.exists():
        return
    has_manifest = (directory / FILE_NAME).exists()
    if not directory.is_dir() or (any(directory.iterdir()) and not has_manifest):
        raise InputError(
            f"{directory}: in the way of an output of that name, and not made by raykd (it has no "
            f"{FILE_NAME}); move it away, or choose another place with --out"
        )
    if (outputs := _names_of_outputs(directory)) is None:
        return
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        is_made = name in outputs or path.name == FILE_NAME or is_partial(path, directory)
        if not (is_made or path.is_dir()):
            raise InputError(
                f"{path}: in the way of an output that replaces its whole folder, and not made by "
                "raykd; move it away, or choose another place with --out"
            )


def _names_of_outputs(directory: Path) -> set[str] | None:
    """Read the output names of a manifest, also without a checksum (of older versions)."""
    try:
        values = json.loads((directory / FILE_NAME).read_bytes())
        return set(values["outputs"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def check_output(out: Path) -> None:
    """Check that the output of a command can be written, before any work starts.

    Raises:
        InputError: the directory is not writable; see also `check_replaceable`.
    """
    check_replaceable(out)
    probe = partial_of(out)
    try:
        probe.mkdir(parents=True)
        probe.rmdir()
    except OSError as error:
        raise InputError(
            f"--out {out}: nothing can be written there ({error.strerror}); choose another place"
        ) from None


@contextmanager
def commit(
    directory: Path,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    earlier_s: float = 0.0,
) -> Iterator[Draft]:
    """Write a complete output directory atomically.

    Files are written to `Draft.directory`, next to the final directory. When the block ends without
    an error, they are synced, described in a manifest, and moved to the final directory, where they
    replace an older output. `earlier_s` is the time of the work before the block.
    """
    started = time.monotonic() - earlier_s
    partial = partial_of(directory)
    partial.mkdir(parents=True)
    try:
        draft = Draft(partial)
        with naming(directory):
            yield draft
            write_manifest(
                partial, stage, config, inputs, draft.counts, duration_s=time.monotonic() - started
            )
            _replace(partial, directory, stage_key(stage, config, inputs))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_once(
    directory: Path,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    write: Callable[[Draft], None],
) -> Manifest:
    """Commit the output of `write`, unless the directory has the complete output of this key."""
    return write_unless_kept(directory, stage, config, inputs, write)[0]


def write_unless_kept(
    directory: Path,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    write: Callable[[Draft], None],
) -> tuple[Manifest, bool]:
    """Do the same as `write_once`, and also return whether the output was complete already."""
    manifest = finished(directory, stage_key(stage, config, inputs))
    if manifest is not None:
        return manifest, True
    with commit(directory, stage, config, inputs) as draft:
        write(draft)
    manifest = read_manifest(directory)
    assert manifest is not None
    return manifest, False


def write_manifest(
    directory: Path,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    counts: Mapping[str, float],
    *,
    duration_s: float,
) -> Manifest:
    """Describe all files below a directory and write its manifest last, atomically."""
    outputs = {}
    for path in sorted(directory.rglob("*")):
        # Manifests of shards below are not outputs of the stage: they contain durations.
        if path.is_file() and path.name != FILE_NAME and not is_partial(path, directory):
            sync(path)
            outputs[str(path.relative_to(directory))] = FileRecord(
                num_bytes=path.stat().st_size, digest=digest_of_file(path)
            )
    manifest = Manifest(
        stage=stage,
        key=stage_key(stage, config, inputs),
        config=dict(config),
        inputs=dict(inputs),
        outputs=outputs,
        counts=dict(counts),
        raykd_version=version("raykd"),
        duration_s=round(duration_s, 3),
    )
    write_atomically(directory / FILE_NAME, to_checked_json(manifest.model_dump(mode="json")))
    return manifest


def make_output_directory(out: Path) -> None:
    """Make the output directory of a job, and remove partial outputs in it.

    Raises:
        InputError: the directory cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be made a directory ({error.strerror}); choose another place"
        ) from None
    sweep(out)


def _replace(partial: Path, directory: Path, key: str) -> None:
    """Replace the directory by a new output, unless it already has the output of this key.

    Another process may have written it in the meantime, and others may already read it.
    """
    if not renamed(partial, directory) and finished(directory, key) is None:
        outdated = partial_of(directory)
        with suppress(FileNotFoundError):
            directory.rename(outdated)
        renamed(partial, directory)
        shutil.rmtree(outdated, ignore_errors=True)
    sync(directory.parent)
