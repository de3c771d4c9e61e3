"""The lines a training writes as it goes, one file for its steps and one for its scores."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from raykd.training.records import Record, StepRecord

CURVE_FILE = "metrics.jsonl"
STEPS_FILE = "steps.jsonl"


class Journal:
    """Appends to the two files in a folder, which can be read while they grow."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def cut(self, step: int) -> None:
        """Drop what was written after a step: a training goes on from there."""
        for name in (CURVE_FILE, STEPS_FILE):
            path = self._folder / name
            if not path.exists():
                continue
            kept = []
            for line in path.read_bytes().splitlines(keepends=True):
                # A process that is killed leaves a last line in part.
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
                kept.append(line)
            path.write_bytes(b"".join(kept))

    def write_steps(self, records: Sequence[StepRecord]) -> None:
        """Append steps."""
        self._append(STEPS_FILE, [record.to_json() for record in records])

    def write(self, record: Record) -> None:
        """Append means and scores."""
        self._append(CURVE_FILE, [record.to_json()])

    def sync(self) -> None:
        """Until all that was written is on the disk."""
        for name in (CURVE_FILE, STEPS_FILE):
            path = self._folder / name
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def move(self, folder: Path) -> None:
        """Put the files into another folder of the same disk."""
        for name in (CURVE_FILE, STEPS_FILE):
            path = self._folder / name
            if path.exists():
                path.replace(folder / name)

    def _append(self, name: str, lines: Sequence[str]) -> None:
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
