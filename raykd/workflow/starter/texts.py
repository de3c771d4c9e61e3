"""Sections of a starter recipe about the texts to distil on."""

import math
from collections.abc import Sequence

from raykd.workflow.starter.scalars import yaml_list, yaml_text
from raykd.workflow.starter.task import Lengths, StarterTask

# Units of a contextualized corpus, and the hits per query that find about as many.
_MAX_UNITS = 50_000
_MIN_HITS, _MAX_HITS = 10, 1000


def text_sections(
    corpus: Sequence[str], unlabeled: Sequence[str], starter: StarterTask, lengths: Lengths
) -> list[str]:
    """Lines of the sections; those of a corpus are commented out where there are no texts."""
    num_columns = len(starter.config.sentence_columns or ())
    num_hits = math.ceil(_MAX_UNITS / (num_columns * starter.task.train.num_rows))
    of_corpus = [
        "corpus:",
        "  # Files or folders of text: one document per line, or tables with the column `text`.",
        f"  paths: {yaml_list(corpus) if corpus else '[FILE_OR_FOLDER]'}",
    ]
    if unlabeled and corpus:
        of_corpus = [
            *_unlabeled(unlabeled, starter),
            "  general:",
            *(f"  {line}" for line in of_corpus[1:]),
        ]
    elif unlabeled:
        of_corpus = _unlabeled(unlabeled, starter)
    retrieval = [
        "retrieval:",
        f"  top_k: {min(_MAX_HITS, max(_MIN_HITS, num_hits))}  # hits per training sentence",
        "contextualize:",
        f"  max_units: {_MAX_UNITS}  # passages kept, best ranks first",
    ]
    injection = [
        "# Distillation on this text.",
        "injection:",
        "  objective: {name: vanilla_kd, task_weight: 0, logit_weight: 1}",
        "  num_steps: 2000",
        "  batch_size: 32",
        "  learning_rate: 1.0e-4",
        f"  max_length: {lengths.max_length}",
        "  # Leave students as this makes them, where the report says that adaptation is worse:",
        "  # adapt: false",
    ]
    if unlabeled:
        every = [
            "injections:",
            "  # Every text, without retrieval.",
            "  all_unlabeled: {text: random, corpus: unlabeled, num_units: 1000000}",
        ]
        return ["", *of_corpus, *(retrieval if corpus else []), *every, *injection]
    if corpus:
        return ["", *of_corpus, *retrieval, *injection]
    return [
        "",
        "# To distil on more text: name a corpus, remove the '# ' of these lines, and add",
        "# contextualized to variants.",
        *(f"# {line}" for line in (*of_corpus, *retrieval, *injection)),
    ]


def _unlabeled(unlabeled: Sequence[str], starter: StarterTask) -> list[str]:
    """Lines of a corpus of the unlabeled texts."""
    (column,) = starter.config.sentence_columns or ("text",)
    of_column = [] if column == "text" else [f"    text_column: {yaml_text(column)}  # of tables"]
    return [
        "corpora:",
        "  # Texts like those of the task, as they are: one per line, or tables with a column.",
        "  unlabeled:",
        f"    paths: {yaml_list(unlabeled)}",
        *of_column,
        "    units: {policy: line, min_words: 1}",
    ]
