"""The generators of a run's objectives: which models they are, and the heads trained for them."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from raykd import progress
from raykd.contextualize.sample import Draw, by_key, fraction_for
from raykd.corpus.pipeline import shard_paths
from raykd.evaluation.baselines import BASELINES
from raykd.models.masked_lm import missing_head, missing_head_weights
from raykd.models.resolve import digest_of_model
from raykd.objectives.base import ObjectiveConfig
from raykd.objectives.shared.generator_model import TrainHeadConfig
from raykd.storage.manifest import (
    Draft,
    Manifest,
    digest_of_directory,
    digest_of_file,
    read_manifest,
    write_once,
)
from raykd.storage.schemas import TEXT_FILE, UNITS
from raykd.training.distributed.config import WorkersConfig
from raykd.training.logging.tracking import Tracking
from raykd.training.masked_lm_head.head import HeadJob
from raykd.training.masked_lm_head.report import HeadReport, check_report, read_report, summary
from raykd.training.phase.config import PhaseConfig
from raykd.training.pipeline import train_phases
from raykd.workflow import steps
from raykd.workflow.recipe.model_rules import teacher_reference
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run

# More rows than this are read again in further epochs.
_MOST_ROWS = 200_000


def generating_phases(recipe: Recipe) -> dict[str, PhaseConfig]:
    """The phases of a recipe's variants whose objective has a generator, by their key."""
    used = {step.section for step in recipe.steps}
    phases: dict[str, PhaseConfig] = {
        section: phase for section, phase in recipe.injection_sections().items() if section in used
    }
    if any(v not in ("alone", *BASELINES) and recipe.adapts(v) for v in recipe.variants):
        phases["adaptation"] = recipe.adaptation
    teacher = teacher_reference(recipe.teacher, recipe.student)
    return {name: p for name, p in phases.items() if p.objective.generator_reference(teacher)}


def generator_of(run: Run, phase: PhaseConfig) -> str | None:
    """Reference of the masked language model that generates in a phase; None where none does."""
    teacher = teacher_reference(run.recipe.teacher, run.recipe.student)
    model = phase.objective.generator_reference(teacher)
    if model is None or head_to_train(phase.objective, model) is None:
        return model
    return str(run.generator(_owner(run.recipe, phase)))


def generator_inputs(run: Run, phase: PhaseConfig) -> dict[str, str]:
    """Digest of that model, for the manifest of a training that reads it."""
    reference = generator_of(run, phase)
    return {} if reference is None else {"generator": digest_of_model(reference)}


def head_to_train(objective: ObjectiveConfig, model: str) -> TrainHeadConfig | None:
    """Return the settings for training a generator's head; None if its checkpoint has one.

    Args:
        objective: has the generator.
        model: reference of the generator.

    Raises:
        InputError: the checkpoint has no head and none is to be trained.
    """
    missing = _missing_head_weights(model, digest_of_model(model))
    if not missing:
        return None
    if objective.head_training is None:
        raise missing_head(
            model,
            missing,
            "name a masked language model with the teacher's tokenizer as "
            "objective.generator.model, such as the pretrained model that it was made from, or "
            "train a head first with objective.generator.train_head: {num_steps: 2000, text: "
            "corpus}",
        )
    return objective.head_training


def describe_generator(objective: ObjectiveConfig, teacher: str) -> list[str]:
    """Lines that name an objective's generator and where its head comes from.

    Raises:
        InputError: as `head_to_train`.
    """
    model = objective.generator_reference(teacher)
    if model is None:
        return []
    head = head_to_train(objective, model)
    if head is None:
        note = "masked-LM head of its checkpoint"
        if objective.head_training is not None:
            note += "; train_head is not needed"
    else:
        text = "units of the corpus" if head.text == "corpus" else "the task's training rows"
        note = (
            f"masked-LM head trained first: {head.num_steps:,} steps of {head.batch_size} rows on "
            f"{text}"
        )
    return [f"  generator  {model}, {note}"]


