"""The command `raykd init`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd.tasks.class_counts import limits
from raykd.workflow.starter.recipe import default_teacher, new_recipe, starter_recipe, write_starter
from raykd.workflow.starter.task import StarterTask, find_task


def init(
    name: Annotated[str, Parameter(name="NAME", help="Name of the run and of its recipe.")],
    /,
    *,
    train: Annotated[
        str, Parameter(help="Path or URL of labeled rows: Parquet, JSONL, CSV or TSV.")
    ],
    dev: Annotated[
        str | None,
        Parameter(
            help="Labeled rows on which models are scored, not in --train (default: a tenth of "
            "the rows of --train, which is then not trained on; with fewer than 64 rows per class, "
            "cross-validation)."
        ),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="Files or folders of general text."),
    ] = None,
    unlabeled: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Files or folders of unlabeled texts like those of --train, all of which students "
            "learn the teacher's answers on.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        Parameter(
            help="The pretrained model: folder, package:NAME/FOLDER or hub name (default: the "
            "package of the extra demo if installed, else roberta-base)."
        ),
    ] = None,
    text_columns: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True, negative="", help="One column of text, or two (default: found)."
        ),
    ] = None,
    label_column: Annotated[
        str | None, Parameter(help="The column of the label (default: found).")
    ] = None,
    labels: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True, negative="", help="The classes in order (default: sorted)."
        ),
    ] = None,
    unlabeled_rows: Annotated[
        Literal["error", "skip"], Parameter(help="Refuse rows without a label, or leave them out.")
    ] = "error",
    regression: Annotated[bool, Parameter(negative="", help="The labels are scores.")] = False,
) -> None:
    """Find the task in its files, and write NAME.yaml.

    Raises:
        InputError: a column cannot be found, a row is not as it should be, or NAME.yaml exists.
    """
    path = new_recipe(name)
    starter = find_task(
        name,
        train,
        dev,
        columns=text_columns,
        label=label_column,
        labels=labels,
        unlabeled_rows=unlabeled_rows,
        regression=regression,
    )
    teacher = teacher or default_teacher()
    text = starter_recipe(name, starter, teacher, corpus or [], unlabeled or [])
    write_starter(path, text)
    attention = [line.removeprefix("# ") for line in text.splitlines() if "Attention:" in line]
    print("\n".join([*attention, _summary(path, starter)]))  # noqa: T201  # the command's answer


def _summary(path: Path, starter: StarterTask) -> str:
    """Summarize the detected task and the next step."""
    config, task = starter.config, starter.task
    kind = f"classes {', '.join(task.labels)}" if task.labels else "scores"
    command, rows = "run", f"{task.train.num_rows:,} train, {task.dev.num_rows:,} dev"
    if config.folds is not None:
        command, rows = "crossval", f"{task.train.num_rows:,}, in {config.folds} folds"
    return "\n".join(
        [
            *task.remarks,
            *limits(task),
            f"text          {', '.join(config.sentence_columns or ())}",
            f"label         {config.label_column}: {kind}",
            f"metrics       {', '.join(config.metrics or ())}",
            f"rows          {rows}",
            f"{path} is written. Read its comments, then: raykd {command} {path}",
        ]
    )
