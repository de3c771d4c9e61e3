"""Metrics of a run, scraped from the port of a real Ray, and the dashboard that shows them."""

import json
import re
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import ray
import yaml
from crash_sweep import write_inputs

from raykd.cli.app import _exit_code as raykd
from raykd.cluster.metrics import METRICS

DASHBOARD = Path(__file__).resolve().parents[2] / "experiments/cluster/grafana/raykd.json"
_LINE = re.compile(r"ray_(raykd_\w+)\{(.*)\} (\S+)")
_TAG = re.compile(r'(\w+)="([^"]*)"')
# Suffixes of the series of a histogram.
_SERIES = ("_bucket", "_sum", "_count")
_TIMEOUT_S = 60

EXPECTED = {
    ("raykd_documents_total", "ingest"): 40,
    ("raykd_units_total", "ingest"): 40,
    ("raykd_quarantined_rows_total", "ingest"): 2,
    # Eight queries in each of two shards.
    ("raykd_queries_total", "retrieve"): 16,
    # Eight rows in batches of four.
    ("raykd_steps_total", "teacher"): 2,
    ("raykd_steps_total", "adapt"): 2,
}


def scraped() -> dict[tuple[str, str, str], float]:
    """Values by metric, run and stage, summed over all processes and models."""
    [node] = [node for node in ray.nodes() if node["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    values: dict[tuple[str, str, str], float] = {}
    with urllib.request.urlopen(url, timeout=30) as response:
        for name, tags, value in _LINE.findall(response.read().decode()):
            found = dict(_TAG.findall(tags))
            key = name, found.get("run", ""), found.get("stage", "")
            values[key] = values.get(key, 0.0) + float(value)
    return values


@pytest.fixture
def recipe(tmp_path):
    """Recipe of a run with a corpus of 42 rows in two shards, of which two cannot be read."""
    write_inputs(tmp_path)
    with (tmp_path / "corpus.jsonl").open("a") as file:
        file.write("{\n{\n")
    path = tmp_path / "recipe.yaml"
    values = yaml.safe_load(path.read_text()) | {"name": "measured"}
    values["corpus"] |= {"max_bad_fraction": 0.1}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_exports_its_work_with_the_tags_of_run_and_stage(recipe, tmp_path):
    found: dict[tuple[str, str, str], float] = {}
    has_ended = threading.Event()

    def scrape() -> None:
        # As a server does: Ray exports a gauge for a short time only.
        while not has_ended.wait(0.5):
            found.update(scraped())

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        assert raykd(["adapt", str(recipe), "--out", str(tmp_path / "out")]) == 0
        started = time.monotonic()
        while time.monotonic() - started < _TIMEOUT_S and any(
            found.get((n, "measured", s)) != value for (n, s), value in EXPECTED.items()
        ):
            time.sleep(0.5)
    finally:
        has_ended.set()
        scraping.join()
    assert {(n, s): found.get((n, "measured", s)) for n, s in EXPECTED} == EXPECTED
    assert found["raykd_loss", "measured", "adapt"] > 0
    assert found["raykd_tokens_total", "measured", "adapt"] > 30
    assert found["raykd_stage_seconds_total", "measured", "ingest"] > 0
    assert found["raykd_task_seconds_count", "measured", "ingest"] >= 1
    assert found["raykd_pruned_share_count", "measured", "retrieve"] == 2
    assert found["raykd_tasks_total", "measured", "ingest"] >= 1


def test_the_dashboard_shows_every_metric_and_no_unknown_one():
    text = DASHBOARD.read_text()
    names = set(re.findall(r"ray_(raykd_\w+)", text))
    shown = {next((n.removesuffix(s) for s in _SERIES if n.endswith(s)), n) for n in names}
    assert shown == set(METRICS)
    expressions = [t["expr"] for panel in json.loads(text)["panels"] for t in panel["targets"]]
    others = {name for text in expressions for name in re.findall(r"\b(ray_(?!raykd_)\w+)\{", text)}
    assert others == {"ray_tasks"}  # Ray's own
    assert all(expression.count("(") == expression.count(")") for expression in expressions)
