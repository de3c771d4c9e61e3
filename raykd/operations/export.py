"""Export of a model to one ONNX file: as it is, or made smaller and passed by a gate."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from raykd.errors import InputError
from raykd.evaluation.int8_gate import FileMeasures, measure_files
from raykd.models.calibration import Calibration, check_classes, read_calibration
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.onnx.description import FileDescription, write_description
from raykd.models.onnx.export import export_onnx
from raykd.models.onnx.int8 import write_int8
from raykd.models.resolve import checked_model, digest_of_model, student_of_run
from raykd.models.tokenization.positions import trained_length
from raykd.models.tokenization.pruning import (
    check_prunable,
    count_tokens,
    kept_tokens,
    write_pruned,
)
from raykd.operations.corpus_tokens import count_corpus_tokens
from raykd.operations.export_gate import LabeledRows, Reduction, labeled_rows
from raykd.storage.outputs import output_path
from raykd.storage.working_files import replacing


class Exported(NamedTuple):
    """A written file: its inputs, how far its float32 logits are from PyTorch's, calibration.

    If it was made smaller, also the measures of the whole float32 file and of the written one, and
    the number of tokens before and after.
    """

    inputs: tuple[str, ...]
    difference: float
    metric: str = ""
    whole: FileMeasures | None = None
    reduced: FileMeasures | None = None
    calibration: Calibration | None = None
    num_tokens: tuple[int, int] | None = None


def export_model(reference: str, out: Path, reduction: Reduction | None = None) -> Exported:
    """Write a model's ONNX file, which describes itself (`models.onnx.description`).

    Args:
        reference: run directory or model, see `models.resolve.student_of_run`.
        out: file to write.
        reduction: how the file is made smaller; None: not at all.

    Raises:
        InputError: see `export_onnx`; the model's calibration is damaged or of other classes; there
            are no labeled rows for the gate; tokens of the model cannot be left out; or the smaller
            file loses more than `max_loss`. Nothing is written then.
    """
    out = output_path(out)
    student = student_of_run(reference)
    if out.is_dir():
        raise InputError(f"--out {out}: is a directory; name a file, such as {out}/student.onnx")
    calibration = read_calibration(checked_model(student))
    if reduction is not None and reduction.vocabulary_of:
        check_prunable(student)
    rows = None if reduction is None else labeled_rows(reference, student, reduction)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float32.onnx"
        difference, inputs = export_onnx(student, whole)
        tokenizer = load_tokenizer(student)
        encoder = load_encoder(student)
        labels = encoder.label_names
        if calibration is not None:
            check_classes(calibration, labels, student)
        description = FileDescription(
            model=student,
            digest=digest_of_model(student),
            labels=labels,
            max_length=trained_length(student, tokenizer),
            pad_id=tokenizer.pad_token_id or 0,
            multi_label=encoder.is_multi_label,
            calibration=calibration,
            raykd_version=version("raykd"),
        )
        write_description(whole, description, tokenizer)
        exported = Exported(inputs, difference, calibration=calibration)
        written = whole
        if reduction is not None:
            assert rows is not None
            written = Path(folder) / "reduced.onnx"
            exported = _reduce(student, whole, written, description, reduction, rows, exported)
            _check_loss(exported, reduction)
        with replacing(out) as partial:
            shutil.copyfile(written, partial)
    return exported


def _reduce(
    student: str,
    whole: Path,
    written: Path,
    description: FileDescription,
    reduction: Reduction,
    rows: LabeledRows,
    exported: Exported,
) -> Exported:
    """Write the smaller file, and measure both."""
    source, tokenizer, difference = whole, load_tokenizer(student), exported.difference
    num_tokens = None
    if reduction.vocabulary_of:
        size = int(load_encoder(student).model.config.vocab_size or 0)
        counts = count_corpus_tokens(
            student, reduction.vocabulary_of, reduction.text_columns, size, written
        )
        for texts in zip(*rows.training, strict=True):
            counts += count_tokens(tokenizer, texts, size)
        kept = kept_tokens(student, counts)
        num_tokens = (size, len(kept))
        pruned = written.with_name("pruned")
        write_pruned(student, kept, pruned)
        source, tokenizer = written.with_name("pruned.onnx"), load_tokenizer(str(pruned))
        difference, _ = export_onnx(str(pruned), source)
        description = description.model_copy(update={"pad_id": tokenizer.pad_token_id or 0})
    if reduction.int8 is None:
        shutil.copyfile(source, written)
    else:
        write_int8(
            source,
            written,
            reduction.int8,
            rows=rows.calibration,
            tokenizer=tokenizer,
            max_length=description.max_length,
        )
    write_description(written, description, tokenizer)
    measures = measure_files(
        [whole, written], rows.dev, [rows.metric], max_length=description.max_length
    )
    scores = {
        name: found.scores
        for name, found in zip(("float32", reduction.title), measures, strict=True)
    }
    update = {"precision": "int8" if reduction.int8 else "float32", "scores": scores}
    write_description(written, description.model_copy(update=update), tokenizer)
    return exported._replace(
        difference=difference,
        metric=rows.metric,
        whole=measures[0],
        reduced=measures[1],
        num_tokens=num_tokens,
    )


def _check_loss(exported: Exported, reduction: Reduction) -> None:
    """Refuse a smaller file that loses too much.

    Raises:
        InputError: names the loss and the remedy.
    """
    lost = points_lost(exported)
    # Not `>`, which is false for NaN.
    if not lost <= reduction.max_loss:
        remedies = []
        if reduction.vocabulary_of:
            remedies.append("name more text for the vocabulary")
        if reduction.int8 is not None:
            other = "static" if reduction.int8 == "dynamic" else "dynamic"
            remedies.append(f"try --int8 {other}")
        raise InputError(
            f"raykd export: the {reduction.title} file loses {lost:.2f} points of "
            f"{exported.metric} on the dev rows, more than {reduction.max_loss:g}; nothing was "
            f"written: {', '.join(remedies)}, allow more with --max-loss, or export float32"
        )


def points_lost(exported: Exported) -> float:
    """Points (times 100) of the metric that a smaller file loses; negative if it gains."""
    assert exported.whole is not None
    assert exported.reduced is not None
    metric = exported.metric
    # Rounded beyond the digits that rows can change, so that equal scores differ by 0.
    return round(100 * (exported.whole.scores[metric] - exported.reduced.scores[metric]), 9)
