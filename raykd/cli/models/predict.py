"""The command `raykd predict`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd.cli import summaries
from raykd.cli.options.reading import ColumnNames
from raykd.prediction.config import PredictConfig
from raykd.prediction.glue_file import GLUE_FILES
from raykd.prediction.pipeline import predict_files
from raykd.storage.delimited import Layout
from raykd.storage.locations import location_of
from raykd.storage.remote.output import output_at
from raykd.tasks.glue import GLUE


def predict(
    model: Annotated[
        str,
        Parameter(
            help="A trained classifier: run directory or folder of a model, as path or URL; "
            "package:NAME/FOLDER; or hub name."
        ),
    ],
    /,
    *,
    data: Annotated[
        list[str],
        Parameter(
            consume_multiple=True,
            negative="",
            help="Files, folders or URLs of rows: Parquet, JSONL, CSV, TSV or text.",
        ),
    ],
    out: Annotated[Path, Parameter(name="--out", help="Output directory or URL.")],
    text_columns: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="The column of the text, or the two of a pair.",
            show_default="text; with --glue those of the task",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        Parameter(
            help="Mark rows whose prediction has a smaller probability, in the column "
            "is_uncertain; of a multi-label model: smallest probability of a predicted class, "
            "instead of 0.5."
        ),
    ] = None,
    precision: Annotated[
        float | None,
        Parameter(
            help="Instead of --threshold: the threshold above which this share of the dev rows of "
            "the student's run was predicted right, such as 0.95."
        ),
    ] = None,
    uncalibrated: Annotated[
        bool,
        Parameter(
            negative="",
            help="Write the model's own probabilities, without the temperature of its calibration.",
            show_default="no",
        ),
    ] = False,
    embeddings: Annotated[
        bool,
        Parameter(negative="", help="Add the column embedding.", show_default="no"),
    ] = False,
    max_length: Annotated[
        int | None,
        Parameter(
            help="Tokens per row; longer rows are cut.", show_default="as trained, at most 512"
        ),
    ] = None,
    prefix: Annotated[
        str, Parameter(help="Beginning of the names of the added columns.", show_default="none")
    ] = "",
    glue: Annotated[
        str | None,
        Parameter(
            help="Write the file of this test set for the GLUE server too: "
            + ", ".join(GLUE_FILES)
            + "."
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "gpu"],
        Parameter(help="Where to compute; auto: on GPUs if the cluster has any."),
    ] = "auto",
    exclude: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Skip files and folders with these names or paths (patterns such as '*.md').",
        ),
    ] = None,
    columns: ColumnNames = None,
    quoting: Annotated[
        Literal["auto", "none", "standard"],
        Parameter(help="Quotation marks around fields of CSV and TSV files."),
    ] = "auto",
) -> None:
    """Predict the rows of files, and print a summary.

    Raises:
        InputError: the model, a file or an option is not as it should be.
    """
    config = PredictConfig(
        text_columns=_text_columns(text_columns, glue),
        threshold=threshold,
        precision=precision,
        calibrated=not uncalibrated,
        with_embeddings=embeddings,
        max_length=max_length,
        prefix=prefix,
        glue=glue,
        exclude=tuple(exclude or ()),
        layout=Layout(None if columns is None else tuple(columns), quoting),
    )
    with output_at(out) as folder:
        manifest = predict_files(
            model, [location_of(path) for path in data], folder, config, device=device
        )
    print(summaries.of_predict(out, manifest))  # noqa: T201  # the command's answer


def _text_columns(given: list[str] | None, glue: str | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    known = GLUE_FILES.get(glue or "")
    return ("text",) if known is None else GLUE[known.task].sentence_columns
