"""Export of a trained classifier to one ONNX file, to run without PyTorch.

Its inputs are the tokenizer's int64 arrays (B, L), with any B and any L up to the model's limit and
padding on the right; its output is `logits` (B, C). Tokenizer and class names stay in the model's
folder:

    tokenizer = AutoTokenizer.from_pretrained("student")
    session = onnxruntime.InferenceSession("student.onnx")
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
    (logits,) = session.run(["logits"], dict(batch))
    names = AutoConfig.from_pretrained("student").id2label
"""

import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_encoder, load_tokenizer, takes_token_types
from raykd.models.families.layers import KNOWN_FAMILIES
from raykd.models.probe import (
    KINDS_OF_FAILURE,
    check_pad_token,
    check_traits,
    one_line,
    probe,
)
from raykd.models.resolve import checked_model, weights_files
from raykd.models.tokenization.positions import num_positions
from raykd.storage.outputs import output_path
from raykd.storage.working_files import replacing

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# Shapes of the traced batch and of compared batches; lengths are limited to what a model reads.
_TRACED = (2, 8)
_COMPARED = ((1, 4), (2, 9), (5, 33), (16, 128))
# One file holds less than 2 GiB, weights and graph.
_MAX_BYTES = 2_000_000_000


def export_onnx(
    reference: str, out: Path, *, max_difference: float = 1e-4
) -> tuple[float, tuple[str, ...]]:
    """Write a model's ONNX file; returns the largest difference to PyTorch and the input names.

    Raises:
        InputError: the extra `onnx` is not installed, the model is damaged, cannot be loaded or is
            too large, `out` is a directory, or logits differ by more than `max_difference`;
            nothing is written then.
    """
    check_onnx_installed("raykd export")
    out = output_path(out)
    size = sum(path.stat().st_size for path in weights_files(checked_model(reference), reference))
    if size > _MAX_BYTES:
        raise InputError(
            f"model {reference}: it has {size:,} bytes of weights, but an ONNX file holds less "
            f"than {_MAX_BYTES:,}; export a smaller model"
        )
    if out.is_dir():
        raise InputError(f"--out {out}: is a directory; name a file, such as {out}/student.onnx")
    encoder, tokenizer = load_encoder(reference), load_tokenizer(reference)
    check_pad_token(reference, tokenizer)
    names = tuple(tokenizer.model_input_names)
    limit = num_positions(reference)
    missing = probe(encoder, tokenizer, min(_COMPARED[-1][1], limit or _COMPARED[-1][1]))
    check_traits("raykd export", "model", reference, {"logits", "padding"}, missing)

    def batch(num_rows: int, length: int) -> dict[str, Tensor]:
        shape = num_rows, min(length, limit or length)
        inputs = random_batch(encoder, *shape, pad_id=tokenizer.pad_token_id)
        return {name: inputs[name] for name in names}

    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        try:
            _write(encoder, batch(*_TRACED), partial)
        except KINDS_OF_FAILURE as error:
            raise InputError(
                f"model {reference}: a {encoder.model.config.model_type!r} cannot be written as "
                f"ONNX ({one_line(error)}); use it with PyTorch, or export a {KNOWN_FAMILIES}"
            ) from None
        difference = largest_difference(encoder, partial, [batch(*shape) for shape in _COMPARED])
        # Not `>`, which is false for NaN.
        if not difference <= max_difference:
            raise InputError(
                f"model {reference}: the ONNX file's logits differ from PyTorch's by up to "
                f"{difference:.3g}, more than {max_difference:g}; nothing was written. Use the "
                "model with PyTorch, and report its family"
            )
    return difference, names


def random_batch(encoder: Encoder, num_rows: int, length: int, *, pad_id: int) -> dict[str, Tensor]:
    """Random int64 tokens (B, L); the first row is full, the last a quarter full."""
    generator = torch.Generator().manual_seed(0)
    vocabulary_size = encoder.embedding_weight.shape[0]
    lengths = torch.linspace(length, max(1, length // 4), num_rows).long()
    mask = (torch.arange(length) < lengths[:, None]).long()
    ids = torch.randint(vocabulary_size, (num_rows, length), generator=generator)
    second = (torch.arange(length) >= length // 2).long()
    return {
        "input_ids": torch.where(mask == 1, ids, pad_id),
        "attention_mask": mask,
        "token_type_ids": mask * second * takes_token_types(encoder.model),
    }


def largest_difference(encoder: Encoder, file: Path, batches: Sequence[dict[str, Tensor]]) -> float:
    """Largest absolute difference between the logits of an ONNX file and an encoder."""
    import onnxruntime  # an extra

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences = []
    for batch in batches:
        with torch.inference_mode():
            expected = _Classifier(encoder)(**batch).numpy()
        inputs = {name: tensor.numpy() for name, tensor in batch.items()}
        (logits,) = session.run(["logits"], inputs)
        differences.append(np.abs(logits - expected).max())
    return float(np.max(differences))


class _Classifier(nn.Module):
    """Encoder whose only output is its logits."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Logits (B, C)."""
        return self._encoder(input_ids, attention_mask, token_type_ids).logits  # type: ignore[no-any-return]  # modules are called untyped


def _write(encoder: Encoder, batch: dict[str, Tensor], file: Path) -> None:
    axes = {0: Dim("batch"), 1: Dim("length")}
    with _quiet():
        torch.onnx.export(
            _Classifier(encoder).eval(),
            (),
            str(file),
            kwargs=batch,
            input_names=list(batch),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(batch, axes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def check_onnx_installed(what: str) -> None:
    """Check that the packages of the extra `onnx` can be imported.

    Args:
        what: what needs them, for the message.

    Raises:
        InputError: one is not installed.
    """
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise InputError(
                f'{what}: the package {name} is not installed; pip install ".[onnx]"'
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager that silences the exporter; the logits are compared afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
