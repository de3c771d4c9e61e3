"""Scores on the evaluation sets next to those on the report split: table lines and notes."""

from typing import Any, NamedTuple

from raykd.report.results import Results, SetFacts
from raykd.report.scores import (
    INIT_TITLES,
    METRIC_TITLES,
    NOTHING,
    Numbers,
    Row,
    reference_rows,
    student_rows,
)


class SetTable(NamedTuple):
    """Table of final scores.

    Attributes:
        columns: (name, metric) of the report split and of each metric of each set.
        groups: (title, lines) of baselines and teacher, and of the students of an init. A line has
            variant, title and cells; a cell is (score, score before adaptation or "").
    """

    columns: list[tuple[str, str]]
    groups: list[tuple[str, list[dict[str, Any]]]]


def set_table(results: Results) -> SetTable | None:
    """Final scores of all models on the report split and on every set; None without sets."""
    if not results.sets:
        return None
    task = results.task
    split = SetFacts(
        name=f"{task.report_split} split",
        source="",
        labels=task.labels,
        label_map={},
        metrics=task.metrics[:1],
        num_rows=task.num_rows[task.report_split],
        content="",
        num_in_train=0,
    )
    columns = [(split, split.metrics[0], results)]
    columns += [
        (one, metric, _on_set(results, one.name)) for one in results.sets for metric in one.metrics
    ]
    by_column = [_rows(scored, metric) for _, metric, scored in columns]
    numbers = [Numbers(one.num_rows) for one, _, _ in columns]
    groups: dict[str, list[dict[str, Any]]] = {}
    for (init, variant), row in by_column[0].items():
        cells = [
            _cell(rows.get((init, variant)), number)
            for rows, number in zip(by_column, numbers, strict=True)
        ]
        line = {"variant": variant, "title": row.title, "cells": cells}
        groups.setdefault(init, []).append(line)
    return SetTable(
        [(one.name, METRIC_TITLES.get(metric, metric)) for one, metric, _ in columns],
        [(INIT_TITLES.get(init, init), lines) for init, lines in groups.items()],
    )


def describe_set(facts: SetFacts) -> str:
    """Sentences on a set: rows, classes, their map, and remarks."""
    sentences = [f"{facts.num_rows:,} rows: {facts.content}"]
    merged = {
        name: [one for one, target in facts.label_map.items() if target == name]
        for name in facts.labels
    }
    changed = [
        f"{' and '.join(of)} as {name}" for name, of in merged.items() if of and of != [name]
    ]
    if changed:
        sentences.append(f"The task's classes count as the set's: {', '.join(changed)}")
    sentences += [f"{remark[:1].upper()}{remark[1:]}" for remark in facts.remarks]
    return f"{'. '.join(sentences)}."


def _on_set(results: Results, name: str) -> Results:
    """Results with the scores on a set in place of those on the report split."""
    scores = [
        score.model_copy(update={"metrics": score.sets.get(name, {})}) for score in results.scores
    ]
    return results.model_copy(update={"scores": scores})


def _rows(results: Results, metric: str) -> dict[tuple[str, str], Row]:
    """Rows of the score table, by init (empty for baselines and teacher) and variant."""
    groups = [("", reference_rows(results, metric)), *student_rows(results, metric).items()]
    return {(init, row.variant): row for init, rows in groups for row in rows}


def _cell(row: Row | None, numbers: Numbers) -> tuple[str, str]:
    if row is None or row.after is None:
        return NOTHING, ""
    before = f"before {numbers.spread(row.before)}" if row.before else ""
    return numbers.spread(row.after), before
