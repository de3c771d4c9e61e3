from dataclasses import replace
from pathlib import Path

from tiny_models import save_tiny_model
from transformers import AlbertConfig, AutoModelForSequenceClassification

from raykd.evaluation.pipeline import Comparison, EvaluationJob, _states


def evaluation_job(model, max_length):
    inputs = {"model": model, "task": "task"}
    return EvaluationJob(Path(model), Path("out"), max_length=max_length, inputs=inputs)


def test_two_models_are_compared_at_the_shorter_of_their_lengths():
    comparison = Comparison(
        evaluation_job("student", 128), evaluation_job("teacher", 64), Path("out")
    )
    assert comparison.max_length == 64


def test_another_student_teacher_task_or_length_changes_the_fingerprint():
    student, teacher = evaluation_job("student", 128), evaluation_job("teacher", 64)
    first = Comparison(student, teacher, Path("out"))
    others = [
        replace(first, student=evaluation_job("other", 128)),
        replace(first, teacher=evaluation_job("other", 64)),
        replace(first, student=replace(student, inputs={"model": "student", "task": "other"})),
        replace(first, student=evaluation_job("student", 127)),
        replace(first, teacher=evaluation_job("teacher", 65)),
    ]
    assert all((c.settings(), c.inputs()) != (first.settings(), first.inputs()) for c in others)


def test_a_family_without_addressable_layers_has_no_states(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    config = AlbertConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    assert _states((folder, 16), tmp_path) is None
