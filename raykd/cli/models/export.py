"""The command `raykd export`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd.errors import InputError
from raykd.operations.export import Exported, export_model, points_lost
from raykd.operations.export_gate import Reduction
from raykd.storage.locations import location_of


def export(
    model: Annotated[
        str,
        Parameter(
            help="Run directory, or a fine-tuned model: folder, URL, package:NAME/FOLDER, hub name."
        ),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="ONNX file to write.")],
    int8: Annotated[
        Literal["dynamic", "static"] | None,
        Parameter(
            help="Write int8 weights: activations are quantized by the range of each batch "
            "(dynamic), or by ranges measured on training rows (static)."
        ),
    ] = None,
    prune_vocabulary: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Leave tokens out that are in none of these files, folders or URLs of text, nor "
            "in the run's training rows. For WordPiece and Unigram tokenizers.",
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        Parameter(
            help="Smaller files: points of the metric that may be lost on the dev rows, else "
            "nothing is written.",
            show_default="0.5",
        ),
    ] = None,
    dev: Annotated[
        str | None,
        Parameter(help="Smaller files: labeled rows to measure the loss on (default: the run's)."),
    ] = None,
    text_columns: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="--dev and --prune-vocabulary: the column of the text, or the two of a pair.",
            show_default="text",
        ),
    ] = None,
    label_column: Annotated[
        str | None, Parameter(help="--dev: the column of the label.", show_default="label")
    ] = None,
    metric: Annotated[
        str | None,
        Parameter(
            help="Smaller files: accuracy, f1, matthews, pearson or spearman (default: that of the "
            "run)."
        ),
    ] = None,
) -> None:
    """Write a model as one ONNX file, after checking that its logits equal PyTorch's."""
    of_gate = {"max_loss": max_loss, "dev": dev, "metric": metric}
    of_text = {"text_columns": text_columns, "label_column": label_column}
    given = {name: value for name, value in (of_gate | of_text).items() if value is not None}
    if int8 is None and not prune_vocabulary and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"raykd export: {names}: use with --int8 or --prune-vocabulary")
    if dev is None and label_column is not None:
        raise InputError("raykd export: --label-column: use with --dev FILE")
    if dev is None and text_columns is not None and not prune_vocabulary:
        raise InputError("raykd export: --text-columns: use with --dev or --prune-vocabulary")
    reduction = None
    if int8 is not None or prune_vocabulary:
        reduction = Reduction(
            int8,
            tuple(location_of(path) for path in prune_vocabulary or ()),
            max_loss=0.5 if max_loss is None else max_loss,
            dev=None if dev is None else location_of(dev),
            text_columns=("text",) if text_columns is None else tuple(text_columns),
            label_column=label_column or "label",
            metric=metric,
        )
    exported = export_model(model, out, reduction)
    print(_summary(out, exported, reduction))  # noqa: T201  # the command's answer


def _summary(out: Path, exported: Exported, reduction: Reduction | None) -> str:
    lines = [
        f"{out}: inputs {', '.join(exported.inputs)}; output logits; "
        f"within {exported.difference:.1g} of PyTorch"
    ]
    calibration = exported.calibration
    if calibration is not None and calibration.problem is None:
        is_whole = exported.reduced is None
        weights = "" if is_whole else ", fitted with the whole vocabulary and float32 weights"
        lines.append(f"calibration: temperature {calibration.temperature:.3g}{weights}")
    full, small = exported.whole, exported.reduced
    if reduction is None or full is None or small is None:
        return "\n".join(lines)
    lines[0] = lines[0].replace("; within", "; float32 weights within")
    lost = points_lost(exported)
    change = f"{lost:.2f} points lost" if lost > 0 else f"{-lost:.2f} points gained"
    size = small.num_bytes / full.num_bytes
    speed = full.ms_per_row / small.ms_per_row
    score = [f"{100 * measures.scores[exported.metric]:.2f}" for measures in (full, small)]
    megabytes = [f"{measures.num_bytes / 1e6:.1f} MB" for measures in (full, small)]
    times = [f"{measures.ms_per_row:.2f} ms" for measures in (full, small)]
    rows = [
        ("", "float32", reduction.title, ""),
        (f"{exported.metric} x 100", *score, "no change" if lost == 0 else change),
        ("size", *megabytes, f"{size:.2f} times"),
        ("time per row", *times, f"{speed:.1f} times as fast, one row at a time, one thread"),
    ]
    if exported.num_tokens is not None:
        before, after = exported.num_tokens
        rows.append(("tokens", f"{before:,}", f"{after:,}", f"{after / before:.2f} times"))
    lines += [f"{a:>18} {b:>10} {c:>11}  {d}".rstrip() for a, b, c, d in rows]
    return "\n".join(lines)
