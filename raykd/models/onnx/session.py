"""Predictions of an ONNX file with onnxruntime, on a CPU.

Shapes: N rows, C classes (1: regression).
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from raykd.errors import InputError, reason_of
from raykd.models.inference import token_batches
from raykd.models.onnx.description import FileDescription, read_description

# Padded tokens of a batch: with more, int8 is slower (114 rows per second with 512, 94 with 4096).
_BATCH_TOKENS = 512
# Attribute of an encoded row by input of the file.
_ATTRIBUTES = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class OnnxClassifier:
    """A classifier in an ONNX file, computed in one thread.

    Attributes:
        description: the file's description.

    Raises:
        InputError: the package onnxruntime is missing, or the file is damaged or has no
            description.
    """

    def __init__(self, file: Path) -> None:
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise InputError(
                f'{file}: the package onnxruntime is not installed; pip install ".[onnx]"'
            ) from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises several types of its own
            raise InputError(f"{file}: cannot be loaded: {reason_of(error)}") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description: FileDescription
        self.description, tokenizer = read_description(metadata, file)
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._names = [entry.name for entry in self._session.get_inputs()]

    def num_special_tokens(self, *, is_pair: bool) -> int:
        """Number of special tokens that a text, or a pair, gets."""
        return int(self._tokenizer.num_special_tokens_to_add(is_pair))

    def logits_of(
        self, first: Sequence[str], second: Sequence[str] | None, *, max_length: int
    ) -> NDArray[np.float32]:
        """Logits (N, C) of texts or pairs, in order; rows of similar length share a batch."""
        side = self.description.truncation_side
        self._tokenizer.enable_truncation(max_length, direction=side)
        rows: Any = first if second is None else list(zip(first, second, strict=True))
        encoded = self._tokenizer.encode_batch(list(rows))
        lengths = np.array([len(row.ids) for row in encoded], np.int64)
        logits: NDArray[np.float32] | None = None
        for places in token_batches(lengths, _BATCH_TOKENS):
            batch = self._run([encoded[place] for place in places], int(lengths[places].max()))
            if logits is None:
                logits = np.empty((len(encoded), batch.shape[1]), np.float32)
            logits[places] = batch
        return np.empty((0, 1), np.float32) if logits is None else logits

    def _run(self, rows: Sequence[Any], width: int) -> NDArray[np.float32]:
        inputs = {}
        for name in self._names:
            pad = self.description.pad_id if name == "input_ids" else 0
            values = np.full((len(rows), width), pad, np.int64)
            for number, row in enumerate(rows):
                found = getattr(row, _ATTRIBUTES[name])
                values[number, : len(found)] = found
            inputs[name] = values
        (logits,) = self._session.run(["logits"], inputs)
        return np.asarray(logits, np.float32)
