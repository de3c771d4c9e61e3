"""Cache of teacher outputs on fixed text, computed once for all seeds, objectives and trials.

The outputs are memory-mapped NumPy files in a directory whose manifest holds the digests of teacher
and text. A text is processed in parts, which are kept until all are complete.
"""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.families.relation_layer import PAPER_LAYER, paper_relation_layer
from raykd.models.inference import RelationRequest, answers_of, check_finite
from raykd.models.pooling import Pooling
from raykd.models.tokenization.tokens import read_rows
from raykd.storage.manifest import Draft, Manifest, commit, finished, stage_key, write_once
from raykd.storage.remote.task_files import TaskFiles

_STAGE = "teacher_outputs"
LOGITS, FEATURES = "logits", "features"

# Each part loads the model once: parts of a long text are large, those of a short one are enough
# for a machine's cores. Sizes do not depend on the cluster, so that results do not either.
_TARGET_PARTS = 32
_MIN_PART_ROWS = 1024
_MAX_PART_ROWS = 16_384


@dataclass(frozen=True)
class OutputsJob:
    """Computation of teacher outputs for every row of a text table.

    Attributes:
        pooling: pooling of the hidden states to store; None to store none.
        relation_layer: layer whose query, key and value vectors per token are stored, from 1, or
            `PAPER_LAYER` for that of the MiniLMv2 paper; None to store none.
        is_pretrained: whether the teacher has no trained classifier, so that no logits are stored.
    """

    teacher: str | Path
    text: Path
    out: Path
    max_length: int
    pooling: Pooling | None
    inputs: Mapping[str, str]
    relation_layer: int | None = None
    is_pretrained: bool = False

    def settings(self) -> dict[str, Any]:
        """Settings that determine the result, together with the inputs."""
        layer = self.relation_layer
        return {
            "max_length": self.max_length,
            "pooling": self.pooling,
            "relation_layer": "paper" if layer == PAPER_LAYER else layer,
        }

    def finished(self) -> Manifest | None:
        """Manifest of the completed job; None if it is not completed."""
        return finished(self.out, stage_key(_STAGE, self.settings(), self.inputs))

    def files_of_part(self, start: int) -> TaskFiles:
        """Files that `write_part` reads and writes."""
        return TaskFiles((self.teacher, self.text), (self._part(start),))

    def parts(self) -> list[tuple[int, int]]:
        """First row and end row of each part.

        Raises:
            InputError: the text has no rows.
        """
        num_rows = pq.read_metadata(self.text).num_rows
        if num_rows == 0:
            raise InputError(f"{self.text}: no rows to train on")
        return parts_of(num_rows)

    def write_part(self, start: int, stop: int, device: torch.device) -> None:
        """Compute and write rows [start, stop), unless already written."""

        def write(draft: Draft) -> None:
            tokenizer = load_tokenizer(str(self.teacher))
            rows = read_rows(
                self.text, tokenizer, max_length=self.max_length, start=start, stop=stop
            )
            num_labels = 1 if self.is_pretrained else None
            teacher = load_encoder(str(self.teacher), num_labels=num_labels).to(device)
            relations = vectors = None
            if (layer := self.relation_layer) is not None:
                vectors = _new_array(
                    draft.directory / f"{relations_of(layer)}.npy",
                    np.dtype(np.float16),
                    (int(rows.offsets[-1]), 3, teacher.hidden_size),
                )
                if layer == PAPER_LAYER:
                    layer = paper_relation_layer(teacher)
                relations = RelationRequest(layer, vectors)
            answers = answers_of(
                teacher,
                rows,
                pad_id=tokenizer.pad_token_id,
                device=device,
                pooling=self.pooling,
                relations=relations,
            )
            check_finite(answers.logits, str(self.teacher), f"text {self.text}", start=start)
            if vectors is not None:
                vectors.flush()
            for name, array in ((LOGITS, answers.logits), (FEATURES, answers.features)):
                if name in self._kinds():
                    assert array is not None
                    np.save(draft.directory / f"{name}.npy", array)

        settings = {**self.settings(), "rows": [start, stop]}
        write_once(self._part(start), f"{_STAGE} part", settings, self.inputs, write)

    def join_parts(self) -> None:
        """Join and commit the complete parts."""
        parts = self.parts()
        with commit(self.out, _STAGE, self.settings(), self.inputs) as draft:
            for name in self._kinds():
                _join(
                    [self._part(start) / f"{name}.npy" for start, _ in parts],
                    draft.directory / f"{name}.npy",
                )
            draft.counts["num_rows"] = parts[-1][1]
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def _kinds(self) -> list[str]:
        kinds = [] if self.is_pretrained else [LOGITS]
        if self.pooling is not None:
            kinds.append(FEATURES)
        if self.relation_layer is not None:
            kinds.append(relations_of(self.relation_layer))
        return kinds

    @property
    def unfinished(self) -> Path:
        """Working folder of incomplete outputs, next to `out`."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    def _part(self, start: int) -> Path:
        return self.unfinished / f"part-{start:09d}"


def parts_of(num_rows: int) -> list[tuple[int, int]]:
    """First row and end row of each part of a text with `num_rows` rows."""
    size = min(max(-(-num_rows // _TARGET_PARTS), _MIN_PART_ROWS), _MAX_PART_ROWS)
    return [(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def relations_of(layer: int) -> str:
    """Name of the output that holds a layer's relation vectors."""
    return "relations-paper" if layer == PAPER_LAYER else f"relations-{layer}"


def read_outputs(folder: Path, kind: str) -> NDArray[Any]:
    """Memory-map an output of a finished job.

    Args:
        folder: output folder of the job.
        kind: `LOGITS`, (N, C) float32, `FEATURES`, (N, n, d) float32, or `relations_of` a layer,
            (T, 3, d) float16.

    Raises:
        InputError: the job did not write this output.
    """
    path = folder / f"{kind}.npy"
    if not path.exists():
        raise InputError(
            f"{path}: the teacher's {kind} are not in its cache, which is made for the recipe "
            "before the search: set cached_teacher: false, or search no setting that changes them"
        )
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _new_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Create a memory-mapped NumPy file.

    Its disk space is allocated first: a full disk raises an OSError here, instead of killing the
    process when a page is written.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        num_bytes = math.prod(shape) * dtype.itemsize
        file.truncate(file.tell() + num_bytes)  # word list: ok
        # Missing on macOS.
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), file.tell(), num_bytes)  # word list: ok
    return np.lib.format.open_memmap(path, mode="r+")


def _join(parts: Sequence[Path], whole: Path) -> None:
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in parts]
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    joined = _new_array(whole, arrays[0].dtype, shape)
    start = 0
    for array in arrays:
        joined[start : start + len(array)] = array
        start += len(array)
    joined.flush()
