"""Training checkpoints: saved between two steps, so that training resumes exactly.

A checkpoint is a directory committed by `manifest`, with digests and the key of its training. It
holds no random state: the random numbers of a step depend only on (seed, step, worker). No pickle
is written or read.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raykd.objectives.base import Objective
from raykd.storage.manifest import commit, finished, read_manifest, stage_key
from raykd.training.logging.metrics_writer import Position, damage_before
from raykd.training.trainers import Trainer

_TENSORS_FILE = "tensors.safetensors"
_STATE_FILE = "state.json"
_KEPT = 2
_OPTIMIZER = "optimizer."
_POSITION = "journal"


@dataclass(frozen=True)
class Checkpoint:
    """State after a step: tensors on the CPU, and plain values."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def position(self) -> Position:
        """End of the step's lines in the metrics files; empty if there are none."""
        position: Position = self.state.get(_POSITION, {})
        return position

    def with_position(self, position: Position) -> "Checkpoint":
        """Copy with the end of the step's lines in the metrics files."""
        return replace(self, state=self.state | {_POSITION: dict(position)})


class CheckpointFolder:
    """Most recent checkpoints of one training.

    Args:
        folder: folder used by this training only.
        stage: stage of the training, as in `manifest.commit`.
        settings: settings that determine the result.
        inputs: digests of the inputs.
        every_s: seconds between two checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        *,
        every_s: float,
    ) -> None:
        self.folder = folder
        self._identity = f"{stage} checkpoint", settings, inputs
        self._every_s = every_s
        self._last_s = time.monotonic()
        self._writer: threading.Thread | None = None
        self._problem: BaseException | None = None

    def find(self, *, before: int | None = None) -> tuple[int | None, list[str]]:
        """Find the newest valid checkpoint.

        Args:
            before: only consider earlier steps.

        Returns:
            Its step, None if there is none, and a note per newer checkpoint that was skipped.
        """
        key, notes = stage_key(*self._identity), []
        for step, path in self._present():
            if before is not None and step >= before:
                continue
            manifest = read_manifest(path)
            if manifest is not None and manifest.key != key:
                notes.append(f"{path}: made by another recipe, input or version of raykd; not used")
            elif finished(path, key) is None:
                notes.append(f"{path}: damaged; not used")
            elif damaged := damage_before(self.folder, self.read_state(step).get(_POSITION, {})):
                notes.append(f"{self.folder / damaged}: damaged before step {step}; not used")
            else:
                return step, notes
        return None, notes

    def read(self, step: int) -> Checkpoint:
        """Read the checkpoint of a step returned by `find`."""
        return Checkpoint(step, load_file(self._path(step) / _TENSORS_FILE), self.read_state(step))

    def read_state(self, step: int) -> dict[str, Any]:
        """Read the plain values of the checkpoint of a step returned by `find`."""
        state: dict[str, Any] = json.loads((self._path(step) / _STATE_FILE).read_text())
        return state

    def drop_after(self, step: int) -> None:
        """Remove checkpoints of later steps, which are damaged or belong to another training."""
        for later_step, path in self._present():
            if later_step > step:
                shutil.rmtree(path, ignore_errors=True)

    def newest(self, *, before: int) -> str:
        """Path of the newest valid checkpoint of an earlier step, or "none", for messages."""
        self.wait()
        step, _ = self.find(before=before)
        return "none" if step is None else str(self._path(step))

    @property
    def is_due(self) -> bool:
        """True if the interval has passed and the previous checkpoint is written.

        With an interval of 0, always: the training waits for the previous checkpoint.
        """
        if self._every_s == 0:
            return True
        is_busy = self._writer is not None and self._writer.is_alive()
        return not is_busy and time.monotonic() - self._last_s >= self._every_s

    def write(self, checkpoint: Checkpoint) -> None:
        """Write in the background, then remove all older checkpoints except one.

        Raises:
            OSError: the previous checkpoint could not be written.
        """
        self.wait()
        self._last_s = time.monotonic()
        self._writer = threading.Thread(target=self._write, args=(checkpoint,))
        self._writer.start()

    def wait(self) -> None:
        """Wait until the current checkpoint is written.

        Raises:
            OSError: the checkpoint could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def remove(self) -> None:
        """Remove the folder and its content."""
        self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            with commit(self._path(checkpoint.step), *self._identity) as draft:
                save_file(checkpoint.tensors, draft.directory / _TENSORS_FILE)
                (draft.directory / _STATE_FILE).write_text(json.dumps(checkpoint.state))
            for step, path in self._present()[_KEPT:]:
                assert step < checkpoint.step, path
                shutil.rmtree(path, ignore_errors=True)
        except BaseException as error:  # raised where the thread is waited for
            self._problem = error

    def _present(self) -> list[tuple[int, Path]]:
        """Steps and directories of possible checkpoints, newest first."""
        present = [
            (int(match[1]), path)
            for path in self.folder.glob("step-*")
            if (match := re.fullmatch(r"step-(\d+)", path.name))
        ]
        return sorted(present, reverse=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"


def tensors_of(objective: Objective, trainers: Mapping[str, Trainer]) -> dict[str, Tensor]:
    """CPU copies of all tensors that training changes."""
    tensors = {name: tensor.to("cpu", copy=True) for name, tensor in _own_tensors(objective)}
    for player, trainer in trainers.items():
        for number, values in trainer.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                key = f"{_OPTIMIZER}{player}.{number}.{name}"
                tensors[key] = value.detach().to("cpu", copy=True)
    return tensors


def restore(
    objective: Objective, trainers: Mapping[str, Trainer], tensors: Mapping[str, Tensor]
) -> None:
    """Load tensors returned by `tensors_of`."""
    with torch.no_grad():
        for name, tensor in _own_tensors(objective):
            tensor.copy_(tensors[name])
    for player, trainer in trainers.items():
        prefix = f"{_OPTIMIZER}{player}."
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                number, name = key.removeprefix(prefix).split(".")
                # A copy, since the tensor would keep the whole file's memory.
                state.setdefault(int(number), {})[name] = torch.clone(tensor)
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _own_tensors(objective: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers except the teacher's; shared ones once."""
    for named in (objective.named_parameters(), objective.named_buffers()):
        for name, tensor in named:
            if not name.startswith("teacher."):
                yield name, tensor.detach()
