"""Checks of cluster.yaml: Ray's launcher accepts it, and its defaults are safe."""

import re
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).resolve().parents[2] / "cluster.yaml"


def settings() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_rays_launcher_accepts_the_file():
    validate_config(prepare_config(settings()))


def test_the_head_runs_no_tasks_and_workers_are_spot_instances():
    types = settings()["available_node_types"]
    assert types[settings()["head_node_type"]]["resources"]["CPU"] == 0
    for name in set(types) - {settings()["head_node_type"]}:
        assert types[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_dashboard_and_job_api_listen_on_loopback_and_require_a_token():
    [start] = [c for c in settings()["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in start
    for command in [start, *settings()["worker_start_ray_commands"]]:
        assert "ray stop" in command or "RAY_AUTH_MODE=token" in command


def test_the_file_contains_no_secret():
    values = yaml.safe_dump(settings())
    assert not re.search(r"(?i)(secret|password|access_key|AKIA)", values)
