"""Inference costs of the models next to their scores: table lines and notes."""

from typing import Any

from raykd.evaluation.cost import Cost
from raykd.report.results import ModelFacts, Results
from raykd.report.scores import (
    INIT_TITLES,
    NOTHING,
    Numbers,
    Row,
    reference_rows,
    student_rows,
)


def cost_table(results: Results) -> list[tuple[str, list[dict[str, Any]]]]:
    """Groups of table lines: a title, and the lines of the teacher or of the variants of an init.

    A line has title, score, and cells of (value, ratio to the teacher's value or "").
    """
    metric = results.task.metrics[0]
    teacher = measured_model(results, "teacher", None)
    groups = [("", reference_rows(results, metric)), *student_rows(results, metric).items()]
    table = []
    for init, rows in groups:
        lines = [
            _line(results, row, model, teacher)
            for row in rows
            if (model := measured_model(results, row.variant, row.init)) is not None
        ]
        if lines:
            table.append((INIT_TITLES.get(init, init), lines))
    return table


def cost_note(results: Results) -> str:
    """Describe device and procedure of the measurements."""
    costs = [model.cost for model in results.models if model.cost]
    if not costs:
        return ""
    devices = sorted({f"{cost.device}, {_threads(cost.num_threads)}" for cost in costs})
    lengths = sorted({cost.num_tokens for cost in costs if cost.num_tokens is not None})
    has_baselines = any(cost.num_tokens is None for cost in costs)
    split = results.task.report_split
    return (
        f"Measured on {'; '.join(devices)}, one model after the other, from token ids to logits. "
        f"The same 32 rows, spread evenly over the {split} split, are run one by one without "
        "padding, and as one batch padded to the longest row. Each is repeated and the median "
        "taken; the time per row is the median over the 32 rows. Operations are those of the "
        f"matrix products of a forward pass, for a row of {' or '.join(map(str, lengths))} tokens; "
        "embedding lookups count as none. Models that differ only in their weights, such as "
        "seeds, are measured once."
        + (" Baselines are measured from texts to answers." if has_baselines else "")
    )


def times(ratio: float, more: str, less: str) -> str:
    """Format a ratio as `11 times smaller` or `1.5 times larger`: two significant digits."""
    factor, word = (ratio, more) if ratio >= 1 else (1 / ratio, less)
    return f"{factor:.{0 if factor >= 9.95 else 1}f} times {word}"


def short(value: float) -> str:
    """Format with three significant digits: `0.143`, `10.6`, `3,842`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measured_model(results: Results, variant: str, init: str | None) -> ModelFacts | None:
    """Return the measured model of the first seed; other seeds have the same shape."""
    measured = (m for m in results.models if (m.variant, m.init) == (variant, init) and m.cost)
    return next(measured, None)


def _line(
    results: Results, row: Row, model: ModelFacts, teacher: ModelFacts | None
) -> dict[str, Any]:
    cost = model.cost
    assert cost is not None
    of_teacher = teacher.cost if teacher and model is not teacher else None
    numbers = Numbers.of(results)
    size = weights = operations = alone = batched = ""
    if teacher and of_teacher:
        size = times(teacher.num_parameters / model.num_parameters, "smaller", "larger")
        weights = times(of_teacher.weights_bytes / cost.weights_bytes, "smaller", "larger")
        if of_teacher.flops_per_token and cost.flops_per_token:
            operations = times(of_teacher.flops_per_token / cost.flops_per_token, "fewer", "more")
        alone = times(of_teacher.latency_ms / cost.latency_ms, "faster", "slower")
        ratio = cost.rows_per_s_batch_32 / of_teacher.rows_per_s_batch_32
        batched = times(ratio, "faster", "slower")
    return {
        "variant": row.variant,
        "title": row.title,
        "score": numbers.spread(row.after) if row.after else NOTHING,
        "cells": [
            (f"{model.num_parameters / 1e6:.2f} M", size),
            (f"{short(cost.weights_bytes / 1e6)} MB", weights),
            (_operations(cost), operations),
            (f"{short(cost.latency_ms)} ms", alone),
            (short(cost.rows_per_s_batch_1), ""),
            (short(cost.rows_per_s_batch_32), batched),
        ],
    }


def _operations(cost: Cost) -> str:
    return NOTHING if cost.flops_per_token is None else f"{short(cost.flops_per_token / 1e6)} M"


def _threads(number: int) -> str:
    return "one thread" if number == 1 else f"{number} threads"
