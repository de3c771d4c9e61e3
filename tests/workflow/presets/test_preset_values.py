"""Presets compared with the papers: printed values, and losses of published code."""

from functools import reduce
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from tiny_models import tiny_batch, tiny_encoder
from transformers import AutoModelForSequenceClassification, BertConfig, RobertaConfig

from raykd.models.encoder import Encoder
from raykd.objectives import build
from raykd.objectives.minilmv2 import MiniLmV2, MiniLmV2Config
from raykd.training.phase.config import AdaptationConfig
from raykd.workflow.presets import load_preset, preset_names
from raykd.workflow.recipe.recipe_file import load_recipe

AD2_GRID = {
    "tune.space.adaptation.learning_rate.choice": [1e-5, 3e-5, 5e-5, 7e-5, 9e-5, 1e-4],
    "tune.space.adaptation.batch_size.choice": [16, 32],
}
AD2_TRAINING = {
    "seeds": [1, 2, 3, 4, 5],
    "variants": ["direct"],
    "adaptation.epochs": 6,
    "adaptation.warmup_fraction": 0.1,
    "adaptation.schedule": "linear",
    "adaptation.max_grad_norm": 1.0,
    "adaptation.max_length": 512,
}
PKD_TRAINING = {
    "adaptation.epochs": 4,
    "adaptation.batch_size": 32,
    "adaptation.weight_decay": 0.01,
    "adaptation.warmup_fraction": 0.1,
    "adaptation.max_length": 128,
    "student.inits": ["bottom"],
}
CC_STAGE_1_AND_3 = {
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-5,
    "warmup_fraction": 0.06,
    "weight_decay": 0.01,
    "max_length": 128,
}
CC = {
    **{f"teacher.{key}": value for key, value in CC_STAGE_1_AND_3.items()},
    **{f"adaptation.{key}": value for key, value in CC_STAGE_1_AND_3.items()},
    "injection.objective.relation_heads": 64,
    "injection.num_steps": 400_000,
    "injection.batch_size": 256,
    "injection.learning_rate": 6e-4,
    "injection.warmup_fraction": 0.01,
    "injection.weight_decay": 0.01,
    "injection.max_length": 128,
    "task_da_injection.learning_rate": 1e-4,
    "task_da_injection.warmup_fraction": 0.06,
}
CC_GRID = {
    "tune.space.adaptation.learning_rate.choice": [1e-5, 2e-5],
    "tune.space.adaptation.batch_size.choice": [16, 32],
}
# Values printed in the papers, or else set in their code: (preset, task).
TABLES: dict[tuple[str, str], dict[str, Any]] = {
    ("ad2", "mrpc"): {
        **AD2_TRAINING,
        **AD2_GRID,
        "adaptation.objective.task_weight": 1.0,
        "adaptation.objective.logit_weight": 1.0,
        "adaptation.objective.adversarial_weight": 1.0,
        "adaptation.objective.temperature": 1.0,
        "adaptation.objective.steps": 1,
        "adaptation.objective.feature_weight": 1.0,
        "adaptation.objective.attention_weight": 1.0,
    },
    ("vanilla_kd", "mrpc"): {
        **AD2_TRAINING,
        **AD2_GRID,
        "adaptation.objective.task_weight": 1.0,
        "adaptation.objective.logit_weight": 1.0,
        "adaptation.objective.temperature": 1.0,
    },
    ("fine_tune", "mrpc"): PKD_TRAINING | {"adaptation.learning_rate": 2e-5},
    ("rail_kd", "rte"): {
        "seeds": [1, 2, 3, 4, 5],
        "adaptation.objective.task_weight": 1 / 3,
        "adaptation.objective.logit_weight": 1 / 3,
        "adaptation.objective.layer_weight": 1 / 3,
        "adaptation.objective.projection_size": 128,
        "adaptation.objective.variant": "layer_wise",
        "adaptation.epochs": 40,
        "tune.space.adaptation.learning_rate.choice": [1e-5, 2e-5, 5e-5, 4e-6],
        "tune.space.adaptation.batch_size.choice": [8, 16, 32],
    },
    ("cilda", "sst2"): {
        "adaptation.objective.mask_probability": 0.3,
        "adaptation.objective.generator_steps": 10,
        "adaptation.objective.student_steps": 100,
        "adaptation.keep": "best",
        "tune.space.adaptation.learning_rate.choice": [1e-5, 2e-5, 4e-6],
        "tune.space.adaptation.batch_size.choice": [8, 16, 32],
    },
    **{
        ("cilda", task): {"adaptation.objective.generator_steps": 20}
        for task in ("cola", "mrpc", "rte")
    },
    ("mate_kd", "rte"): {
        "adaptation.objective.mask_probability": 0.3,
        "adaptation.objective.generator_steps": 10,
        "adaptation.objective.student_steps": 100,
        "adaptation.objective.generator_learning_rate": 5e-7,
        "adaptation.epochs": 30,
        "adaptation.batch_size": 32,
        "adaptation.learning_rate": 2e-5,
        "adaptation.max_length": 128,
        "adaptation.max_grad_norm": 5.0,
    },
    ("annealing_kd", "rte"): {
        "variants": ["task"],
        "injection.objective.max_temperature": 7,
        "injection.epochs": 14,
        "adaptation.epochs": 4,
        **{
            f"{phase}.{key}": value
            for phase in ("injection", "adaptation")
            for key, value in {
                "learning_rate": 2e-5,
                "batch_size": 32,
                "max_length": 128,
                "max_grad_norm": 1.0,
                "weight_decay": 0.0,
                "warmup_fraction": 0.0,
            }.items()
        },
    },
    ("alp_kd", "rte"): {
        "adaptation.objective.task_weight": 0.1,
        "adaptation.objective.logit_weight": 0.7,
        "adaptation.objective.layer_weight": 0.2,
        "adaptation.objective.temperature": 20.0,
        "adaptation.objective.include_last": True,
    },
    ("ckd", "rte"): {
        "adaptation.objective.task_weight": 0.1,
        "adaptation.objective.logit_weight": 0.2,
        "adaptation.objective.layer_weight": 0.7,
    },
    ("codir", "rte"): {
        "adaptation.objective.num_negatives": 100,
        "adaptation.objective.temperature": 2.0,
        "adaptation.objective.task_weight": 0.5,
        "adaptation.objective.logit_weight": 0.5,
        "adaptation.epochs": 10,
        "adaptation.weight_decay": 0.1,
        "adaptation.warmup_fraction": 0.06,
    },
    ("codir", "qqp"): {"adaptation.warmup_fraction": 0.25},
    ("codir_pretraining", "rte"): {"injection.teacher": "pretrained"},
    ("minilmv2", "rte"): {
        "injection.teacher": "pretrained",
        "injection.objective.relation_heads": 48,
        "injection.num_steps": 400_000,
        "injection.batch_size": 256,
        "injection.learning_rate": 6e-4,
        "injection.warmup_fraction": 0.01,
        "injection.weight_decay": 0.01,
    },
    ("tinybert", "mine"): {
        "injection.epochs": 10,
        "injection.batch_size": 32,
        "injection.learning_rate": 5e-5,
        "injection.schedule": "constant",
        "adaptation.objective.task_weight": 0.0,
        "adaptation.objective.temperature": 1.0,
        "adaptation.epochs": 3,
        "adaptation.batch_size": 32,
        "adaptation.learning_rate": 3e-5,
        "adaptation.warmup_fraction": 0.1,
    },
    **{
        ("tinybert", task): {"injection.epochs": epochs, "injection.max_length": length}
        for task, epochs, length in (
            ("cola", 50, 64),
            ("mrpc", 20, 128),
            ("rte", 20, 128),
            ("stsb", 20, 128),
            ("sst2", 10, 64),
            ("qnli", 10, 128),
            ("mnli", 5, 128),
            ("qqp", 5, 128),
        )
    },
    **{
        ("contextualized", task): {
            **CC,
            **grid,
            "retrieval.top_k": top_k,
            "task_da_injection.epochs": epochs,
        }
        for task, top_k, epochs, grid in (
            ("mnli", 10, 10, {}),
            ("qqp", 20, 10, {}),
            ("qnli", 50, 10, {}),
            ("sst2", 150, 20, {}),
            ("stsb", 500, 20, CC_GRID),
            ("mrpc", 800, 20, CC_GRID),
            ("cola", 900, 50, CC_GRID),
            ("rte", 1000, 20, CC_GRID),
        )
    },
}
# Learning rate, temperature, alpha, beta, whether vectors are normalized, and classes.
PKD_TABLE = {
    "mrpc": (2e-5, 20.0, 0.7, 8.0, True, 2),
    "sst2": (5e-5, 10.0, 0.5, 100.0, True, 2),
    "rte": (1e-5, 10.0, 0.7, 500.0, True, 2),
    "mnli": (5e-5, 10.0, 0.5, 100.0, False, 3),
    "qnli": (5e-5, 20.0, 0.5, 100.0, False, 2),
    "qqp": (5e-5, 20.0, 0.7, 100.0, False, 2),
}


