"""Files for the GLUE server: one line per test row, with its number and its prediction.

Source: https://gluebenchmark.com/faq, and the sizes of the test sets in Wang et al. 2019, "GLUE: A
Multi-Task Benchmark and Analysis Platform for Natural Language Understanding" (ICLR 2019), table 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.prediction.config import PredictConfig
from raykd.tasks.glue import GLUE


class GlueFile(NamedTuple):
    """File of one test set.

    Attributes:
        name: its name at the server.
        task: task whose classes it has.
        num_rows: rows of the test set.
        has_numbers: whether classes are written as numbers.
    """

    name: str
    task: str
    num_rows: int
    has_numbers: bool = False


GLUE_FILES: Mapping[str, GlueFile] = {
    "cola": GlueFile("CoLA.tsv", "cola", 1063, has_numbers=True),
    "sst2": GlueFile("SST-2.tsv", "sst2", 1821, has_numbers=True),
    "mrpc": GlueFile("MRPC.tsv", "mrpc", 1725, has_numbers=True),
    "stsb": GlueFile("STS-B.tsv", "stsb", 1379),
    "qqp": GlueFile("QQP.tsv", "qqp", 390_965, has_numbers=True),
    "mnli": GlueFile("MNLI-m.tsv", "mnli", 9796),
    "mnli-mm": GlueFile("MNLI-mm.tsv", "mnli", 9847),
    "ax": GlueFile("AX.tsv", "mnli", 1104),
    "qnli": GlueFile("QNLI.tsv", "qnli", 5463),
    "rte": GlueFile("RTE.tsv", "rte", 3000),
}


def check_glue(name: str, labels: Sequence[str]) -> None:
    """Check that a model has the classes of a test set.

    Raises:
        InputError: there is no such test set, or the classes are others.
    """
    if name not in GLUE_FILES:
        raise InputError(f"predict: --glue {name}: choose one of {', '.join(GLUE_FILES)}")
    wanted = GLUE[GLUE_FILES[name].task].labels
    if set(labels) != set(wanted):
        given = ", ".join(labels) or "a score"
        raise InputError(
            f"predict: --glue {name}: its predictions are {', '.join(wanted) or 'a score'}, and "
            f"the model's are {given}; give a model of {GLUE_FILES[name].task!r}"
        )


def check_glue_rows(name: str, num_rows: int, num_bad: int) -> None:
    """Check the numbers of readable and unreadable rows, before any is predicted.

    Raises:
        InputError: a row cannot be read, or there are more or fewer rows than in the test set.
    """
    expected = GLUE_FILES[name].num_rows
    if num_bad or num_rows != expected:
        bad = f", and {num_bad:,} more that cannot be read" if num_bad else ""
        raise InputError(
            f"predict: --glue {name}: the test set has {expected:,} rows, the data {num_rows:,}"
            f"{bad}; give the whole test set and nothing else"
        )


def write_glue_file(name: str, parts: Iterable[Path], folder: Path, config: PredictConfig) -> None:
    """Write the file of a test set from the parts of its predictions.

    Scores of STS-B are limited to 0..5 and have three decimals.

    Raises:
        InputError: a row has no text.
    """
    of_set = GLUE_FILES[name]
    places = {label: str(place) for place, label in enumerate(GLUE[of_set.task].labels)}
    lines: list[str] = []
    for part in parts:
        for value in pq.read_table(part, columns=[config.prediction])[0].to_pylist():
            if value is None:
                raise InputError(f"predict: --glue {name}: row {len(lines)} has no text")
            if isinstance(value, float):
                value = f"{min(max(value, 0.0), 5.0):.3f}"
            elif of_set.has_numbers:
                value = places[value]
            lines.append(f"{len(lines)}\t{value}")
    content = "\n".join(["index\tprediction", *lines]) + "\n"
    (folder / of_set.name).write_text(content, encoding="utf-8")
