"""ONNX files with int8 weights, by the quantization of onnxruntime.

Weights of matrix products and embeddings are int8. "dynamic": activations are quantized by the
range of each batch. "static": by ranges measured on the user's rows before.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

Int8 = Literal["dynamic", "static"]

_OPERATORS = ["MatMul", "Gemm", "Gather"]
# Rows of a calibration batch, and of the calibration in all.
_BATCH_ROWS = 16
MAX_CALIBRATION_ROWS = 256


def write_int8(
    source: Path,
    out: Path,
    kind: Int8,
    *,
    rows: Sequence[tuple[str, ...]] = (),
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> None:
    """Write the int8 version of an ONNX file of `export_onnx`.

    Args:
        source: file with float32 weights.
        out: file to write.
        kind: how activations are quantized.
        rows: texts or pairs that are read to measure the ranges of activations, for "static".
        tokenizer: tokenizer of the model.
        max_length: tokens per row.
    """
    import onnx  # an extra
    from onnxruntime import quantization

    model = onnx.load(source)
    # The exporter's shapes of intermediate values contradict those of the rewritten operators.
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        bare = Path(folder) / "bare.onnx"
        onnx.save(model, bare)
        if kind == "dynamic":
            quantization.quantize_dynamic(
                bare,
                out,
                op_types_to_quantize=_OPERATORS,
                weight_type=quantization.QuantType.QInt8,
            )
            return
        names = [entry.name for entry in model.graph.input]
        batches = _batches(rows, tokenizer, names, max_length)

        class Rows(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped package
            def get_next(self) -> dict[str, Any] | None:
                return next(batches, None)

        quantization.quantize_static(
            bare,
            out,
            Rows(),
            quant_format=quantization.QuantFormat.QOperator,
            op_types_to_quantize=_OPERATORS,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # Products of two activations, as in attention, lose too much.
            extra_options={"MatMulConstBOnly": True},
        )


def _batches(
    rows: Sequence[tuple[str, ...]],
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    max_length: int,
) -> Iterator[dict[str, Any]]:
    # A file may be sorted by label or length.
    places = np.linspace(0, len(rows) - 1, min(MAX_CALIBRATION_ROWS, len(rows))).round()
    chosen = [rows[place] for place in places.astype(int)]
    for start in range(0, len(chosen), _BATCH_ROWS):
        texts = list(zip(*chosen[start : start + _BATCH_ROWS], strict=True))
        encoded = tokenizer(
            *(list(column) for column in texts),
            padding=True,
            truncation=True,
            max_length=max_length,
            return_tensors="np",
        )
        yield {name: np.asarray(encoded[name], np.int64) for name in names}


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
