"""Initialization of students: source of layers and classifier, and keys of the first training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_model

from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_encoder
from raykd.storage.manifest import Draft, write_once
from raykd.training.phase.new_student import NewStudent
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.corpus_stages import load_task
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run
from raykd.workflow.starts import starts_of
from raykd.workflow.training_stages import adapt_job, inject_job

CUT = {"num_layers": 2, "inits": ["skip"]}


@pytest.fixture
def folder(tmp_path) -> Path:
    for split in ("train", "dev"):
        rows = [{"sentence": f"the film was {word}", "label": word} for word in ("good", "bad")]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_tiny_model(tmp_path / "downloaded", num_layers=4)
    return tmp_path


def values_of(folder: Path, student: dict, **teacher) -> dict:
    return {
        "name": "tiny",
        "variants": ["alone", "direct", "task"],
        "task": {
            "name": "reviews",
            "train": str(folder / "train.jsonl"),
            "dev": str(folder / "dev.jsonl"),
            "sentence_columns": ["sentence"],
        },
        "teacher": {"model": str(folder / "downloaded"), "max_length": 16} | teacher,
        "student": student,
        "injection": {"objective": {"name": "vanilla_kd", "task_weight": 0}, "max_length": 16},
        "adaptation": {"objective": {"name": "vanilla_kd"}, "max_length": 16},
    }


def run_of(folder: Path, student: dict, **teacher) -> Run:
    """Make a run with a loaded task and a teacher with other weights than its initial model."""
    recipe = Recipe.parse(values_of(folder, student, **teacher), "recipe")
    run = Run(recipe, folder / "out", folder / "out" / "units")
    load_task(run)
    write_teacher(run, change=0.5)
    return run


def write_teacher(run: Run, *, change: float) -> None:
    def write(draft: Draft) -> None:
        save_tiny_model(draft.directory / "model", num_layers=4)
        teacher = load_encoder(str(draft.directory / "model"))
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.add_(change)
        teacher.save(draft.directory / "model")

    write_once(run.teacher, "teacher", {"change": change}, {}, write)


def first_student(run: Run, variant: str, init: str = "skip") -> Encoder:
    """Return the student of a variant before its first training."""
    if variant == "task":
        job = inject_job(run, run.recipe.chain_of(variant), init, 1)
    else:
        job = adapt_job(run, variant, init, 1)
    assert isinstance(job.start, NewStudent)
    return job.start.make(job.labels.num_outputs, job.labels.names, job.seed)


def has_weights_of(student: Encoder, source: Encoder, layers: list[int]) -> bool:
    """Return True if layers, embeddings and pooler equal the source's."""
    source_weights = source.model.base_model.state_dict()
    mine = student.model.base_model.state_dict()
    for index, layer in enumerate(layers):
        for name in list(mine):
            if name.startswith(f"encoder.layer.{index}."):
                source_name = name.replace(f"layer.{index}.", f"layer.{layer - 1}.", 1)
                if not torch.equal(mine.pop(name), source_weights[source_name]):
                    return False
    assert mine
    return all(torch.equal(value, source_weights[name]) for name, value in mine.items())


@pytest.mark.parametrize("variant", ["alone", "direct", "task"])
def test_layers_come_from_the_downloaded_model_and_the_classifier_is_random(folder, variant):
    run = run_of(folder, CUT)
    downloaded = load_encoder(str(folder / "downloaded"))
    teacher = load_encoder(str(run.teacher / "model"))

    student = first_student(run, variant)

    assert has_weights_of(student, downloaded, [1, 3])
    classifiers = [encoder.model.classifier.weight for encoder in (downloaded, teacher)]
    assert not any(
        torch.equal(student.model.classifier.weight, classifier) for classifier in classifiers
    )
    assert student.label_names == ("bad", "good")


@pytest.mark.parametrize(("variant", "with_classifier"), [("alone", 0), ("direct", 1), ("task", 1)])
def test_layers_of_the_teacher_come_with_its_classifier_except_in_the_variant_alone(
    folder, variant, with_classifier
):
    run = run_of(folder, CUT | {"init_from": "teacher"})
    teacher = load_encoder(str(run.teacher / "model"))

    student = first_student(run, variant)

    assert has_weights_of(student, teacher, [1, 3])
    same = torch.equal(student.model.classifier.weight, teacher.model.classifier.weight)
    assert same == bool(with_classifier)


