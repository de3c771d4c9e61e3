"""Checks of model files before the first stage."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedTokenizerBase

from raykd.cluster import capacity
from raykd.errors import InputError
from raykd.models.embedding import TextEmbedder
from raykd.models.encoder import Encoder, load_tokenizer
from raykd.models.families.classes import MULTI_LABEL, saved_kind
from raykd.models.masked_lm import MaskedLm, load_special_tokens
from raykd.models.meta_model import load_meta_masked_lm, load_meta_model
from raykd.models.probe import check_pad_token
from raykd.models.resolve import checked_model, digest_of_weights, resolve_model
from raykd.models.student.init import check_tokenizers, same_tokens
from raykd.models.tokenization.positions import check_max_length
from raykd.objectives import OBJECTIVES, build
from raykd.objectives.shared.generation import check_generator
from raykd.storage.formats import format_of
from raykd.storage.schemas import EXAMPLES_FILE, TEXT_FILE
from raykd.tasks.labels.sets import targets_of
from raykd.training.class_weights import class_weights_of
from raykd.training.distributed.config import WorkersConfig
from raykd.training.distributed.placement import uses_gpu
from raykd.training.logging.tracking import check_trackers
from raykd.training.phase.config import PhaseConfig
from raykd.training.scores.table import files_of
from raykd.training.settings import TrainingConfig
from raykd.workflow.checks.baselines import check_baseline_packages
from raykd.workflow.checks.describe import (
    describe_gold_labels,
    describe_models,
    describe_phase,
    describe_preset,
)
from raykd.workflow.checks.trait_checks import check_model_traits
from raykd.workflow.embedder import load_embedder
from raykd.workflow.generators import describe_generator, generating_phases
from raykd.workflow.recipe.label_rules import labeled_phases
from raykd.workflow.recipe.model_rules import student_reference, teacher_reference
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME, Recipe
from raykd.workflow.run import Run
from raykd.workflow.starts import describe_starts, source_meta_model, student_meta_models


def check_models(run: Run) -> list[str]:
    """Make teacher, students and objectives without weights, and compare what must agree.

    Returns:
        Lines that describe the planned trainings.

    Raises:
        InputError: a model is missing or another than named; the sizes, tokenizers or objectives
            do not fit each other, or `max_length` the models; there are too few GPUs; a tracker
            of `report_to` is not installed or has no key.
    """
    recipe = run.recipe
    _check_gpus(recipe.workers)
    check_trackers(recipe.report_to)
    check_baseline_packages(recipe)
    reference = teacher_reference(recipe.teacher, recipe.student)
    for model in {reference, recipe.student.model or reference}:
        checked_model(model)
    _check_scores(run)
    digest = recipe.teacher.weights_sha256
    if digest is not None and digest != (found := digest_of_weights(reference)):
        raise InputError(
            f"teacher.model {reference}: its weights have sha256 {found}, the recipe's "
            f"weights_sha256 is {digest}; install the version the recipe names, or write the "
            "digest of the model you mean"
        )
    check_lengths(recipe)
    if recipe.task_da is not None:
        augmented, has_rows = Path(recipe.task_da), recipe.adaptation.rows == "task_da"
        for name in (TEXT_FILE, *([EXAMPLES_FILE] if has_rows else [])):
            if not (augmented / name).is_file():
                is_old = (augmented / "textbook.parquet").is_file()
                origin = " (it was written by an earlier version of raykd)" if is_old else ""
                raise InputError(
                    f"task_da: no {name} in {augmented}{origin}; run raykd augment --out "
                    f"{augmented}, or name the directory that it wrote"
                )
        _check_pairs(augmented, is_of_pairs=recipe.task.has_pairs)
    tokenizer = load_tokenizer(reference)
    teacher = load_meta_model(reference)
    _check_tokens(reference, teacher, tokenizer)
    config = recipe.student
    if config.model is not None:
        student_tokenizer = load_tokenizer(config.model)
        if not all(p.objective.allows_other_tokenizer for p in _phases(recipe).values()):
            check_tokenizers(tokenizer, student_tokenizer)
        _check_tokens(config.model, load_meta_model(config.model), student_tokenizer)
    phases = _phases(recipe)
    teachers = {name: _other_teacher(name, recipe, tokenizer) or teacher for name in phases}
    planned = [
        (name, phase.objective, _generator_meta_model(phase, reference, teacher, tokenizer))
        for name, phase in phases.items()
    ]
    notes = {
        name: describe_generator(phase.objective, reference)
        for name, phase in generating_phases(recipe).items()
    }
    plan: list[str] = []
    source = source_meta_model(recipe)
    students = student_meta_models(recipe, source)
    names = {name: _pretrained_teacher(name, recipe) or reference for name in phases}
    check_model_traits(recipe, phases, names, next(iter(students.values())))
    for student in students.values():
        with torch.device("meta"):
            of_phases: list[str] = []
            for name, objective, generator in planned:
                OBJECTIVES[objective.name].check(objective, student, teachers[name])
                tokens = load_special_tokens(reference) if objective.masks_words else None
                made = build(objective, student, teachers[name], generator, tokens)
                of_phases += [*describe_phase(name, made), *notes.get(name, [])]
        # Students differ in their first weights alone: one is described for all.
        starts = describe_starts(recipe, source, students)
        known = recipe.teacher if recipe.teacher.members else teacher
        plan = plan or [*describe_models(student, known, starts), *of_phases]
    of_labels = describe_gold_labels(_labeled_phases(recipe))
    return [*describe_preset(recipe.preset), *plan, *of_labels]


def _check_scores(run: Run) -> None:
    """Refuse files of a teacher's scores that are missing or of unknown format."""
    for path in (path for one in run.recipe.teacher.members for path in one.scores.paths):
        if not path.startswith(DOCSTRINGS_SCHEME):
            for file in files_of(run.resolve(path)):
                format_of(file)