@pytest.mark.parametrize(("preset", "task"), TABLES)
def test_values_equal_the_papers(preset, task):
    values = load_preset(preset, task)

    for path, value in TABLES[preset, task].items():
        assert reduce(lambda tree, key: tree[key], keys_of(path), values) == value, path
    if preset == "contextualized" and "retrieval.top_k" in TABLES[preset, task]:
        assert ("tune" in values) == (task in ("stsb", "mrpc", "cola", "rte"))


def keys_of(path: str) -> list[str]:
    """Split a path into keys; the keys of `tune.space` are paths themselves."""
    if not path.startswith("tune.space."):
        return path.split(".")
    *inner, last = path.removeprefix("tune.space.").split(".")
    return ["tune", "space", ".".join(inner), last]


def test_every_preset_is_in_a_table():
    assert {preset for preset, _ in TABLES} | {"pkd"} == set(preset_names())


def batch_and_models(num_labels: int) -> tuple[dict[str, torch.Tensor], Encoder, Encoder]:
    student = tiny_encoder(num_layers=3, num_labels=num_labels, seed=1).eval()
    teacher = tiny_encoder(num_layers=6, num_labels=num_labels, seed=2).eval()
    batch = tiny_batch(num_rows=6)
    batch["labels"] = torch.arange(6) % num_labels
    with torch.no_grad():
        batch["teacher_logits"] = teacher(batch["input_ids"], batch["attention_mask"]).logits
    return batch, student, teacher


