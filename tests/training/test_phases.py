"""One phase as a job: its key, evaluation schedule and classes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from event_handlers import calling
from tiny_models import save_tiny_model, tiny_batch, tiny_masked_lm

from raykd.errors import InputError
from raykd.models.encoder import load_encoder
from raykd.models.student.init import StudentConfig
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.objectives.mate_kd import MateKdConfig
from raykd.objectives.minilmv2 import MiniLmV2Config
from raykd.objectives.rail_kd import RailKdConfig
from raykd.storage import schemas
from raykd.training.phase import run as phase_run
from raykd.training.phase.config import PhaseConfig
from raykd.training.phase.given import adopt_teacher
from raykd.training.phase.job import MODEL_FOLDER, Labels, PhaseJob
from raykd.training.phase.new_student import NewStudent
from raykd.training.phase.run import run_phase
from raykd.training.trainers import Worker

PRAISE_OR_BLAME = Labels(("praise", "blame"), regression=False)


@pytest.fixture
def model(tmp_path) -> Path:
    return save_tiny_model(tmp_path / "model")


def name_classes(model: Path, *names: str) -> None:
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = dict(enumerate(names))
    config["label2id"] = {name: number for number, name in enumerate(names)}
    (model / "config.json").write_text(json.dumps(config))


def job_on(model: Path, folder: Path, **changes) -> PhaseJob:
    """Return a job with eight short rows, one batch per epoch."""
    text = folder / "train.parquet"
    rows = [
        {
            "row_id": row,
            "sentence1": "the film was good",
            "sentence2": None,
            "label": float(row % 2),
        }
        for row in range(8)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schemas.EXAMPLES), text)
    job = PhaseJob(
        stage="adapt",
        name="adapt",
        out=folder / "out",
        start=str(model),
        teacher=model,
        text=text,
        teacher_outputs=None,
        config=PhaseConfig(epochs=1, batch_size=8, objective=FineTuneConfig()),
        labels=PRAISE_OR_BLAME,
        seed=1,
        inputs={},
    )
    return replace(job, **changes)


def logits(model: Path) -> torch.Tensor:
    batch = tiny_batch()
    with torch.no_grad():
        return load_encoder(str(model))(batch["input_ids"], batch["attention_mask"]).logits


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("praise", "blame"), [0, 1]),
        (("Praise", "BLAME"), [0, 1]),
        (("blame", "praise"), [1, 0]),
        (("LABEL_0", "LABEL_1"), [0, 1]),
    ],
)
def test_a_pretrained_teacher_has_its_classes_in_the_tasks_order(model, tmp_path, names, order):
    name_classes(model, *names)

    adopt_teacher(str(model), tmp_path / "teacher", PRAISE_OR_BLAME, {})

    adopted = tmp_path / "teacher" / MODEL_FOLDER
    torch.testing.assert_close(logits(adopted), logits(model)[:, order])
    assert load_encoder(str(adopted)).label_names == ("praise", "blame")


@pytest.mark.parametrize("names", [("good", "bad"), ("praise", "praise"), ("praise", "LABEL_1")])
def test_a_teacher_with_other_classes_is_refused_with_both_lists(model, tmp_path, names):
    name_classes(model, *names)

    with pytest.raises(InputError, match=f"{', '.join(names)}.*praise, blame.*id2label"):
        adopt_teacher(str(model), tmp_path / "teacher", PRAISE_OR_BLAME, {})


def test_an_objectives_initial_heads_do_not_depend_on_the_process(model, tmp_path):
    config = PhaseConfig(epochs=2, batch_size=4, objective=RailKdConfig(projection_size=4))
    models = []
    for noise in (7, 8):
        torch.manual_seed(noise)
        job = job_on(model, tmp_path, config=config, out=tmp_path / f"out-{noise}")
        run_phase(job, Worker())
        models.append((job.out / MODEL_FOLDER / "model.safetensors").read_bytes())

    assert models[0] == models[1]


@pytest.mark.parametrize(("num_epochs", "num_calls"), [(1, 1), (10, 10), (19, 10), (21, 7)])
def test_a_job_is_evaluated_at_most_as_often_as_set_and_after_its_last_epoch(
    model, tmp_path, num_epochs, num_calls
):
    scored = []
    config = PhaseConfig(epochs=num_epochs, batch_size=8, objective=FineTuneConfig())
    job = job_on(model, tmp_path, config=config, score=lambda encoder, tokenizer: {"accuracy": 1.0})

    run_phase(
        job,
        Worker(),
        events=calling(
            on_record=lambda record, _: scored.append(record.epoch) if record.scores else None
        ),
    )

    assert len(scored) == num_calls <= job.num_scores
    assert scored[-1] == num_epochs


def test_a_training_that_stops_early_is_the_beginning_of_the_whole_one(model, tmp_path):
    config = PhaseConfig(epochs=4, batch_size=4, learning_rate=1e-2, objective=FineTuneConfig())
    weights = []

    def score(encoder, _):
        weights.append(encoder.model.classifier.weight.detach().clone())
        return {"accuracy": 1.0}

    whole = job_on(model, tmp_path, config=config, score=score)
    stopped = replace(whole, out=tmp_path / "stopped", stop_after=3)
    run_phase(whole, Worker())
    run_phase(stopped, Worker())

    assert (whole.num_steps(), stopped.num_steps(), stopped.num_epochs()) == (8, 6, 3)
    assert len(weights) == 7
    assert torch.equal(weights[2], weights[6])
    assert not torch.equal(weights[3], weights[6])
    saved = load_encoder(str(stopped.out / MODEL_FOLDER)).model.classifier.weight
    assert torch.equal(saved, weights[2])
    curves = [(job.out / "metrics.jsonl").read_text().splitlines() for job in (whole, stopped)]
    assert [json.loads(line)["losses"] for line in curves[1]] == [
        json.loads(line)["losses"] for line in curves[0][:3]
    ]
    assert stopped.key() != whole.key() == replace(whole, stop_after=None).key()


def test_a_random_classifier_depends_on_the_jobs_seed(tmp_path):
    """The classifier of a model with three classes is replaced by a new one with two."""
    model = save_tiny_model(tmp_path / "three", num_labels=3)
    heads = []
    for seed in (1, 1, 2):
        config = PhaseConfig(epochs=1, batch_size=8, learning_rate=1e-12)
        out = tmp_path / str(len(heads))
        run_phase(job_on(model, tmp_path, config=config, seed=seed, out=out), Worker())
        heads.append(load_encoder(str(out / MODEL_FOLDER)).model.classifier.weight)

    torch.testing.assert_close(heads[0], heads[1])
    assert not torch.allclose(heads[0], heads[2])


def test_a_students_key_does_not_depend_on_its_path_or_other_outputs(model, tmp_path):
    def key(**values) -> str:
        config, source = StudentConfig(**values), values.get("model") or "a/teacher"
        return job_on(model, tmp_path, start=NewStudent(config, config.inits[0], source)).key()

    assert key(model="a/folder") == key(model="another/folder")
    assert key(num_layers=1, inits=("top",)) == key(num_layers=1, inits=("top", "random"))
    assert key(num_layers=1) != key(num_layers=2)
    assert key(num_layers=1, inits=("top",)) != key(num_layers=1, inits=("random",))
    assert key(layers=(1, 2)) == key(layers=(1, 2), num_layers=2)
    assert key(layers=(1, 2)) != key(layers=(1, 3))


def test_a_teacher_that_also_defines_the_students_shape_is_loaded_once(
    model, tmp_path, monkeypatch
):
    loaded = []

    def load(reference: str, **options):
        loaded.append(reference)
        return load_encoder(reference, **options)

    monkeypatch.setattr(phase_run, "load_encoder", load)
    objective = MiniLmV2Config(relation_heads=2)
    job = job_on(
        model,
        tmp_path,
        start=NewStudent(StudentConfig(num_layers=1), "random", str(model)),
        config=PhaseConfig(epochs=1, batch_size=8, objective=objective),
    )

    run_phase(job, Worker())

    assert loaded == [str(model)]


def test_a_generator_needs_a_trained_masked_lm_head(model, tmp_path):
    np.save(tmp_path / "logits.npy", np.float32([[0.5, -0.5]] * 8))
    named = save_tiny_model(tmp_path / "generator")
    objective = MateKdConfig(generator_steps=1, student_steps=1)
    config = PhaseConfig(epochs=2, batch_size=8, objective=objective)
    job = job_on(model, tmp_path, teacher_outputs=tmp_path, config=config, generator=str(named))
    with pytest.raises(InputError, match="has no masked-language-model head"):
        run_phase(job, Worker())

    tiny_masked_lm().model.save_pretrained(named)
    run_phase(job, Worker())

    first, second = map(json.loads, (job.out / "metrics.jsonl").read_text().splitlines())
    assert set(first["losses"]) == {"generator_total", "generator_aug_logits"}
    assert set(second["losses"]) == {"total", "task", "logits", "aug_logits"}

    (named / "tokenizer.json").write_text(
        (named / "tokenizer.json").read_text().replace('"film"', '"movie"')
    )
    with pytest.raises(InputError, match="teacher .* and generator .* different tokenizers"):
        run_phase(replace(job, out=tmp_path / "refused"), Worker())
