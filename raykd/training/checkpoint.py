"""What a training needs to go on exactly where it was: taken between two steps, kept on disk.

A checkpoint is a directory as `manifest` commits it: whole, with digests, and with the key of the
training it belongs to. Random numbers are no part of it: those of a step depend on (seed, step,
worker) alone. No pickle is written or read.
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
_JOURNAL = "journal"


@dataclass(frozen=True)
class Checkpoint:
    """The state after a step: tensors on the CPU, and plain values."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def metrics_writer(self) -> Position:
        """Position of the training's metrics_writer; none where it has no metrics_writer."""
        position: Position = self.state.get(_JOURNAL, {})
        return position

    def after(self, metrics_writer: Position) -> "Checkpoint":
        """The same with the position of the metrics_writer that the step's lines end at."""
        return replace(self, state=self.state | {_JOURNAL: dict(metrics_writer)})


class CheckpointFolder:
    """The last checkpoints of one training.

    Args:
        folder: of this training alone.
        stage: of the training, as `manifest.commit` takes it with `settings` and `inputs`.
        settings: what decides the result, besides the inputs.
        inputs: digests of what is read.
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
        """The step of the newest whole checkpoint of this training, and why newer ones are not.

        Args:
            before: look at earlier steps only.
        """
        key, notes = stage_key(*self._identity), []
        for step, path in self._present():
            if before is not None and step >= before:
                continue
            manifest = read_manifest(path)
            if manifest is not None and manifest.key != key:
                notes.append(f"{path}: of another recipe, input or version of raykd; not used")
            elif finished(path, key) is None:
                notes.append(f"{path}: damaged; not used")
            elif damaged := damage_before(self.folder, self.read_state(step).get(_JOURNAL, {})):
                notes.append(f"{self.folder / damaged}: damaged before step {step}; not used")
            else:
                return step, notes
        return None, notes

    def read(self, step: int) -> Checkpoint:
        """The checkpoint that `find` found."""
        return Checkpoint(step, load_file(self._path(step) / _TENSORS_FILE), self.read_state(step))

    def read_state(self, step: int) -> dict[str, Any]:
        """The plain values of the checkpoint that `find` found."""
        state: dict[str, Any] = json.loads((self._path(step) / _STATE_FILE).read_text())
        return state

    def drop_after(self, step: int) -> None:
        """Remove checkpoints of later steps: damaged, or of another training."""
        for found, path in self._present():
            if found > step:
                shutil.rmtree(path, ignore_errors=True)

    def newest(self, *, before: int) -> str:
        """For messages: the newest whole checkpoint of an earlier step, or that there is none."""
        self.wait()
        step, _ = self.find(before=before)
        return "none" if step is None else str(self._path(step))

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next one, and the last one is written."""
        is_busy = self._writer is not None and self._writer.is_alive()
        return not is_busy and time.monotonic() - self._last_s >= self._every_s

    def write(self, checkpoint: Checkpoint) -> None:
        """Write in the background; older ones but the last are removed.

        Raises:
            OSError: the last one could not be written.
        """
        self.wait()
        self._last_s = time.monotonic()
        self._writer = threading.Thread(target=self._write, args=(checkpoint,))
        self._writer.start()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            OSError: it could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def remove(self) -> None:
        """Remove the folder with all in it."""
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
        """Steps and directories of what looks like a checkpoint, the newest first."""
        found = [
            (int(match[1]), path)
            for path in self.folder.glob("step-*")
            if (match := re.fullmatch(r"step-(\d+)", path.name))
        ]
        return sorted(found, reverse=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"


def tensors_of(objective: Objective, trainers: Mapping[str, Trainer]) -> dict[str, Tensor]:
    """Copies, on the CPU, of everything that training changes."""
    found = {name: tensor.to("cpu", copy=True) for name, tensor in _own_tensors(objective)}
    for player, trainer in trainers.items():
        for number, values in trainer.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                key = f"{_OPTIMIZER}{player}.{number}.{name}"
                found[key] = value.detach().to("cpu", copy=True)
    return found


def restore(
    objective: Objective, trainers: Mapping[str, Trainer], tensors: Mapping[str, Tensor]
) -> None:
    """Put the tensors of `tensors_of` in their places."""
    with torch.no_grad():
        for name, tensor in _own_tensors(objective):
            tensor.copy_(tensors[name])
    for player, trainer in trainers.items():
        prefix = f"{_OPTIMIZER}{player}."
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                number, name = key.removeprefix(prefix).split(".")
                # Its memory is that of the whole file otherwise.
                state.setdefault(int(number), {})[name] = torch.clone(tensor)
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _own_tensors(objective: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers but the teacher's; those with several names once."""
    for named in (objective.named_parameters(), objective.named_buffers()):
        for name, tensor in named:
            if not name.startswith("teacher."):
                yield name, tensor.detach()
