"""The command `raykd augment`."""

import functools
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raykd import progress
from raykd.augment.examples import read_examples
from raykd.augment.pipeline import augment as augment_examples
from raykd.augment.task_da import DEFAULT_ROUNDS, NUM_ROUNDS, TaskDaConfig
from raykd.cli.reading_options import ColumnNames
from raykd.storage.delimited import Layout, Quoting
from raykd.storage.locations import location_of
from raykd.workflow.augment_card import read_augment_card, summary, write_card


def augment(
    *,
    train: Annotated[
        str, Parameter(help="Path or URL of the task's labelled rows: Parquet, JSONL, CSV or TSV.")
    ],
    model: Annotated[
        str,
        Parameter(
            help="A masked language model: a folder, package:NAME/FOLDER, or a name on the hub."
        ),
    ],
    out: Annotated[Path, Parameter(name="--out", help="The directory to be written.")],
    task: Annotated[
        str | None, Parameter(help="A GLUE name: decides columns, labels and rounds.")
    ] = None,
    sentence_columns: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="One column of sentences, or two."),
    ] = None,
    label_column: Annotated[str, Parameter(help="The column of labels.")] = "label",
    labels: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True, negative="", help="The classes in order (default: sorted)."
        ),
    ] = None,
    unlabeled_rows: Annotated[
        Literal["error", "skip"],
        Parameter(help="Rows without a label end the command, or are left out."),
    ] = "error",
    regression: Annotated[bool, Parameter(negative="", help="Labels are scores.")] = False,
    columns: ColumnNames = None,
    quoting: Annotated[
        Quoting, Parameter(help="Whether quotation marks enclose fields of CSV and TSV files.")
    ] = "auto",
    num_rounds: Annotated[
        int | None, Parameter(help="Variants of a sentence at most (default: the task's, or 30).")
    ] = None,
    num_candidates: Annotated[int, Parameter(help="Words looked for in the place of one.")] = 15,
    replace_probability: Annotated[
        float, Parameter(help="How likely a word is replaced in a round.")
    ] = 0.4,
    embeddings_model: Annotated[
        str | None, Parameter(help="Whose word embeddings give neighbours (default: --model).")
    ] = None,
    embeddings: Annotated[
        str | None, Parameter(help="A file of word embeddings to be used for them, as GloVe's.")
    ] = None,
    seed: Annotated[int, Parameter(help="Decides every draw.")] = 0,
    compat: Annotated[
        bool, Parameter(negative="", help="Combine the sentences of pairs as TinyBERT's code does.")
    ] = False,
    use_gpu: Annotated[bool, Parameter(negative="", help="Run the model on GPUs.")] = False,
) -> None:
    """Parse settings, read the rows, augment them, and say what came of it."""
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
    manifest = augment_examples(examples.table, out, config, describe=describe)
    counts = ", ".join(f"{name} {value:.0f}" for name, value in sorted(manifest.counts.items()))
    card = summary(read_augment_card(out))
    print(f"{out}: {counts}\n{card}")  # noqa: T201  # the command's answer
