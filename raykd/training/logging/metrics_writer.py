"""Writer of a training's metrics files: one for steps, one for means and scores."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from raykd.training.logging.records import Record, StepRecord

CURVE_FILE = "metrics.jsonl"
STEPS_FILE = "steps.jsonl"
_FILES = (CURVE_FILE, STEPS_FILE)
_READ_BYTES = 1 << 20

# Number of bytes and content digest per file, as plain values.
Position = Mapping[str, Any]


class MetricsWriter:
    """Writer that appends lines to the two metrics files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._written = {name: _Written() for name in _FILES}

    def truncate(self, step: int, position: Position) -> None:
        """Truncate the files to a position, up to which they are undamaged.

        Args:
            step: step that the training resumes after.
            position: position taken after it; empty for a new training.
        """
        for name in _FILES:
            self._written[name] = _Written()
            path = self._folder / name
            num_bytes = position[name]["num_bytes"] if name in position else 0
            if path.exists():
                os.truncate(path, num_bytes)
                self._written[name].add_file(path, num_bytes)

    def position(self) -> dict[str, Any]:
        """Flush the files to disk; returns their current position."""
        for name in _FILES:
            path = self._folder / name
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        return {name: written.position() for name, written in self._written.items()}

    def write_steps(self, records: Sequence[StepRecord]) -> None:
        """Append records of steps."""
        self._append(STEPS_FILE, [record.to_json() for record in records])

    def write(self, record: Record) -> None:
        """Append a record of means and scores."""
        self._append(CURVE_FILE, [record.to_json()])

    def move(self, folder: Path) -> None:
        """Move the files to another folder on the same disk."""
        for name in _FILES:
            path = self._folder / name
            if path.exists():
                path.replace(folder / name)

    def _append(self, name: str, lines: Sequence[str]) -> None:
        content = "".join(line + "\n" for line in lines).encode()
        with (self._folder / name).open("ab") as file:
            file.write(content)
        self._written[name].add(content)


def damage_before(folder: Path, position: Position) -> str | None:
    """First metrics file that differs from its content at a position; None if none does."""
    for name, expected in position.items():
        present = _Written()
        path = folder / name
        if path.exists():
            present.add_file(path, expected["num_bytes"])
        if present.position() != expected:
            return name
    return None


class _Written:
    """Number of bytes and running digest of a file's content."""

    def __init__(self) -> None:
        self._num_bytes, self._digest = 0, xxhash.xxh3_128()

    def add(self, content: bytes) -> None:
        self._num_bytes += len(content)
        self._digest.update(content)

    def add_file(self, path: Path, num_bytes: int) -> None:
        with path.open("rb") as file:
            while content := file.read(min(_READ_BYTES, num_bytes - self._num_bytes)):
                self.add(content)

    def position(self) -> dict[str, Any]:
        return {"num_bytes": self._num_bytes, "digest": self._digest.hexdigest()}
