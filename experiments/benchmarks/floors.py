"""Floors of benchmark figures from `bench_requirements.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raykd.storage.yaml_files import load_yaml

REQUIREMENTS = Path(__file__).resolve().parents[1] / "expected" / "bench_requirements.yaml"


def held_against(section: str, measured: Mapping[str, float]) -> dict[str, Any]:
    """List the figures below their floors, and the floors that this run did not measure."""
    floors = load_yaml(REQUIREMENTS)[section]
    return {
        "below_the_floor": {
            name: [measured[name], floor]
            for name, floor in floors.items()
            if name in measured and measured[name] < floor
        },
        "not_measured": [name for name in floors if name not in measured],
    }
