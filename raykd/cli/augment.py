"""The command `raykd augment`."""

import functools
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd import progress
from raykd.augment.examples import read_examples
from raykd.augment.pipeline import augment as augment_examples
from raykd.augment.task_da import DEFAULT_ROUNDS, NUM_ROUNDS, TaskDaConfig
from raykd.cli.options.reading import ColumnNames
from raykd.storage.delimited import Layout, Quoting
from raykd.storage.locations import location_of
from raykd.storage.remote.output import output_at, url_of
from raykd.workflow.augment_card import read_augment_card, summary, write_card


def augment(
    *,
    train: Annotated[
        str, Parameter(help="Path or URL of the task's labeled rows: Parquet, JSONL, CSV or TSV.")
    ],
    model: Annotated[
        str,
        Parameter(help="Masked language model: folder, package:NAME/FOLDER, or hub name."),
    ],
    out: Annotated[Path, Parameter(name="--out", help="Output directory or URL.")],
    task: Annotated[
        str | None, Parameter(help="GLUE task; sets columns, labels and rounds.")
    ] = None,
    sentence_columns: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="One or two columns of sentences."),
    ] = None,
    label_column: Annotated[str, Parameter(help="Column of labels.")] = "label",
    labels: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="Classes in order (default: sorted)."),
    ] = None,
    unlabeled_rows: Annotated[
        Literal["error", "skip"],
        Parameter(help="Handling of rows without a label."),
    ] = "error",
    regression: Annotated[
        bool, Parameter(negative="", help="Labels are scores, not classes.")
    ] = False,
    columns: ColumnNames = None,
    quoting: Annotated[
        Quoting, Parameter(help="Quotation marks around fields of CSV and TSV files.")
    ] = "auto",
    num_rounds: Annotated[
        int | None,
        Parameter(help="Maximum number of copies per sentence (default: the task's, or 30)."),
    ] = None,
    num_candidates: Annotated[int, Parameter(help="Candidate replacements per word.")] = 15,
    replace_probability: Annotated[
        float, Parameter(help="Probability that a word is replaced in a round.")
    ] = 0.4,
    embeddings_model: Annotated[
        str | None,
        Parameter(help="Model whose word embeddings define nearest words (default: --model)."),
    ] = None,
    embeddings: Annotated[
        str | None, Parameter(help="File of word embeddings to use instead, in GloVe's format.")
    ] = None,
    seed: Annotated[int, Parameter(help="Random seed.")] = 0,
    compat: Annotated[
        bool, Parameter(negative="", help="Combine the sentences of pairs as in TinyBERT's code.")
    ] = False,
    use_gpu: Annotated[bool, Parameter(negative="", help="Run the model on GPUs.")] = False,
) -> None:
    """Read the rows, augment them, and print a summary."""
    values = {
        "model": model,
        "embeddings_model": embeddings_model,
        "embeddings": embeddings,
        "num_rounds": NUM_ROUNDS.get(task or "", DEFAULT_ROUNDS)
        if num_rounds is None
        else num_rounds,
        "num_candidates": num_candidates,
        "replace_probability": replace_probability,
        "seed": seed,
        "compat": compat,
        "use_gpu": use_gpu,
    }
    config = TaskDaConfig.parse(values, "raykd augment")
    examples = read_examples(
        location_of(train),
        task=task,
        sentence_columns=sentence_columns,
        column=label_column,
        labels=labels,
        unlabeled_rows=unlabeled_rows,
        regression=regression,
        layout=Layout(None if columns is None else tuple(columns), quoting),
    )
    for remark in examples.remarks:
        progress.say(f"{train}: {remark}")
    describe = functools.partial(write_card, examples.table)
    with output_at(out) as folder:
        manifest = augment_examples(examples.table, folder, config, describe=describe)
    counts = ", ".join(f"{name} {value:.0f}" for name, value in sorted(manifest.counts.items()))
    card = summary(read_augment_card(folder))
    print(f"{url_of(out) or out}: {counts}\n{card}")  # noqa: T201  # the command's answer
