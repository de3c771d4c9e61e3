"""Description of a classifier inside its ONNX file: classes, lengths, tokenizer.

With it, onnxruntime and tokenizers are enough to use the file (docs/predict.md).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from raykd.errors import InputError
from raykd.models.calibration import Calibration, parse_calibration

# Keys of the file's metadata.
_ABOUT = "raykd"
_TOKENIZER = "tokenizer"


class FileDescription(BaseModel):
    """Description of a classifier in an ONNX file.

    Attributes:
        model: reference of the exported model.
        digest: digest of its files.
        labels: names of the classes; empty for regression.
        max_length: tokens per row.
        pad_id: id of the padding token.
        truncation_side: side on which longer rows are cut: right or left.
        precision: numbers of the weights: float32 or int8.
        multi_label: whether a row has any number of the classes: a probability is the sigmoid of a
            logit, not the softmax of all.
        scores: main score on the dev rows by precision, if it was measured, and its metric.
        calibration: temperature and thresholds of the probabilities, measured with float32
            weights; None if the model has none.
        raykd_version: version of raykd.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    digest: str
    labels: tuple[str, ...]
    max_length: int
    pad_id: int
    truncation_side: str = "right"
    precision: str = "float32"
    multi_label: bool = False
    scores: dict[str, dict[str, float]] = {}
    calibration: Calibration | None = None
    raykd_version: str


def write_description(
    file: Path, description: FileDescription, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Add a description and the tokenizer, with its side of truncation, to an ONNX file.

    A tokenizer without a file of the library tokenizers is left out: the file then needs the
    model's folder.
    """
    import onnx  # an extra

    model = onnx.load(file)
    del model.metadata_props[:]
    cut = {"truncation_side": tokenizer.truncation_side}
    texts = {_ABOUT: description.model_copy(update=cut).model_dump_json()}
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        backend = tokenizer.backend_tokenizer
        # Settings of the last call would be part of the text.
        backend.no_truncation()
        backend.no_padding()
        texts[_TOKENIZER] = backend.to_str()
    for key, value in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, file)


def read_description(metadata: Mapping[str, str], file: Path) -> tuple[FileDescription, str]:
    """The description and the tokenizer in the metadata of an ONNX file.

    Args:
        metadata: `custom_metadata_map` of a session of onnxruntime.
        file: the file, for messages.

    Raises:
        InputError: the file has none; it was not written by this version of `raykd export`; or its
            calibration is damaged.
    """
    try:
        values: Any = json.loads(metadata[_ABOUT])
    except (KeyError, ValueError):
        values = None
    if isinstance(values, dict) and values.get("calibration") is not None:
        parse_calibration(values["calibration"], str(file))
    try:
        return FileDescription.model_validate(values), metadata[_TOKENIZER]
    except (KeyError, ValueError, ValidationError):
        raise InputError(
            f"{file}: has no classes and no tokenizer in it; export the model again with "
            "raykd export, or give the model's folder"
        ) from None
