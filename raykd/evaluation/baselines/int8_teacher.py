"""The teacher with int8 weights: what a smaller file costs without another model.

Weights of matrix products and embeddings are int8, activations are quantized by the range of each
batch, by onnxruntime (extra `onnx`).
"""

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.evaluation.baselines.fitted import Fitted
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.onnx.description import FileDescription, write_description
from raykd.models.onnx.export import export_onnx
from raykd.models.onnx.int8 import write_int8
from raykd.models.onnx.session import OnnxClassifier
from raykd.models.resolve import digest_of_model

_FILE = "model.onnx"


def make_int8(model: str, folder: Path, *, max_length: int) -> None:
    """Write the int8 ONNX file of a fine-tuned classifier to `folder`.

    Args:
        model: folder of the classifier.
        folder: folder to write.
        max_length: tokens per row.

    Raises:
        InputError: the model cannot be written as ONNX.
    """
    tokenizer = load_tokenizer(model)
    with tempfile.TemporaryDirectory() as temporary:
        float32 = Path(temporary) / _FILE
        export_onnx(model, float32)
        write_int8(float32, folder / _FILE, "dynamic", tokenizer=tokenizer, max_length=max_length)
    encoder = load_encoder(model)
    description = FileDescription(
        model=model,
        digest=digest_of_model(model),
        labels=encoder.label_names,
        multi_label=encoder.is_multi_label,
        max_length=max_length,
        pad_id=tokenizer.pad_token_id or 0,
        precision="int8",
        raykd_version=version("raykd"),
    )
    write_description(folder / _FILE, description, tokenizer)


def load_int8(folder: Path, *, max_length: int, num_parameters: int) -> Fitted:
    """Load what `make_int8` wrote.

    Args:
        folder: its folder.
        max_length: tokens per row.
        num_parameters: number of weights.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / _FILE
    classifier = OnnxClassifier(file)

    def predict(rows: pa.Table) -> NDArray[np.float32]:
        first = rows["sentence1"].to_pylist()
        is_single = rows["sentence2"].null_count == rows.num_rows
        second = None if is_single else rows["sentence2"].to_pylist()
        return classifier.logits_of(first, second, max_length=max_length)

    return Fitted(predict, num_parameters, file.stat().st_size)
