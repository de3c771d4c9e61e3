"""`raykd crossval` on tiny models: folds, choices, pooled scores, final student, and a kill."""

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from chaos import Command
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

WORDS = {"praise": ("good", "fine", "great"), "blame": ("bad", "poor", "dull")}


def write_rows(path: Path, num_rows: int) -> None:
    rows = []
    for number in range(num_rows):
        label = ("praise", "blame")[number % 2]
        word = WORDS[label][number // 2 % 3]
        # One row in five has the other label, so that scores differ between students.
        shown = ("blame", "praise")[number % 2] if number % 5 == 0 else label
        rows.append(json.dumps({"sentence": f"the film {number} was {word}", "label": shown}))
    # A text that is there twice.
    path.write_text("\n".join([*rows, rows[1], rows[1]]))


def recipe_values() -> dict:
    phase = {"batch_size": 8, "learning_rate": 3e-3, "max_length": 16, "keep": "best"}
    return {
        "name": "few",
        "seeds": [1, 2],
        "variants": ["tfidf", "alone", "direct"],
        "task": {"name": "reviews", "train": "train.jsonl", "sentence_columns": ["sentence"]},
        "teacher": {"model": "teacher", **phase, "epochs": 4},
        "student": {"num_layers": 1, "inits": ["bottom"]},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase, "epochs": 5},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crossval")
    save_tiny_model(folder / "teacher")
    write_rows(folder / "train.jsonl", 40)
    return folder


def write_recipe(folder: Path, name: str = "few", **changes) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe_values() | changes, sort_keys=False))
    return str(path)