def _check_pairs(augmented: Path, *, is_of_pairs: bool) -> None:
    """Refuse augmented text whose units are single sentences where the task's rows are pairs."""
    path = augmented / TEXT_FILE
    try:
        has_pairs = "text_pair" in pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}); run raykd augment again") from None
    if has_pairs != is_of_pairs:
        found, wanted = ("pairs", "one sentence") if has_pairs else ("single sentences", "a pair")
        raise InputError(
            f"task_da: {path} holds {found}, and a row of the task is {wanted}; run raykd augment "
            "again with the task's sentence_columns (versions before 0.2.0 wrote no pairs)"
        )


def _phases(recipe: Recipe) -> dict[str, PhaseConfig]:
    """The phases of students by the paths of their sections."""
    return {**recipe.injection_sections(), "adaptation": recipe.adaptation}


def _labeled_phases(recipe: Recipe) -> dict[str, TrainingConfig]:
    return labeled_phases(recipe.teacher, recipe.adaptation, recipe.alone)


def _pretrained_teacher(name: str, recipe: Recipe) -> str | None:
    """The model that a section names as its teacher in place of the fine-tuned one."""
    phase = recipe.injection_sections().get(name)
    return None if phase is None else recipe.teacher_model_of(phase)


def _other_teacher(name: str, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Encoder | None:
    """Meta model of a pretrained teacher that is not the model of the run's teacher."""
    reference = _pretrained_teacher(name, recipe)
    if reference is None or reference == recipe.teacher.model:
        return None
    setting = f"{name}.teacher_model"
    check_tokenizers(
        tokenizer, load_tokenizer(reference), role="pretrained teacher", setting=setting
    )
    meta_model = load_meta_model(reference)
    _check_tokens(reference, meta_model, tokenizer)
    return meta_model


def search_embedder(run: Run) -> TextEmbedder | None:
    """The encoder of a dense search, on a GPU if `workers` or the search itself wants one.

    Raises:
        InputError: there is no such model, or no GPU.
    """
    config = run.recipe.retrieval
    if config is None or config.dense is None:
        return None
    return load_embedder("retrieval.dense", config, use_gpu=uses_gpu(run.recipe.workers))


def _shares_tokens(recipe: Recipe) -> bool:
    """Return whether teacher and student use the same tokens."""
    model, teacher = recipe.student.model, recipe.teacher.model
    if model is None or teacher is None:
        return True
    return same_tokens(load_tokenizer(teacher), load_tokenizer(model))


def check_lengths(recipe: Recipe) -> None:
    """Refuse a phase whose texts are longer than its models can read."""
    teacher = teacher_reference(recipe.teacher, recipe.student)
    student = student_reference(recipe.teacher, recipe.student)
    # A student with another tokenizer may read longer texts than its teacher, which is asked about
    # the part that it can read.
    shares_tokens = _shares_tokens(recipe)
    is_trained = recipe.teacher.model is not None and not recipe.teacher.fine_tuned
    models = {"teacher": {teacher} if is_trained else set(), "alone": {student}}
    phases: dict[str, TrainingConfig | None] = {"teacher": recipe.teacher, "alone": recipe.alone}
    for name, phase in _phases(recipe).items():
        phases[name] = phase
        models[name] = {student}
        if phase.objective.needs_teacher and shares_tokens:
            models[name].add(_pretrained_teacher(name, recipe) or teacher)
        if generator := phase.objective.generator_reference(teacher):
            models[name].add(generator)
            if head := phase.objective.head_training:
                key = f"{name}.objective.generator.train_head.max_length"
                check_max_length(key, head.max_length, generator)
    for name, references in models.items():
        if (training := phases[name]) is not None:
            for reference in references:
                check_max_length(f"{name}.max_length", training.max_length, reference)


def check_classes(run: Run) -> None:
    """Compare class weights and a fine-tuned teacher's classes with the loaded task's.

    Raises:
        InputError: a class weight is of no class, or missing; the teacher does not have as many
            outputs as the task needs.
    """
    config, task = run.recipe.teacher, run.task()
    labels = targets_of(task.train)
    for section, phase in _labeled_phases(run.recipe).items():
        class_weights_of(f"{section}.class_weights", phase.class_weights, task.labels, labels)
    if config.model is None or not config.fine_tuned:
        return
    teacher = load_meta_model(config.model)
    if teacher.num_labels != task.num_labels:
        raise InputError(
            f"teacher.model {config.model}: its classifier has {teacher.num_labels} outputs, the "
            f"task needs {task.num_labels}; name a teacher fine-tuned on this task, or set "
            "teacher.fine_tuned: false"
        )
    kind = saved_kind(resolve_model(config.model))
    if kind is not None and (kind == MULTI_LABEL) != task.multi_label:
        kinds = ("any number of its classes", "exactly one of its classes")
        fits, found = kinds if task.multi_label else kinds[::-1]
        raise InputError(
            f"teacher.model {config.model}: its problem_type in config.json is {kind}, so that a "
            f"row has {found}, and a row of the task has {fits} (task.multi_label); name a teacher "
            "of the same kind"
        )


def _check_gpus(workers: WorkersConfig) -> None:
    """On one machine; a cluster of more may grow, and Train waits for what is missing."""
    if workers.use_gpu is not True or capacity.num_nodes() > 1:
        return
    num_wanted, num_gpus = workers.min_workers * workers.models_at_once, capacity.total_gpus()
    if num_gpus < num_wanted:
        raise InputError(
            f"workers.use_gpu: num_workers x models_at_once = {num_wanted} GPUs are needed, Ray "
            f"has {num_gpus:g} here; set use_gpu: false, or lower the other two"
        )


def _generator_meta_model(
    phase: PhaseConfig,
    reference: str,
    teacher: Encoder,
    tokenizer: PreTrainedTokenizerBase,
) -> MaskedLm | None:
    """The generator of a phase that has one, refused if its tokens are not the teacher's."""
    generator = phase.objective.generator_reference(reference)
    if generator is None:
        return None
    check_tokenizers(
        tokenizer, load_tokenizer(generator), role="generator", setting="objective.generator.model"
    )
    meta_model = load_meta_masked_lm(generator)
    check_generator(phase.objective, meta_model, teacher)
    return meta_model


def _check_tokens(
    reference: str,
    model: Encoder,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Refuse what would be an index out of range in the middle of training."""
    vocabulary = model.model.config.vocab_size
    if len(tokenizer) > vocabulary:
        raise InputError(
            f"model {reference}: its tokenizer has {len(tokenizer)} tokens, the model only "
            f"{vocabulary}; use the tokenizer that belongs to the model"
        )
    check_pad_token(reference, tokenizer)
