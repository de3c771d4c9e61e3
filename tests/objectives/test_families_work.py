"""Families and objectives: the generated table is current, and allowed pairs train correctly."""

import re

import pytest
import torch
from families import DECODERS, make_model, make_tokenizer
from objectives_table import TABLE, table

from raykd.models.probe import probe
from raykd.models.student.init import StudentConfig, make_student
from raykd.objectives import OBJECTIVES, build
from raykd.objectives.vanilla_kd import VanillaKdConfig

FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "deberta-v2",
    "mpnet",
    "modernbert",
    "albert",
    "bart",
    *DECODERS,
)


def test_the_table_of_families_and_objectives_is_current():
    assert TABLE.read_text(encoding="utf-8") == table(), (
        "run python tests/support/objectives_table.py"
    )


def test_the_table_of_objectives_has_a_row_per_objective_with_its_file():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| `(raykd/\S+)` \|", TABLE.read_text("utf-8"), re.MULTILINE
    )
    assert [name for name, _ in rows] != []
    assert {name for name, _ in rows} == set(OBJECTIVES)
    for name, file in rows:
        assert OBJECTIVES[name].__module__ == file.removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_the_family_learns_the_teachers_reordered_logits(family):
    teacher = make_model(family, num_layers=2, num_labels=3)
    ids = torch.tensor([[2, 7, 9, 12, 3], [2, 8, 3, 0, 0], [2, 20, 15, 3, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    with torch.no_grad():
        before = teacher(**batch).logits
        teacher.reorder_classes([2, 0, 1])
        batch["teacher_logits"] = teacher(**batch).logits
    torch.testing.assert_close(batch["teacher_logits"], before[:, [2, 0, 1]])
    student = make_student(teacher, StudentConfig(num_layers=1), "random", seed=1)
    missing = probe(student, make_tokenizer(decoder=family in DECODERS), 16)
    assert not missing.keys() & {"logits", "padding", "gradients"}
    objective = build(VanillaKdConfig(task_weight=0.0, logit_weight=1.0), student).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    losses = []

    for _ in range(8):
        optimizer.zero_grad()
        loss = objective(batch).total
        loss.backward()
        assert all(parameter.grad is not None for parameter in student.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < losses[0] / 2
