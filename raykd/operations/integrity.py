"""Integrity of a directory: every manifest and every file that one names, compared by digest."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from raykd import progress
from raykd.errors import InputError
from raykd.operations.run_state import read_plan
from raykd.storage.checked_json import from_checked_json
from raykd.storage.manifest import (
    FILE_NAME,
    FileRecord,
    Manifest,
    digest_of_file,
    read_manifest,
)
from raykd.storage.schemas import PLAN_FILE, TIMES_FILE
from raykd.storage.working_files import is_partial

_CHECKPOINTS = ".unfinished"


@dataclass(frozen=True)
class Damage:
    """A file that is not as raykd wrote it."""

    path: str
    problem: str


@dataclass(frozen=True)
class Redone:
    """Outputs of one stage that the same command would write again."""

    stage: str
    outputs: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class IntegrityReport:
    """Result of a check.

    Attributes:
        folder: the directory.
        num_manifests: manifests found.
        num_files: files compared with their digests.
        num_bytes: their size.
        damages: files that are missing or changed.
        redone: what rerunning the command would write again, in the order of the stages.
        remarks: facts that are no damage.
    """

    folder: str
    num_manifests: int
    num_files: int
    num_bytes: int
    damages: tuple[Damage, ...]
    redone: tuple[Redone, ...]
    remarks: tuple[str, ...]


def check_integrity(folder: Path) -> IntegrityReport:
    """Compare every file that a manifest below `folder` names with its digest; change nothing.

    Raises:
        InputError: there is no directory, or no manifest in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; give a run directory or another output")
    found = sorted(
        path.parent for path in _files_named(folder, FILE_NAME) if not is_partial(path, folder)
    )
    if not found and not (folder / PLAN_FILE).is_file():
        raise InputError(f"{folder}: no {FILE_NAME} below it; give an output directory of raykd")
    manifests = {directory: read_manifest(directory) for directory in found}
    records = {
        directory / name: record
        for directory, manifest in manifests.items()
        if manifest is not None
        for name, record in manifest.outputs.items()
    }
    problems = _problems_of(records)
    problems |= {
        directory / FILE_NAME: "damaged, or of an older version"
        for directory, manifest in manifests.items()
        if manifest is None
    }
    plan = _plan_of(folder)
    return IntegrityReport(
        folder=str(folder),
        num_manifests=len(found),
        num_files=len(records),
        num_bytes=sum(record.num_bytes for record in records.values()),
        damages=tuple(
            Damage(str(path.relative_to(folder)), problem)
            for path, problem in sorted(problems.items())
        ),
        redone=tuple(_redone(folder, plan, manifests, problems)),
        remarks=tuple(_remarks(folder, problems)),
    )


def _files_named(folder: Path, name: str) -> list[Path]:
    return [Path(place, name) for place, _, names in os.walk(folder) if name in names]


def _problems_of(records: Mapping[Path, FileRecord]) -> dict[Path, str]:
    """Compare files with their records, several at once; return the problems."""
    problems = {}
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        progress.track("check", len(records), "files") as advance,
    ):
        for path, problem in zip(records, pool.map(_problem_of, *_columns(records)), strict=True):
            if problem is not None:
                problems[path] = problem
            advance(1)
    return problems


def _columns(records: Mapping[Path, FileRecord]) -> tuple[Sequence[Path], Sequence[FileRecord]]:
    return list(records), list(records.values())


def _problem_of(path: Path, record: FileRecord) -> str | None:
    try:
        if not path.is_file():
            return "missing"
        if (num_bytes := path.stat().st_size) != record.num_bytes:
            return f"has {num_bytes:,} bytes instead of {record.num_bytes:,}"
        return None if digest_of_file(path) == record.digest else "its content has changed"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _plan_of(folder: Path) -> dict[str, list[str]]:
    """Planned outputs of a run by stage; {} for other directories."""
    try:
        stages: dict[str, list[str]] = read_plan(folder)["stages"]
    except InputError:
        return {}
    return stages


def _redone(
    folder: Path,
    plan: Mapping[str, Sequence[str]],
    manifests: Mapping[Path, Manifest | None],
    problems: Mapping[Path, str],
) -> list[Redone]:
    redone = []
    for stage, outputs in plan.items():
        reasons: dict[str, list[str]] = {"damaged": [], "written by another version": []}
        for output in outputs:
            directory = folder / output
            manifest = manifests.get(directory)
            if any(directory in path.parents for path in problems):
                reasons["damaged"].append(output)
            elif manifest is not None and manifest.raykd_version != version("raykd"):
                reasons["written by another version"].append(output)
        redone += [Redone(stage, tuple(made), reason) for reason, made in reasons.items() if made]
    # Outputs that serve several stages, such as predictions, are in no plan.
    planned = {folder / output for outputs in plan.values() for output in outputs}
    for directory, manifest in manifests.items():
        is_planned = any(one == directory or one in directory.parents for one in planned)
        if not is_planned and any(directory in path.parents for path in problems):
            name = str(directory.relative_to(folder))
            redone.append(Redone(manifest.stage if manifest else name, (name,), "damaged"))
    return redone


def _remarks(folder: Path, problems: Mapping[Path, str]) -> list[str]:
    remarks = []
    if any(_CHECKPOINTS in part for path in problems for part in path.parts):
        remarks.append(
            "a damaged checkpoint is not used: the training resumes from the one before it"
        )
    times = folder / TIMES_FILE
    if times.is_file() and from_checked_json(times.read_bytes()) is None:
        remarks.append(f"{TIMES_FILE}: damaged; no result depends on it")
    partial = [path for path in folder.glob("**/.*.partial-*") if path.name.startswith(".")]
    if partial:
        remarks.append(
            f"{len(partial):,} partial outputs of running or killed processes; the next run "
            "removes those of ended ones"
        )
    return remarks
