"""Metrics of the work, which Ray exports to Prometheus on the metrics port of every node.

They are recorded per shard, per record of a training and per stage, never per row, and only where
this process is connected to Ray. Ray prefixes their names by `ray_`. All have the tags `run` and
`stage`; metrics of models also have the tag `model`.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import ray
from ray.util import metrics

from raykd import progress

Name = Literal[
    "raykd_documents_total",
    "raykd_units_total",
    "raykd_quarantined_rows_total",
    "raykd_queries_total",
    "raykd_pruned_share",
    "raykd_tokens_total",
    "raykd_steps_total",
    "raykd_loss",
    "raykd_tasks_total",
    "raykd_failed_tasks_total",
    "raykd_task_seconds",
    "raykd_stage_seconds_total",
]
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
_SHARES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


class _Definition(NamedTuple):
    kind: type[metrics.Metric]
    description: str
    boundaries: tuple[float, ...] = ()
    tags: tuple[str, ...] = ("run", "stage")


_OF_MODELS = ("run", "stage", "model")
METRICS: dict[Name, _Definition] = {
    "raykd_documents_total": _Definition(metrics.Counter, "Documents read."),
    "raykd_units_total": _Definition(metrics.Counter, "Units written by ingest."),
    "raykd_quarantined_rows_total": _Definition(metrics.Counter, "Unreadable rows."),
    "raykd_queries_total": _Definition(
        metrics.Counter, "Queries searched, once for each shard that they were searched in."
    ),
    "raykd_pruned_share": _Definition(
        metrics.Histogram,
        "Share of the queries of a shard that MaxScore searched, per batch of queries.",
        _SHARES,
    ),
    "raykd_tokens_total": _Definition(
        metrics.Counter, "Tokens trained on, by the mean per step.", tags=_OF_MODELS
    ),
    "raykd_steps_total": _Definition(metrics.Counter, "Optimizer steps.", tags=_OF_MODELS),
    "raykd_loss": _Definition(metrics.Gauge, "Mean loss of the last record.", tags=_OF_MODELS),
    "raykd_tasks_total": _Definition(metrics.Counter, "Tasks completed, failed ones included."),
    "raykd_failed_tasks_total": _Definition(metrics.Counter, "Tasks that raised an error."),
    "raykd_task_seconds": _Definition(metrics.Histogram, "Seconds per task.", _SECONDS),
    "raykd_stage_seconds_total": _Definition(metrics.Counter, "Seconds in a stage."),
}


def record(name: Name, value: float, **tags: str) -> None:
    """Add to a counter, set a gauge, or add to a histogram.

    Args:
        name: name of the metric.
        value: value; 0 is not added to a counter.
        tags: tags in addition to those of `progress.labels`.
    """
    if not ray.is_initialized():
        return
    metric = _metric(name)
    values = {tag: tags.get(tag) or progress.labels().get(tag, "") for tag in METRICS[name].tags}
    if isinstance(metric, metrics.Counter):
        if value > 0:
            metric.inc(value, tags=values)
    elif isinstance(metric, metrics.Gauge):
        metric.set(value, tags=values)
    else:
        assert isinstance(metric, metrics.Histogram)
        metric.observe(value, tags=values)


@contextmanager
def recorded_task(labels: dict[str, str]) -> Iterator[None]:
    """Record a task, and use the labels of the driver in it."""
    started = time.monotonic()
    with progress.labeled(**labels):
        try:
            yield
        except Exception:
            record("raykd_failed_tasks_total", 1)
            raise
        finally:
            record("raykd_tasks_total", 1)
            record("raykd_task_seconds", time.monotonic() - started)


# One per process; a metric that is made again would count from 0.
@functools.cache
def _metric(name: Name) -> metrics.Metric:
    definition = METRICS[name]
    options: dict[str, Any] = {"boundaries": list(definition.boundaries)}
    make: Any = definition.kind
    return make(  # type: ignore[no-any-return]  # a class of metrics
        name,
        description=definition.description,
        tag_keys=definition.tags,
        **(options if definition.boundaries else {}),
    )
