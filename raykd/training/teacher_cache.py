"""The teacher's logits on fixed text, computed once for all seeds, arms and trials."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import logits_of
from raykd.models.tokens import read_rows

LOGITS = pa.schema([("logits", pa.list_(pa.float32()))])

# A part loads the model once: few large parts of a long text, enough parts of a short one for the
# cores of a machine. The sizes do not depend on the cluster, since results do not either.
_WANTED_PARTS = 32
_MIN_PART_ROWS = 1024
_MAX_PART_ROWS = 16_384


def parts_of(num_rows: int) -> list[tuple[int, int]]:
    """First row and end of each part of a text of so many rows."""
    size = min(max(-(-num_rows // _WANTED_PARTS), _MIN_PART_ROWS), _MAX_PART_ROWS)
    return [(at, min(at + size, num_rows)) for at in range(0, num_rows, size)]


def teacher_logits(
    teacher: Path, text: Path, start: int, stop: int, *, max_length: int
) -> NDArray[np.float32]:
    """Logits of the rows [start, stop) of a text table, (stop - start, C), in the file's order."""
    tokenizer = load_tokenizer(str(teacher))
    rows = read_rows(text, tokenizer, max_length=max_length, start=start, stop=stop)
    return logits_of(
        load_encoder(str(teacher)), rows, pad_id=tokenizer.pad_token_id, device=torch.device("cpu")
    )
