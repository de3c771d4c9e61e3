"""Predictions of a classifier for a table of rows.

Shapes: N rows, C classes (1: regression), d width.
"""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.special import expit
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.evaluation.calibration.temperature import probabilities
from raykd.models.calibration import Calibration, check_classes
from raykd.models.encoder import Encoder, load_encoder, load_tokenizer
from raykd.models.inference import check_finite, token_batches
from raykd.models.onnx.session import OnnxClassifier
from raykd.models.pooling import pooled
from raykd.models.resolve import digest_of_model, resolve_model, student_of_run
from raykd.models.threads import one_thread
from raykd.models.tokenization.positions import check_max_length, trained_length
from raykd.models.tokenization.tokens import collate, to_device, tokenize
from raykd.prediction.columns_of_run import check_columns_of_run
from raykd.prediction.confidence import calibration_in, check_confidence
from raykd.prediction.config import PredictConfig
from raykd.prediction.parts import check_text
from raykd.storage.manifest import digest_of_file

# Padded tokens of a batch: on a CPU more are not faster, on a GPU fewer would be slower.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}
# Smallest probability of a class that a multi-label model predicts, as in `tasks.metrics`.
_DECISION = 0.5


ONNX_SUFFIX = ".onnx"


class Outputs(NamedTuple):
    """Outputs of a classifier."""

    logits: NDArray[np.float32]  # (N, C)
    embeddings: NDArray[np.float32] | None  # (N, d)


