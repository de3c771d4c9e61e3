"""The floors that `bench_requirements.yaml` sets for the figures of a benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raykd.storage.yaml_files import load_yaml

REQUIREMENTS = Path(__file__).resolve().parents[1] / "expected" / "bench_requirements.yaml"


def held_against(section: str, measured: Mapping[str, float]) -> dict[str, Any]:
    """Figures that miss their floor, each with it, and those that this run did not measure."""
    floors = load_yaml(REQUIREMENTS)[section]
    return {
        "below_the_floor": {
            name: [measured[name], floor]
            for name, floor in floors.items()
            if name in measured and measured[name] < floor
        },
        "not_measured": [name for name in floors if name not in measured],
    }
