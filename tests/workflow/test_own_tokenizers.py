"""Teacher and student with different tokenizers: each tokenizes the text, logits are shared."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from families import TOKENS, make_model, make_tokenizer, save_model
from safetensors.numpy import load_file
from serial_tasks import serial_tasks
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raykd.errors import InputError
from raykd.training.teacher_cache import read_outputs
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages

# The same words with other ids, and fewer of them.
OTHER_TOKENS = (*TOKENS[:5], *reversed(TOKENS[5:35]))
TEXTS = [f"the {thing} was {word}" for thing in ("film", "plot") for word in ("good", "bad")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    save_model(folder / "teacher", "bert")
    make_model("distilbert", num_layers=1, vocab_size=len(OTHER_TOKENS)).save(folder / "student")
    make_tokenizer(OTHER_TOKENS).save_pretrained(folder / "student")
    rows = [f"{text},{text.split()[-1]}" for text in TEXTS]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return folder


def run_of(folder, name, objective, teacher=None):
    phase = {"epochs": 2, "batch_size": 2, "max_length": 16, "learning_rate": 1e-3}
    values = {
        "name": name,
        "variants": ["direct"],
        "task": {
            "name": "mine",
            "train": "rows.csv",
            "dev": "rows.csv",
            "sentence_columns": ["text"],
        },
        "teacher": {"dev_check": "warn", **(teacher or {"model": "teacher", "fine_tuned": True})},
        "student": {"model": "student"},
        "adaptation": {"objective": objective, **phase},
        "workers": {"use_gpu": False},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return Run(load_recipe(path), folder / "runs" / name, folder / "runs" / name / "units")


def adapted(run):
    with serial_tasks():
        run_stages(run, "adapt")
    return run.adapted("direct", "pretrained", 1) / "model"


def test_ad2_learns_from_logits_of_the_teachers_own_tokens(folder):
    run = run_of(folder, "ad2", {"name": "ad2"})
    student = adapted(run)

    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "teacher").eval()
    with torch.inference_mode():
        expected = teacher(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    logits = read_outputs(run.out / "teacher_outputs" / "train", "logits")
    assert np.asarray(logits) == pytest.approx(expected, abs=1e-5)
    assert AutoTokenizer.from_pretrained(student).get_vocab() == {
        token: number for number, token in enumerate(OTHER_TOKENS)
    }

    # Without the teacher's model and tokenizer, the same logits make the same student.
    columns = {"bad": np.asarray(logits)[:, 0], "good": np.asarray(logits)[:, 1], "text": TEXTS}
    pq.write_table(pa.table(columns), folder / "logits.parquet")
    scores = {"scores": {"paths": ["logits.parquet"], "kind": "logits"}}
    of_scores = adapted(run_of(folder, "scored", {"name": "ad2"}, scores))
    own, other = (load_file(path / "model.safetensors") for path in (student, of_scores))
    assert all(np.array_equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("objective", [{"name": "ad2", "feature_weight": 1.0}, {"name": "pkd"}])
def test_objectives_that_need_aligned_tokens_are_refused(folder, objective):
    with pytest.raises(InputError, match="different tokenizers.*ad2 without deep KD"):
        check_models(run_of(folder, "refused", objective))


@pytest.mark.parametrize("name", ["vanilla_kd", "annealing_kd", "ad2", "fine_tune"])
def test_objectives_on_logits_are_planned(folder, name):
    lines = check_models(run_of(folder, "planned", {"name": name}))
    assert any(line.startswith(f"adaptation    {name}") for line in lines)