@dataclass(frozen=True)
class Classifier:
    """A saved classifier; it can be sent to other processes, which load it once.

    Attributes:
        reference: the model as the user named it.
        folder: its files, or an ONNX file of `raykd export`.
        digest: digest of the files.
        labels: names of the classes; empty for regression.
        max_length: tokens per row.
        width: width of an embedding.
        num_bytes: bytes of the weights in memory.
        calibration: that of its probabilities; None if it has none, or none is wanted.
        multi_label: whether a row has any number of the classes.
        precision: numbers of the weights: float32, or int8 in some ONNX files.
    """

    reference: str
    folder: Path
    digest: str
    labels: tuple[str, ...]
    max_length: int
    width: int
    num_bytes: int
    calibration: Calibration | None = None
    multi_label: bool = False
    precision: str = "float32"

    @classmethod
    def load(cls, reference: str, config: PredictConfig) -> "Classifier":
        """Load a model's description.

        Args:
            reference: see `resolve_model`; or a run directory, whose student is loaded.
            config: settings.

        Raises:
            InputError: the model cannot be found or read, has no trained classifier, no tokenizer,
                two classes of one name, or reads fewer tokens; the task of its run has another
                number of texts per row; the length leaves no token for a text; its calibration is
                damaged; or it is a regression and there is a threshold or a precision.
        """
        check_columns_of_run(reference, config.text_columns)
        reference = student_of_run(reference)
        if reference.endswith(ONNX_SUFFIX) and Path(reference).is_file():
            return cls._of_file(Path(reference), config)
        folder = resolve_model(reference).absolute()
        digest = digest_of_model(reference)
        encoder, tokenizer = _load(folder, digest, "cpu")
        labels = encoder.label_names
        if len(set(labels)) < len(labels):
            raise InputError(
                f"model {reference}: two of its classes have the same name; correct id2label in "
                f"{folder / 'config.json'}"
            )
        multi_label = encoder.is_multi_label
        check_confidence(reference, labels, config, multi_label=multi_label)
        calibration = calibration_in(folder, labels, config)
        max_length = config.max_length or trained_length(reference, tokenizer)
        check_max_length("predict: max_length", max_length, reference)
        num_texts = len(config.text_columns)
        _check_room(max_length, tokenizer.num_special_tokens_to_add(num_texts == 2), num_texts)
        num_bytes = sum(p.numel() * p.element_size() for p in encoder.parameters())
        width = encoder.hidden_size
        return cls(
            reference,
            folder,
            digest,
            labels,
            max_length,
            width,
            num_bytes,
            calibration,
            multi_label,
        )

    @classmethod
    def _of_file(cls, file: Path, config: PredictConfig) -> "Classifier":
        """Load the description of an ONNX file."""
        file, digest = file.resolve(), digest_of_file(file)
        description = _load_file(file, digest).description
        labels = description.labels
        multi_label = description.multi_label
        check_confidence(str(file), labels, config, multi_label=multi_label)
        calibration = description.calibration if config.calibrated else None
        if calibration is not None:
            check_classes(calibration, labels, str(file))
        if config.with_embeddings:
            raise InputError(
                f"predict: {file} computes no embeddings; give the model's folder instead"
            )
        max_length = config.max_length or description.max_length
        if max_length > description.max_length:
            raise InputError(
                f"predict: max_length {max_length}: {file} reads at most {description.max_length} "
                "tokens; set it to that or less"
            )
        num_texts = len(config.text_columns)
        num_special = _load_file(file, digest).num_special_tokens(is_pair=num_texts == 2)
        _check_room(max_length, num_special, num_texts)
        num_bytes = file.stat().st_size
        return cls(
            str(file),
            file,
            digest,
            labels,
            max_length,
            0,
            num_bytes,
            calibration,
            multi_label,
            description.precision,
        )

    @property
    def needs_cpu(self) -> bool:
        """Return whether it is an ONNX file, which is computed on a CPU."""
        return self.folder.suffix == ONNX_SUFFIX

    @property
    def temperature(self) -> float:
        """Divisor of the logits before the softmax; 1 without a calibration."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def settings(self) -> dict[str, Any]:
        """Settings that determine the predictions, in addition to its files and `PredictConfig`."""
        scaled = {} if self.temperature == 1 else {"temperature": self.temperature}
        sets = {"multi_label": True} if self.multi_label else {}
        return {"max_length": self.max_length, **scaled, **sets}

    def outputs_of(
        self,
        first: Sequence[str],
        second: Sequence[str] | None,
        *,
        device: str,
        with_embeddings: bool,
    ) -> Outputs:
        """Compute the outputs for N texts or pairs in order.

        On a CPU it computes in one thread and in float32, on a GPU in bfloat16. Rows of similar
        length share a batch.

        Raises:
            InputError: logits are not finite.
        """
        if self.needs_cpu:
            file = _load_file(self.folder, self.digest)
            logits = file.logits_of(first, second, max_length=self.max_length)
            check_finite(logits, self.reference, "batch of data")
            return Outputs(logits, None)
        encoder, tokenizer = _load(self.folder, self.digest, device)
        rows = tokenize(tokenizer, first, second, max_length=self.max_length)
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        logits = np.empty((len(rows), encoder.num_labels), np.float32)
        embeddings = np.empty((len(rows), self.width), np.float32) if with_embeddings else None
        layers = (encoder.num_layers,) if with_embeddings else ()
        with one_thread(), torch.inference_mode(), _precision(device):
            for places in token_batches(rows.lengths, _BATCH_TOKENS[device]):
                batch = collate(rows, places, pad_id=pad_id, regression=False)
                batch = to_device(batch, torch.device(device))
                mask = batch["attention_mask"]
                output = encoder(
                    batch["input_ids"], mask, batch.get("token_type_ids"), layers=layers
                )
                logits[places] = output.logits.float().cpu().numpy()
                if embeddings is not None:
                    states = output.hidden_states[encoder.num_layers]
                    embeddings[places] = pooled(states, mask, "mean").cpu().numpy()
        check_finite(logits, self.reference, "batch of data")
        return Outputs(logits, embeddings)

    def added_fields(self, config: PredictConfig) -> list[pa.Field]:
        """Fields of the columns that `predicted` adds."""
        if not self.labels:
            fields = [pa.field(config.prediction, pa.float64())]
        else:
            by_label = pa.struct([(label, pa.float32()) for label in self.labels])
            chosen = [
                pa.field(config.prediction, pa.string()),
                pa.field(config.probability, pa.float32()),
            ]
            if self.multi_label:
                chosen = [pa.field(config.prediction, pa.list_(pa.string()))]
            fields = [*chosen, pa.field(config.probabilities, by_label)]
        if config.threshold is not None and not self.multi_label:
            fields.append(pa.field(config.is_uncertain, pa.bool_()))
        if config.with_embeddings:
            fields.append(pa.field(config.embedding, pa.list_(pa.float32(), self.width)))
        return fields

    def predicted(self, table: pa.Table, config: PredictConfig, *, device: str) -> pa.Table:
        """Add the predictions to rows; those without text get nulls.

        A row has no text if its columns of text are null or white space.

        Raises:
            InputError: a column of text holds other values; see also `outputs_of`.
        """
        for name in config.text_columns:
            check_text("the rows", name, table.schema.field(name).type, binary=True)
        texts = [table[name].cast(pa.string()).to_pylist() for name in config.text_columns]
        kept = [
            number
            for number, row in enumerate(zip(*texts, strict=True))
            if any(text and not text.isspace() for text in row)
        ]
        first, *others = ([column[number] or "" for number in kept] for column in texts)
        arrays = []
        if kept:
            outputs = self.outputs_of(
                first,
                others[0] if others else None,
                device=device,
                with_embeddings=config.with_embeddings,
            )
            arrays = self._arrays(outputs, config)
        fields = self.added_fields(config)
        # Row `number` of the table is row `places[number]` of the outputs, or none.
        places = np.full(table.num_rows, -1)
        places[kept] = np.arange(len(kept))
        indices = pa.array(places, mask=places < 0)
        for number, field in enumerate(fields):
            nulls = pa.nulls(table.num_rows, field.type)
            table = table.append_column(field, arrays[number].take(indices) if arrays else nulls)
        return table

    def _arrays(self, outputs: Outputs, config: PredictConfig) -> list[pa.Array]:
        """Columns of `added_fields` for rows with text."""
        logits = outputs.logits.astype(np.float64)
        if not self.labels:
            arrays = [pa.array(logits[:, 0])]
        elif self.multi_label:
            shares = expit(logits)
            limit = _DECISION if config.threshold is None else config.threshold
            names = np.asarray(self.labels, object)
            arrays = [
                pa.array([list(names[row]) for row in shares >= limit], pa.list_(pa.string())),
                pa.StructArray.from_arrays(
                    [pa.array(column.astype(np.float32)) for column in shares.T],
                    names=list(self.labels),
                ),
            ]
        else:
            shares = probabilities(logits, self.temperature).astype(np.float32)
            chosen = logits.argmax(axis=1)
            probability = shares[np.arange(len(chosen)), chosen]
            by_label = [pa.array(np.ascontiguousarray(column)) for column in shares.T]
            arrays = [
                pa.array(self.labels, pa.string()).take(pa.array(chosen)),
                pa.array(probability),
                pa.StructArray.from_arrays(by_label, names=list(self.labels)),
            ]
            if config.threshold is not None:
                arrays.append(pa.array(probability < config.threshold))
        if outputs.embeddings is not None:
            values = pa.array(outputs.embeddings.ravel())
            arrays.append(pa.FixedSizeListArray.from_arrays(values, self.width))
        return arrays


def _check_room(max_length: int, num_special: int, num_texts: int) -> None:
    """Refuse a length without a token for each text: all rows would be the same to the model."""
    if max_length < num_special + num_texts:
        raise InputError(
            f"predict: max_length {max_length}: {num_special} tokens of a row are special ones, "
            f"which leaves too few for the text; set it to {num_special + num_texts} or more"
        )


def _precision(device: str) -> AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()


# Caches of one: a process predicts with one model.
@functools.lru_cache(maxsize=1)
def _load_file(file: Path, digest: str) -> OnnxClassifier:
    return OnnxClassifier(file)


@functools.lru_cache(maxsize=1)
def _load(folder: Path, digest: str, device: str) -> tuple[Encoder, PreTrainedTokenizerBase]:
    """Load a classifier and its tokenizer; changed files have another digest."""
    return load_encoder(str(folder)).to(device), load_tokenizer(str(folder))
