"""The command `raykd export`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raykd.models.onnx_export import export_onnx


def export(
    model: Annotated[
        str, Parameter(help="A fine-tuned model: folder, package:NAME/FOLDER, or hub name.")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="ONNX file to write.")],
) -> None:
    """Write a model as one ONNX file, after checking that its logits equal PyTorch's."""
    difference, names = export_onnx(model, out)
    print(  # noqa: T201  # the command's answer
        f"{out}: inputs {', '.join(names)}; output logits; within {difference:.1g} of PyTorch"
    )