def adaptation_of(preset: str, task: str) -> AdaptationConfig:
    return AdaptationConfig.parse(load_preset(preset, task)["adaptation"], preset)


@pytest.mark.parametrize("task", PKD_TABLE)
def test_the_loss_of_pkd_equals_its_published_code(task):
    rate, temperature, alpha, beta, normalized, num_classes = PKD_TABLE[task]
    config = adaptation_of("pkd", task)
    assert (config.learning_rate, config.epochs, config.batch_size) == (rate, 4, 32)
    batch, student, teacher = batch_and_models(num_classes)

    total = build(config.objective, student, teacher)(batch).total

    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    own = student(*inputs, layers=[1, 2])
    theirs = teacher(*inputs, layers=[2, 4])
    divergences = F.kl_div(
        F.log_softmax(own.logits / temperature, dim=1),
        F.softmax(theirs.logits / temperature, dim=1),
        reduction="none",
    )
    kd = temperature**2 * divergences.mean()  # over rows and classes
    vectors = [
        torch.stack([output.hidden_states[layer][:, 0] for layer in layers], dim=1)
        for output, layers in ((own, [1, 2]), (theirs, [2, 4]))
    ]
    if normalized:
        vectors = [F.normalize(vector, dim=-1) for vector in vectors]
    patience = F.mse_loss(*vectors)
    cross_entropy = F.cross_entropy(own.logits, batch["labels"])
    expected = (1 - alpha) * cross_entropy + alpha * kd + beta * patience
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize(("task", "num_classes"), [("sst2", 2), ("mnli", 3)])
def test_the_gradient_of_tinyberts_second_stage_equals_its_published_code(task, num_classes):
    config = adaptation_of("tinybert", task)
    batch, student, teacher = batch_and_models(num_classes)
    head = student.model.classifier.weight

    build(config.objective, student, teacher)(batch).total.backward()
    gradient = head.grad.clone()

    student.zero_grad()
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    soft = F.softmax(batch["teacher_logits"], dim=1)
    (-soft * F.log_softmax(student(*inputs).logits, dim=1)).mean().backward()
    torch.testing.assert_close(gradient, head.grad)


def test_minilmv2_uses_the_papers_layer_of_large_teachers():
    shape = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 9}
    student = tiny_encoder(num_layers=1)
    layers = {}
    for config_class, num_layers in product((BertConfig, RobertaConfig), (12, 24)):
        config = config_class(**shape, num_hidden_layers=num_layers)
        with torch.device("meta"):
            teacher = Encoder(AutoModelForSequenceClassification.from_config(config))
        objective = build(MiniLmV2Config(relation_heads=2), student, teacher)
        assert isinstance(objective, MiniLmV2)
        text = objective.describe()["query"]
        layers[config.model_type, num_layers] = int(text.rpartition("teacher's ")[2])
    assert layers == {
        ("bert", 12): 12,
        ("bert", 24): 21,
        ("roberta", 12): 12,
        ("roberta", 24): 19,
    }


def test_baseline_presets_copy_layers_of_the_pretrained_model(tmp_path):
    for preset in ("pkd", "fine_tune"):
        values = {
            "name": "mine",
            "preset": preset,
            "task": {"name": "mrpc", "train": "a.jsonl", "dev": "b.jsonl"},
            "teacher": {"model": "bert-base-uncased"},
            "student": {"num_layers": 6},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
        student = load_recipe(tmp_path / "recipe.yaml").student
        assert (student.inits, student.init_from) == (("bottom",), None)
