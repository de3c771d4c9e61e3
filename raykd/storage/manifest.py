"""What a stage wrote, and whether it is already done.

An output directory exists for the next stage only when it holds a `manifest.json` whose key is the
digest of what the stage was asked to do, and whose files have the recorded sizes and digests. The
manifest itself has a checksum. One without it, as older versions wrote, counts as damaged: the
stage runs again.
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
# Any of them shows that raykd wrote a manifest, though bytes of it were changed.
_MARKS = (b'"stage": "', b'"outputs": {', b'"raykd_version": "')
_READ_BYTES = 1 << 22


class ByteStream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class FileRecord(BaseModel):
    """Size and xxh3-128 digest of one output file."""

    num_bytes: int
    digest: str


class Manifest(BaseModel):
    """What one directory holds, and what made it."""

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
    """An output directory being written."""

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
    """xxh3-128 of what is left of a stream, hexadecimal."""
    state = xxhash.xxh3_128()
    while chunk := stream.read(_READ_BYTES):
        state.update(chunk)
    return state.hexdigest()


def stage_key(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Digest of what decides a stage's output: settings, contents of inputs, version of raykd."""
    return digest_of(
        {"stage": stage, "config": config, "inputs": inputs, "raykd": version("raykd")}
    )


def read_manifest(directory: Path) -> Manifest | None:
    """The directory's manifest, or None where there is none, or a damaged one."""
    try:
        values = from_checked_json((directory / FILE_NAME).read_bytes())
        return None if values is None else Manifest.model_validate(values)
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def manifest_of_source(directory: Path) -> Manifest | None:
    """The manifest of a directory that the user names to be read; None where raykd wrote none.

    Raises:
        InputError: raykd wrote one, and it is damaged.
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
    """Digest of the finished output in a directory."""
    manifest = read_manifest(directory)
    assert manifest is not None, directory
    return manifest.digest


def finished(directory: Path, key: str) -> Manifest | None:
    """The manifest, if the directory holds the whole, undamaged output of this key."""
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
    """Keep what is the user's from being replaced, as with `--out .` beside a folder teacher.

    Raises:
        InputError: what stands in the place of an output has no manifest, or holds a file that the
            manifest does not name.
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
    """Names in a manifest, checksum or not: what an older version made is not the user's."""
    try:
        values = json.loads((directory / FILE_NAME).read_bytes())
        return set(values["outputs"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def check_output(out: Path) -> None:
    """Check that a command's output can be written, before anything else is done.

    Raises:
        InputError: nothing can be written there; as `check_replaceable`.
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
    directory: Path, stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> Iterator[Draft]:
    """Write a whole output directory, or nothing.

    Files are written to `Draft.directory`, beside the final place; when the block ends without an
    error they are synced, described in a manifest, and renamed into place, replacing an older
    output.
    """
    started = time.monotonic()
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
    """Commit what `write` writes, unless the directory already holds the output of this key."""
    manifest = finished(directory, stage_key(stage, config, inputs))
    if manifest is None:
        with commit(directory, stage, config, inputs) as draft:
            write(draft)
        manifest = read_manifest(directory)
        assert manifest is not None
    return manifest


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
        # The manifests of shards below hold durations: no part of what the stage made.
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
    """Make the directory that a whole job writes to, and clear it of what was left unfinished.

    Raises:
        InputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be made a directory ({error.strerror}); choose another place"
        ) from None
    sweep(out)


def _replace(partial: Path, directory: Path, key: str) -> None:
    """Rename an output over what stands in its place, unless that is the output of this key.

    Another process may have put it there meanwhile, and others may read it already.
    """
    if not renamed(partial, directory) and finished(directory, key) is None:
        outdated = partial_of(directory)
        with suppress(FileNotFoundError):
            directory.rename(outdated)
        renamed(partial, directory)
        shutil.rmtree(outdated, ignore_errors=True)
    sync(directory.parent)
