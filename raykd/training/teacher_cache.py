"""The teacher's answers on fixed text, computed once for all seeds, objectives and trials.

They are NumPy files that training maps into memory, in a directory whose manifest names the digests
of teacher and text. A text is computed in parts, each kept until all are there.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.manifest import Draft, Manifest, commit, finished, stage_key, write_once
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import answers_of
from raykd.models.pooling import Pooling
from raykd.models.tokens import read_rows

_STAGE = "teacher_outputs"
_FILES = ("logits", "features")

# A part loads the model once: few large parts of a long text, enough parts of a short one for the
# cores of a machine. The sizes do not depend on the cluster, since results do not either.
_WANTED_PARTS = 32
_MIN_PART_ROWS = 1024
_MAX_PART_ROWS = 16_384


@dataclass(frozen=True)
class OutputsJob:
    """The teacher's logits of every row of a text table, and its hidden states pooled so."""

    teacher: Path
    text: Path
    out: Path
    max_length: int
    pooling: Pooling | None
    inputs: Mapping[str, str]

    def settings(self) -> dict[str, Any]:
        """What decides the result besides the inputs."""
        return {"max_length": self.max_length, "pooling": self.pooling}

    def finished(self) -> Manifest | None:
        """The manifest, if this very job has been done."""
        return finished(self.out, stage_key(_STAGE, self.settings(), self.inputs))

    def parts(self) -> list[tuple[int, int]]:
        """First row and end of each part.

        Raises:
            InputError: the text has no rows.
        """
        num_rows = pq.read_metadata(self.text).num_rows
        if num_rows == 0:
            raise InputError(f"{self.text}: no rows to train on")
        return parts_of(num_rows)

    def write_part(self, start: int, stop: int, device: torch.device) -> None:
        """Answer rows [start, stop), unless that has been done."""

        def write(draft: Draft) -> None:
            tokenizer = load_tokenizer(str(self.teacher))
            rows = read_rows(
                self.text, tokenizer, max_length=self.max_length, start=start, stop=stop
            )
            answers = answers_of(
                load_encoder(str(self.teacher)).to(device),
                rows,
                pad_id=tokenizer.pad_token_id,
                device=device,
                pooling=self.pooling,
            )
            for name, array in zip(_FILES, answers, strict=True):
                if array is not None:
                    np.save(draft.directory / f"{name}.npy", array)

        settings = {**self.settings(), "rows": [start, stop]}
        write_once(self._part(start), f"{_STAGE} part", settings, self.inputs, write)

    def join_parts(self) -> None:
        """Commit the whole, once all parts are there."""
        parts = self.parts()
        with commit(self.out, _STAGE, self.settings(), self.inputs) as draft:
            for name in _FILES[: 1 if self.pooling is None else 2]:
                _join(
                    [self._part(start) / f"{name}.npy" for start, _ in parts],
                    draft.directory / f"{name}.npy",
                )
            draft.counts["num_rows"] = parts[-1][1]
        shutil.rmtree(self._unfinished, ignore_errors=True)

    @property
    def _unfinished(self) -> Path:
        return self.out.with_name(f"{self.out.name}.unfinished")

    def _part(self, start: int) -> Path:
        return self._unfinished / f"part-{start:09d}"


def parts_of(num_rows: int) -> list[tuple[int, int]]:
    """First row and end of each part of a text of so many rows."""
    size = min(max(-(-num_rows // _WANTED_PARTS), _MIN_PART_ROWS), _MAX_PART_ROWS)
    return [(at, min(at + size, num_rows)) for at in range(0, num_rows, size)]


def read_outputs(folder: Path, kind: Literal["logits", "features"]) -> NDArray[np.float32]:
    """What a finished job wrote, mapped into memory: (N, C) logits or (N, n, d) features."""
    array: NDArray[np.float32] = np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _join(parts: Sequence[Path], whole: Path) -> None:
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in parts]
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    joined = np.lib.format.open_memmap(whole, mode="w+", dtype=np.float32, shape=shape)
    at = 0
    for array in arrays:
        joined[at : at + len(array)] = array
        at += len(array)
    joined.flush()
