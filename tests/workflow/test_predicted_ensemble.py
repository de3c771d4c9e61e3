"""An ensemble of models through the files that `raykd predict` writes."""

import numpy as np
import pytest
import torch
import yaml
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raykd.cli.app import _exit_code as raykd
from raykd.training.scores.outputs import outputs_on
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages

ROWS = {
    "train": [(f"the {t} was {w}", w) for t in ("film", "plot") for w in ("good", "bad")],
    "dev": [("the scene was good", "good"), ("the actor was bad", "bad")],
}
WEIGHTS = {"first": 3.0, "second": 1.0}


def test_predictions_of_two_models_are_the_scores_of_an_ensemble(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for split, rows in ROWS.items():
        lines = [",".join(row) for row in rows]
        (data / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    save_tiny_model(tmp_path / "student", num_layers=1)
    mean = {split: np.zeros((len(rows), 2)) for split, rows in ROWS.items()}
    for seed, (name, weight) in enumerate(WEIGHTS.items()):
        model = tmp_path / name
        save_tiny_model(model)
        classifier = AutoModelForSequenceClassification.from_pretrained(model)
        torch.manual_seed(seed)
        torch.nn.init.normal_(classifier.classifier.weight)
        classifier.config.id2label = {0: "good", 1: "bad"}
        classifier.config.label2id = {"good": 0, "bad": 1}
        classifier.save_pretrained(model)
        tokenizer = AutoTokenizer.from_pretrained(model)
        for split, rows in ROWS.items():
            inputs = tokenizer([text for text, _ in rows], return_tensors="pt", padding=True)
            with torch.inference_mode():
                logits = classifier.eval()(**inputs).logits
            mean[split] += weight / 4 * logits.double().softmax(dim=1).numpy()
        out = str(tmp_path / f"{name}-scores")
        command = ["predict", str(model), "--data", str(data), "--out", out, "--device", "cpu"]
        with serial_tasks():
            assert raykd(command) == 0
    values = {
        "name": "ensemble",
        "variants": ["direct"],
        "task": {
            "name": "mine",
            "train": "data/train.csv",
            "dev": "data/dev.csv",
            "sentence_columns": ["text"],
        },
        "teacher": {
            "ensemble": [
                {"scores": f"{name}-scores", "weight": weight} for name, weight in WEIGHTS.items()
            ],
            "dev_check": "warn",
        },
        "student": {"model": "student"},
        "adaptation": {"objective": {"name": "vanilla_kd"}, "max_length": 16},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    run = Run(load_recipe(path), tmp_path / "out", tmp_path / "out" / "units")
    with serial_tasks():
        run_stages(run, "teacher")
    # The task's classes are in alphabetical order: bad, good.
    for split, expected in mean.items():
        powers = np.exp(outputs_on(run.teacher, split).astype(np.float64))
        found = powers / powers.sum(axis=1, keepdims=True)
        assert found[:, ::-1] == pytest.approx(expected, abs=1e-5)
