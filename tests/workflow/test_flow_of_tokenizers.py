"""Run with a student that has another tokenizer than its teacher."""

import json

import pytest
import yaml
from families import TOKENS, make_model, make_tokenizer, save_model
from transformers import AutoTokenizer

from raykd.cli.app import _exit_code as raykd
from raykd.report.results import Results

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.slow]

GOOD, BAD = ("good", "fine", "great", "bright"), ("bad", "poor", "awful", "dull")
THINGS = ("film", "book", "plot", "actor", "scene", "story")


def test_a_student_with_another_tokenizer_learns_from_its_teacher(tmp_path):
    save_model(tmp_path / "teacher", "bert")
    # The same words with other ids, and fewer of them.
    tokens = (*TOKENS[:5], *reversed(TOKENS[5:35]))
    make_model("distilbert", num_layers=1, vocab_size=len(tokens)).save(tmp_path / "student")
    make_tokenizer(tokens).save_pretrained(tmp_path / "student")
    words = [(word, "praise") for word in GOOD] + [(word, "blame") for word in BAD]
    for split, things in (("train", THINGS[:4]), ("dev", THINGS[4:])):
        rows = [{"text": f"the {t} was {w}", "label": label} for t in things for w, label in words]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    phase = {"batch_size": 16, "max_length": 16}
    values = {
        "name": "tokenizers",
        "variants": ["direct"],
        "task": {
            "name": "reviews",
            "train": "train.jsonl",
            "dev": "dev.jsonl",
            "sentence_columns": ["text"],
        },
        "teacher": {"model": "teacher", **phase, "epochs": 10, "learning_rate": 5e-3},
        "student": {"model": "student", "inits": ["pretrained"]},
        "adaptation": {
            "objective": {"name": "vanilla_kd", "task_weight": 0},
            **phase,
            "epochs": 10,
            "learning_rate": 5e-3,
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    out = tmp_path / "out"

    assert raykd(["distill", str(tmp_path / "recipe.yaml"), "--out", str(out)]) == 0
    assert raykd(["report", str(tmp_path / "recipe.yaml"), "--out", str(out)]) == 0

    results = Results.model_validate_json((out / "results.json").read_text())
    accuracy = {score.stage: score.metrics["accuracy"] for score in results.scores}
    assert accuracy["teacher"] > 0.9
    # It is trained without labels: its accuracy comes from the teacher's logits.
    assert accuracy["adapted"] > 0.9
    (saved,) = out.glob("students/*/adapted/**/tokenizer.json")
    assert AutoTokenizer.from_pretrained(saved.parent).get_vocab() == dict(
        zip(tokens, range(len(tokens)), strict=True)
    )
