"""Model card of a student: description, origin and scores."""

from collections.abc import Mapping, Sequence
from string import Template

from raykd.report.calibration import ece_sentence
from raykd.report.crossval.section import card_sentences
from raykd.report.results import ModelFacts, Results, Score, SetFacts
from raykd.report.scores import (
    INIT_TITLES,
    METRIC_TITLES,
    NOT_INJECTED,
    NOTHING,
    title_of,
)

# Objective of the variant `alone`, and of adaptations without a teacher.
_NO_TEACHER = "fine_tune"

_CARD = Template("""---
library_name: transformers
pipeline_tag: text-classification
tags: [raykd, distillation]
---

# $run: student `$variant`, $init, seed $seed

A text classifier with $num_parameters parameters for the task `$task`$labels, $origin.

Scores (times 100) on the $num_rows rows of the $split split$sets:

| | $metrics |
|---|$rule|
$rows
$cost$crossval$confidence
${start}Injection: $injection. Adaptation: $adaptation.
The recipe, all scores and the learning curves are in `results.json` and `report.html` of the run
directory, one folder up.

```python
from transformers import pipeline
pipeline("text-classification", model="$folder"$all_classes)("...")
```

## Inputs

| | digest |
|---|---|
$digests
""")


def write_card(results: Results, student: Score, teacher: str, folder: str) -> str:
    """Render the model card of one scored student in the hub's Markdown."""
    task = results.task
    split = task.report_split
    of_teacher = next((m for m in results.models if m.variant == "teacher"), None)
    model = next(
        model
        for model in results.models
        if (model.variant, model.init, model.seed) == (student.variant, student.init, student.seed)
    )
    columns = [METRIC_TITLES.get(metric, metric) for metric in task.metrics]
    columns += [
        f"{one.name}: {METRIC_TITLES.get(metric, metric)}"
        for one in results.sets
        for metric in one.metrics
    ]
    # The final student of a cross-validation is trained on all rows, and has no score itself.
    name = "this student" if results.crossval is None else "its like, trained without the fold"
    rows = [_row(name, student, results.sets)]
    rows += [
        _row(title_of(task, s.variant), s, results.sets)
        for s in results.scores
        if s.stage in ("teacher", "baseline")
    ]
    return _CARD.substitute(
        run=results.run,
        variant=student.variant,
        init=INIT_TITLES.get(student.init or "", student.init or ""),
        seed=student.seed,
        num_parameters=f"{model.num_parameters:,}",
        task=task.name,
        labels=f" ({', '.join(task.labels)})" if task.labels else "",
        origin=_origin(results, student.variant, teacher),
        split=split,
        num_rows=f"{task.num_rows[split]:,}",
        sets=_sets(results.sets),
        metrics=" | ".join(columns),
        rule="|".join(["---"] * len(columns)),
        rows="\n".join(rows),
        cost=_costs(model, of_teacher),
        crossval=card_sentences(results),
        confidence=_confidence(results, student),
        start=f"Start: {results.starts[student.init]}.\n" if student.init in results.starts else "",
        injection=_injections(results, student.variant),
        adaptation=_adaptation(results, student.variant),
        folder=folder,
        # The probability of every class, of which any number is at least 0.5.
        all_classes=", top_k=None" if task.multi_label else "",
        digests="\n".join(f"| {name} | `{value}` |" for name, value in results.digests.items()),
    )


def _origin(results: Results, variant: str, teacher: str) -> str:
    """Name the version of raykd and the teacher, if the student has learned from one."""
    version = results.versions["raykd"]
    objectives = {_injections(results, variant), _adaptation(results, variant)}
    if objectives <= {"none", _NO_TEACHER}:
        return f"trained with\nraykd {version} on labels, without a teacher"
    return f"distilled with\nraykd {version} from the teacher `{teacher}`"


def _adaptation(results: Results, variant: str) -> str:
    """Name the objective of a variant's adaptation."""
    if variant == "alone":
        return _NO_TEACHER
    if results.adaptation is None or not results.is_adapted(variant):
        return "none"
    return results.adaptation.objective


def _injections(results: Results, variant: str) -> str:
    """Describe the injections of a variant: objectives, texts and pretrained teachers."""
    if variant in NOT_INJECTED:
        return "none"
    steps = [
        f"{step.objective} on {step.text}"
        + (f" from the pretrained {step.teacher}" if step.teacher else "")
        for step in results.injections_of(variant)
    ]
    if steps or results.variants:
        return ", then ".join(steps) or "none"
    return results.injection.objective if results.injection else "none"


def _costs(student: ModelFacts, teacher: ModelFacts | None) -> str:
    """Render a cost table of student and teacher; empty if they were not measured."""
    if teacher is None or student.cost is None or teacher.cost is None:
        return ""
    cost, of_teacher = student.cost, teacher.cost
    costs = [
        ("parameters", student.num_parameters, teacher.num_parameters),
        ("bytes of weights", cost.weights_bytes, of_teacher.weights_bytes),
        ("floating-point operations per token", cost.flops_per_token, of_teacher.flops_per_token),
        ("milliseconds per row", cost.latency_ms, of_teacher.latency_ms),
        ("rows per second, one by one", cost.rows_per_s_batch_1, of_teacher.rows_per_s_batch_1),
        (
            "rows per second, batches of 32",
            cost.rows_per_s_batch_32,
            of_teacher.rows_per_s_batch_32,
        ),
    ]
    lines = [
        f"| {name} | {_number(mine)} | {_number(its)} |"
        for name, mine, its in costs
        if mine is not None and its is not None
    ]
    return "\n".join(
        [
            "",
            "| cost to run | this student | teacher |",
            "|---|---|---|",
            *lines,
            "",
            f"(On {cost.device}, threads: {cost.num_threads}, with 32 rows of the task, from token "
            "ids to logits.)",
            "",
        ]
    )


def _confidence(results: Results, student: Score) -> str:
    """Describe the calibration in a paragraph; empty if the student has none."""
    facts = results.calibration
    key = student.variant, student.init, student.seed
    if facts is None or (facts.variant, facts.init, facts.seed) != key:
        return ""
    return f"\n{ece_sentence(facts)}\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sets(sets: Sequence[SetFacts]) -> str:
    """Describe the evaluation sets in the middle of a sentence; empty if there are none."""
    named = [f"`{one.name}` ({one.num_rows:,} rows)" for one in sets]
    return f", and on the evaluation sets {', '.join(named)}" if named else ""


def _row(name: str, score: Score, sets: Sequence[SetFacts]) -> str:
    """Render a line of scores, with a dash on sets without any, as of a teacher's given scores."""
    values = _percentages(score.metrics)
    for one in sets:
        of_set = score.sets.get(one.name)
        values += [NOTHING] * len(one.metrics) if of_set is None else _percentages(of_set)
    return f"| {name} | {' | '.join(values)} |"


def _percentages(metrics: Mapping[str, float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in metrics.values()]
