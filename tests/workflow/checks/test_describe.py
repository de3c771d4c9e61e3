"""Description of models and losses that is printed before training."""

from tiny_models import tiny_encoder

from raykd.objectives import build
from raykd.objectives.pkd import PkdConfig
from raykd.objectives.rail_kd import RailKdConfig
from raykd.workflow.checks.describe import describe_models, describe_phase


def test_a_description_has_layers_losses_and_trained_parameters():
    student = tiny_encoder(num_layers=2, hidden_size=12)
    teacher = tiny_encoder(num_layers=4, hidden_size=24)

    lines = describe_phase("adaptation", build(PkdConfig(), student, teacher))

    assert lines == [
        "adaptation    pkd",
        "  layers   first token's vectors, student <- teacher: 1 <- 2",
        "  logits   student's logits, teacher's logits of the same step, temperature 10",
        "  task     student's logits, gold labels",
        "  trained  0.0 million parameters of the student, projections.0.weight 24 x 12, "
        "projections.0.bias 24",
    ]


def test_a_description_marks_untrained_maps():
    student = tiny_encoder(num_layers=2, hidden_size=12)
    teacher = tiny_encoder(num_layers=4, hidden_size=24)
    config = RailKdConfig(teacher_projection="frozen_orthogonal")

    lines = describe_phase("adaptation", build(config, student, teacher))

    (trained,) = [line for line in lines if line.startswith("  trained ")]
    (fixed,) = [line for line in lines if line.startswith("  fixed ")]
    assert "student_projection.weight" in trained
    assert "teacher_projection.weight" in fixed
    assert "teacher_projection" not in trained


def test_models_are_described_by_their_shapes():
    student, teacher = tiny_encoder(num_layers=1, num_heads=4), tiny_encoder("roberta")

    starts = {"skip": "layers 1 of the teacher", "random": "random weights"}
    first, second, *rest = describe_models(student, teacher, starts)

    assert first.startswith("teacher       roberta, 2 layers of width 24, 2 heads: 0.0 million")
    assert second.startswith("student       bert, 1 layers of width 24, 4 heads: ")
    assert second.endswith(" parameters")
    assert rest == ["  skip    layers 1 of the teacher", "  random  random weights"]