def test_layers_of_a_named_model_are_copied_with_its_shape(folder):
    save_tiny_model(folder / "given", num_layers=3)
    named_model = load_encoder(str(folder / "given"))
    model = {"model": str(folder / "given")}

    top = run_of(folder, model | {"num_layers": 2, "inits": ["top"]})
    assert has_weights_of(first_student(top, "alone", "top"), named_model, [2, 3])
    listed = run_of(folder, model | {"layers": [1, 3]})
    assert has_weights_of(first_student(listed, "direct", "layers"), named_model, [1, 3])
    source_weights = run_of(folder, model)
    assert has_weights_of(
        first_student(source_weights, "task", "pretrained"), named_model, [1, 2, 3]
    )
    random = first_student(run_of(folder, model | {"inits": ["random"]}), "alone", "random")
    assert random.num_layers == 3
    assert not has_weights_of(random, named_model, [1, 2, 3])


def keys(run: Run, init: str = "skip") -> dict[str, str]:
    jobs = {variant: adapt_job(run, variant, init, 1) for variant in ("alone", "direct")}
    return {variant: job.key() for variant, job in jobs.items()} | {
        "task": inject_job(run, run.recipe.chain_of("task"), init, 1).key()
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {variant for variant in before if before[variant] != after[variant]}


def test_the_variant_alone_is_not_trained_again_for_another_teacher(folder):
    for student, init in ((CUT, "skip"), ({"num_layers": 2}, "random")):
        run = run_of(folder, student)
        before = keys(run, init)
        write_teacher(run, change=0.25)
        assert changed(before, keys(run, init)) == {"direct", "task"}


def test_a_student_with_the_teachers_layers_is_trained_again_for_another_teacher(folder):
    run = run_of(folder, CUT | {"init_from": "teacher"})
    before = keys(run)
    write_teacher(run, change=0.25)
    assert changed(before, keys(run)) == {"alone", "direct", "task"}


def test_a_student_is_trained_again_if_its_source_or_layers_change(folder):
    run, every_variant = run_of(folder, CUT), {"alone", "direct", "task"}
    before = keys(run)

    def keys_with(**student) -> dict[str, str]:
        recipe = Recipe.parse(values_of(folder, student), "recipe")
        return keys(replace(run, recipe=recipe), student.get("inits", ["layers"])[0])

    assert changed(before, keys_with(**CUT)) == set()
    assert changed(before, keys_with(**CUT, init_from="teacher")) == every_variant
    assert changed(keys_with(layers=[1, 3]), keys_with(layers=[1, 4])) == every_variant
    with (folder / "downloaded" / "config.json").open("a") as file:
        file.write(" ")
    assert changed(before, keys(run)) == every_variant


def test_a_fine_tuned_teacher_has_no_pretrained_layers(folder):
    def recipe(**student) -> Recipe:
        return Recipe.parse(values_of(folder, student, fine_tuned=True), "recipe")

    with pytest.raises(
        InputError, match=r"name the pretrained model as student\.model, or remove init_from"
    ):
        recipe(**CUT, init_from="pretrained")
    recipe(num_layers=2, init_from="pretrained")
    assert recipe(**CUT).copies_teacher
    assert recipe(**CUT, init_from="teacher").copies_teacher
    assert not recipe(**CUT, model="a/pretrained/model").copies_teacher
    assert not Recipe.parse(values_of(folder, CUT), "recipe").copies_teacher


def test_the_fine_tuned_teacher_itself_is_refused_as_the_students_model(folder):
    teacher = str(folder / "downloaded")
    for student in ({"model": teacher}, CUT | {"model": teacher}):
        run = run_of(folder, student, fine_tuned=True)
        with pytest.raises(InputError, match="is the fine-tuned teacher itself"):
            check_models(run)
    check_models(run_of(folder, {"model": teacher, "inits": ["random"]}, fine_tuned=True))


@pytest.mark.parametrize(
    ("student", "init", "start"),
    [
        ({"num_layers": 2}, "random", "random weights, in the shape of MODEL"),
        (
            CUT,
            "skip",
            "layers 1, 3 and the embeddings of MODEL as it was downloaded, with a random "
            "classifier",
        ),
        (
            {"layers": [1, 2, 4], "init_from": "teacher"},
            "layers",
            "layers 1, 2, 4 and the embeddings of the fine-tuned teacher, with its classifier "
            "(random for the variant alone, which learned from the teacher through the layers and "
            "is no baseline)",
        ),
        ({"model": "MODEL"}, "pretrained", "the whole of MODEL as it was downloaded"),
    ],
)
def test_the_description_has_each_students_initialization(folder, student, init, start):
    model = str(folder / "downloaded")
    run = run_of(folder, student | ({"model": model} if "model" in student else {}))
    start = start.replace("MODEL", model)

    assert starts_of(run.recipe) == {init: start}
    assert f"  {init}  {start}" in check_models(run)


def test_a_layer_beyond_the_models_is_refused_before_any_training(folder):
    with pytest.raises(InputError, match=r"student.layers \[1, 7\]: there is no layer 7"):
        check_models(run_of(folder, {"layers": [1, 7]}))
