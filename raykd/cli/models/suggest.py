"""The command `raykd suggest`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd.operations.suggest import Suggested
from raykd.operations.suggest import suggest as suggest_rows
from raykd.storage.locations import location_of


def suggest(
    run: Annotated[Path, Parameter(help="Run directory with a student, or a cross-validation's.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="Table to write: .csv or .jsonl.")],
    rows: Annotated[int, Parameter(help="Rows to choose.")] = 50,
    corpus: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Files, folders or URLs of texts (default: the run's contextualized corpus).",
        ),
    ] = None,
    text_columns: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="--corpus: the column of the text, or the two of a pair.",
            show_default="text",
        ),
    ] = None,
    seed: Annotated[int, Parameter(help="Seed of the choice.")] = 0,
    device: Annotated[
        Literal["auto", "cpu", "gpu"],
        Parameter(help="Where the student computes; auto: on GPUs if the cluster has any."),
    ] = "auto",
) -> None:
    """Choose rows, write the table, and print how to use it."""
    suggested = suggest_rows(
        run,
        out,
        corpus=[location_of(path) for path in corpus or ()],
        text_columns=("text",) if text_columns is None else tuple(text_columns),
        num_rows=rows,
        seed=seed,
        device=device,
    )
    print(_summary(out, suggested, rows))  # noqa: T201  # the command's answer


def _summary(out: Path, suggested: Suggested, num_wanted: int) -> str:
    classes = ", ".join(f"{label} {number}" for label, number in suggested.by_label.items())
    lines = [
        f"{out}: {suggested.num_rows} rows to label, of {suggested.num_texts:,} new texts; "
        f"predicted as {classes}",
        f"fill in the labels, then name both files in the recipe: train: [..., {out}]",
    ]
    if suggested.num_rows < min(num_wanted, suggested.num_texts):
        lines.insert(1, "the other texts are equal for the student")
    return "\n".join(lines)