def train_generators(run: Run) -> None:
    """generator: masked-LM heads of generators whose checkpoints have none.

    Raises:
        InputError: a head learned too little; the text is too short.
    """
    phases = generating_phases(run.recipe)
    jobs = {
        name: _job(run, name, head, phase)
        for name, phase in phases.items()
        if _owner(run.recipe, phase) == name
        and (head := head_to_train(phase.objective, _model(run.recipe, phase)))
    }
    train_heads(list(jobs.values()), run.recipe.workers, storage=run.out / "ray_train")
    for job in jobs.values():
        progress.say(f"  {summary(read_report(job.out))}")
    for name, phase in phases.items():
        owner = jobs.get(_owner(run.recipe, phase))
        if owner is not None and phase.objective.head_training is not None:
            prefix = f"{name}.objective.generator.train_head."
            check_report(read_report(owner.out), phase.objective.head_training, prefix.__add__)


def train_heads(jobs: Sequence[HeadJob], workers: WorkersConfig, *, storage: Path) -> None:
    """Train the heads that are not trained yet, each in one process."""
    alone = workers.model_copy(update={"num_workers": 1})
    train_phases(jobs, alone, label="generator", storage=storage, only_model=len(jobs) == 1)


def write_text(
    units: Path, draw: Draw, head: TrainHeadConfig, out: Path, inputs: Mapping[str, str]
) -> Manifest:
    """Write `out/text.parquet`: units of a corpus, drawn at random, enough to train a head on.

    Args:
        units: what `corpus.pipeline.ingest` wrote.
        draw: runs `draw_from_shard(path, fraction, head.seed)` for all shards.
        head: settings; decide how many units.
        out: the directory to be written.
        inputs: digest of the units.
    """
    num_rows = min(head.num_steps * head.batch_size, _MOST_ROWS) + head.held_out_rows

    def write(draft: Draft) -> None:
        manifest = read_manifest(units)
        assert manifest is not None, units
        fraction = fraction_for(num_rows, int(manifest.counts["num_units"]))
        table = by_key(draw(fraction)).slice(0, num_rows).select(UNITS.names)
        pq.write_table(table, draft.directory / TEXT_FILE, compression="zstd")
        draft.counts["num_units"] = table.num_rows

    settings = {"num_rows": num_rows, "seed": head.seed}
    return write_once(out, "generator_text", settings, inputs, write)


def generator_facts(run: Run) -> list[tuple[str, str, HeadReport | None]]:
    """Phase, generator and what its trained head can do, None for one of its checkpoint."""
    return [
        (
            name,
            model,
            None
            if head_to_train(phase.objective, model) is None
            else read_report(run.generator(_owner(run.recipe, phase))),
        )
        for name, phase in generating_phases(run.recipe).items()
        for model in (_model(run.recipe, phase),)
    ]


def _job(run: Run, name: str, head: TrainHeadConfig, phase: PhaseConfig) -> HeadJob:
    model = _model(run.recipe, phase)
    if head.text == "corpus":
        folder = run.generator(f"{name}-text")
        draw = steps.drawing(shard_paths(run.units), head.seed, "text of the generator")
        write_text(run.units, draw, head, folder, {"units": digest_of_directory(run.units)})
        text, text_name = folder / TEXT_FILE, "units of the corpus, drawn at random"
    else:
        text, text_name = run.split("train"), "the task's training rows"
    return HeadJob(
        name=f"generator of {name}",
        out=run.generator(name),
        model=model,
        text=text,
        text_name=text_name,
        head=head,
        inputs={"model": digest_of_model(model), "text": digest_of_file(text)},
        tracking=Tracking(run.recipe.report_to, run.recipe.name, run.out),
    )


def _model(recipe: Recipe, phase: PhaseConfig) -> str:
    teacher = teacher_reference(recipe.teacher, recipe.student)
    model = phase.objective.generator_reference(teacher)
    assert model is not None
    return model


def _owner(recipe: Recipe, phase: PhaseConfig) -> str:
    """The first phase with the same generator and head: its folder serves all of them."""
    wanted = _identity(recipe, phase)
    return next(
        name
        for name, other in generating_phases(recipe).items()
        if _identity(recipe, other) == wanted
    )


def _identity(recipe: Recipe, phase: PhaseConfig) -> tuple[object, ...]:
    head = phase.objective.head_training
    return _model(recipe, phase), None if head is None else head.training_settings()


# A run asks for each of its students.
@functools.lru_cache(maxsize=16)
def _missing_head_weights(model: str, digest: str) -> tuple[str, ...]:
    return missing_head_weights(model)
