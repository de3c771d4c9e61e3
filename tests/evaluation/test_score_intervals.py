"""Scores with their intervals, against the binomial distribution, and pooled predictions."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from raykd.evaluation.differences import Models
from raykd.evaluation.pooling import pool_predictions
from raykd.evaluation.score_intervals import score_intervals
from raykd.storage.manifest import commit
from raykd.storage.schemas import EXAMPLES, PREDICTIONS

NUM_ROWS = 50


def write_task(folder: Path) -> Path:
    rows = [
        {"row_id": n, "sentence1": f"text {n}", "sentence2": None, "label": float(n % 2)}
        for n in range(NUM_ROWS)
    ]
    table = pa.Table.from_pylist(rows, schema=EXAMPLES)
    facts = {
        "name": "reviews",
        "labels": ["bad", "good"],
        "regression": False,
        "metrics": ["accuracy"],
        "sources": {},
        "remarks": [],
    }
    with commit(folder, "task", {}, {}) as draft:
        for split in ("train", "dev"):
            pq.write_table(table, draft.directory / f"{split}.parquet")
        (draft.directory / "task.json").write_text(json.dumps(facts))
    return folder


def write_predictions(folder: Path, wrong: set[int], rows: range = range(NUM_ROWS)) -> Path:
    values = [
        {
            "row_id": n,
            "label": float(n % 2),
            "prediction": float((n % 2) ^ (n in wrong)),
            "logits": [0.0, 0.0],
        }
        for n in rows
    ]
    with commit(folder, "evaluate", {}, {}) as draft:
        table = pa.Table.from_pylist(values, schema=PREDICTIONS)
        pq.write_table(table, draft.directory / "predictions.parquet")
    return folder


def test_the_interval_of_an_accuracy_is_that_of_the_binomial_distribution(tmp_path):
    task = write_task(tmp_path / "task")
    own = write_predictions(tmp_path / "own", set(range(10)))

    [found] = score_intervals([Models("direct", "skip", {1: own})], task)

    assert (found.score, found.num_seeds, found.num_rows) == (pytest.approx(0.8), 1, 50)
    for bound, share in ((found.low, 0.025), (found.high, 0.975)):
        assert bound == pytest.approx(stats.binom.ppf(share, 50, 0.8) / 50, abs=0.021)


def test_seeds_that_differ_widen_the_interval_around_their_mean(tmp_path):
    task = write_task(tmp_path / "task")
    folders = [
        write_predictions(tmp_path / f"seed{seed}", set(range(num_wrong)))
        for seed, num_wrong in enumerate((0, 20))
    ]
    models = [
        Models("equal", None, {1: write_predictions(tmp_path / "equal", set(range(10)))}),
        Models("differing", None, dict(enumerate(folders))),
        Models("majority", None, {}),
    ]

    equal, differing, majority = score_intervals(models, task)

    assert (equal.score, differing.score, majority.score) == (0.8, 0.8, 0.5)
    assert differing.high - differing.low > equal.high - equal.low
    assert differing.high == 1.0


def test_pooled_predictions_are_in_the_order_of_the_rows_whatever_the_parts(tmp_path):
    task = write_task(tmp_path / "task")
    wrong = {3, 30, 49}
    parts = [
        write_predictions(tmp_path / f"part{first}", wrong, range(first, NUM_ROWS, 3))
        for first in (2, 0, 1)
    ]

    metrics = pool_predictions(parts, task, tmp_path / "pooled")

    assert metrics == {"accuracy": pytest.approx(47 / 50)}
    pooled = pq.read_table(tmp_path / "pooled" / "predictions.parquet")
    assert pooled["row_id"].to_pylist() == list(range(NUM_ROWS))
    with pytest.raises(AssertionError):
        pool_predictions(parts[:2], task, tmp_path / "incomplete")
