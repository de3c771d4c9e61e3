"""The page that goes with a student: what it is, what made it, how good it is."""

from collections.abc import Mapping
from string import Template

from raykd.results import Results, Score

_CARD = Template("""---
library_name: transformers
pipeline_tag: text-classification
tags: [raykd, distillation]
---

# $run: $arm student, $init, seed $seed

A text classifier with $num_parameters parameters for the task `$task`$labels, distilled with
[raykd] $version from the teacher `$teacher`.

| $split split, $num_rows rows | $metrics |
|---|$rule|
$rows

Injection: $injection. Adaptation: $adaptation.
The recipe, all scores and the learning curves stand in `results.json` and `report.html` beside
this folder.

```python
from transformers import pipeline
pipeline("text-classification", model="$folder")("...")
```

## What it was made from

| | digest |
|---|---|
$digests
""")


def write_card(results: Results, student: Score, teacher: str, folder: str) -> str:
    """The model card of one scored student, in the hub's Markdown."""
    task = results.task
    split = task.report_split
    model = next(
        model
        for model in results.models
        if (model.arm, model.init, model.seed) == (student.arm, student.init, student.seed)
    )
    rows = [_row("this student", student.metrics)]
    rows += [_row(s.arm, s.metrics) for s in results.scores if s.stage in ("teacher", "baseline")]
    return _CARD.substitute(
        run=results.run,
        arm=student.arm,
        init=student.init,
        seed=student.seed,
        num_parameters=f"{model.num_parameters:,}",
        task=task.name,
        labels=f" ({', '.join(task.labels)})" if task.labels else "",
        version=results.versions["raykd"],
        teacher=teacher,
        split=split,
        num_rows=task.num_rows[split],
        metrics=" | ".join(task.metrics),
        rule="---|" * len(task.metrics),
        rows="\n".join(rows),
        injection=results.injection.objective if results.injection else "none",
        adaptation=results.adaptation.objective if results.adaptation else "none",
        folder=folder,
        digests="\n".join(f"| {name} | `{value}` |" for name, value in results.digests.items()),
    )


def _row(name: str, metrics: Mapping[str, float]) -> str:
    return f"| {name} | {' | '.join(f'{100 * value:.1f}' for value in metrics.values())} |"
