"""The stages of a run in order: what each reads, what it writes, where that lies.

Only this file knows the whole recipe and the layout of the run directory; a stage's code gets
paths and its own settings.
"""

import functools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from raykd import cluster, contextualize, corpora, progress, random_corpus
from raykd.arms import Arm, injections_of, text_of
from raykd.collect import analyse_students, collect, measure_models, score_models
from raykd.config import dump_yaml
from raykd.corpora import QUERIES_FILE
from raykd.corpus import docstrings
from raykd.corpus import pipeline as corpus_pipeline
from raykd.corpus_card import read_card
from raykd.evaluation.predict import Scorer
from raykd.evaluation.store import write_task
from raykd.locations import is_url, location_of
from raykd.manifest import (
    Draft,
    check_replaceable,
    digest_of,
    digest_of_directory,
    digest_of_file,
    make_output_directory,
    read_manifest,
    write_if_new,
    write_once,
)
from raykd.model_card import write_card
from raykd.models.resolve import digest_of_model
from raykd.models.student_init import Init
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.preflight import check_classes, check_models, search_embedder
from raykd.report import render
from raykd.retrieval import pipeline as retrieval_pipeline
from raykd.retrieval.query_sets import QuerySet
from raykd.run import Run
from raykd.training.phases import (
    MODEL_FOLDER,
    Labels,
    NewStudent,
    PhaseConfig,
    PhaseJob,
    adopt_teacher,
)
from raykd.training.pipeline import cache_teacher_outputs, train_phases
from raykd.training.teacher_cache import OutputsJob
from raykd.training.tracking import Tracking


def make_docstrings(run: Run) -> None:
    """docstrings: the demo's corpus and task, from the documentation of installed packages."""
    if run.recipe.docstrings is not None:
        docstrings.build(run.recipe.docstrings, run.out / "docstrings", cluster.for_each)


def load_task(run: Run) -> None:
    """task: training and evaluation examples, checked."""
    write_task(run.recipe.task, run.resolve, run.task_folder)


def ingest(run: Run) -> None:
    """ingest: the general corpus, cut into units and shards."""
    config = run.recipe.corpus
    if config is not None:
        paths = [location_of(path) if is_url(path) else run.resolve(path) for path in config.paths]
        corpus_pipeline.ingest(config, paths, run.units)


def search(run: Run) -> None:
    """search: the units nearest to each sentence of the task, by BM25, embeddings, or both."""
    config = run.recipe.retrieval
    if config is None:
        return
    queries = corpora.write_queries(run.task_folder, config.query_keywords, run.queries)
    retrieval_pipeline.search(
        corpus_pipeline.shard_paths(run.units),
        [QuerySet("hits", pq.read_table(run.queries / QUERIES_FILE), config.top_k)],
        config,
        run.hits,
        {"units": digest_of_directory(run.units), "queries": queries.digest},
        search_embedder(run),
        run.embeddings,
    )


def make_textbooks(run: Run) -> None:
    """contextualize: the contextualized corpus, and a random one of the same size."""
    recipe = run.recipe
    if not recipe.corpus_arms or recipe.retrieval is None:
        return
    hits, units = read_manifest(run.hits), read_manifest(run.units)
    assert hits is not None
    assert units is not None
    shards = corpus_pipeline.shard_paths(run.units)
    surroundings = corpora.surroundings(run.task(), shards, units, run.sample)
    made = contextualize.contextualize(
        run.hits / retrieval_pipeline.HITS_FILE,
        functools.partial(retrieval_pipeline.gather, shards),
        surroundings,
        recipe.contextualize,
        run.textbook("contextualized"),
        {"hits": hits.digest, "units": units.digest},
        search=corpora.search_facts(recipe.retrieval, recipe.retrieval.top_k, hits),
    )
    if "random" in recipe.arms:
        random_corpus.random_corpus(
            shards,
            int(made.counts["num_units"]),
            surroundings,
            recipe.contextualize,
            run.textbook("random"),
            {"units": units.digest},
            draw=corpora.drawing(shards, recipe.contextualize.random_seed, "random corpus"),
            like=read_card(run.textbook("contextualized")).text,
        )


def train_teacher(run: Run) -> None:
    """teacher: fine-tuned on the task, or taken as named."""
    config, labels = run.recipe.teacher, _labels(run)
    reference = config.model
    if config.fine_tuned:
        adopt_teacher(reference, run.teacher, labels, {"model": digest_of_model(reference)})
        return
    values = config.model_dump(exclude={"model", "weights_sha256", "fine_tuned", "seed"})
    job = PhaseJob(
        stage="teacher",
        name="teacher",
        out=run.teacher,
        start=reference,
        teacher=None,
        text=run.split("train"),
        teacher_outputs=None,
        config=PhaseConfig(objective=FineTuneConfig(), **values),
        labels=labels,
        tokens=run.tokens,
        seed=config.seed,
        inputs={
            "model": digest_of_model(reference),
            "train": digest_of_file(run.split("train")),
        },
    )
    _train(run, [_with_curve(run, job)], "teacher")


def inject(run: Run) -> None:
    """inject: students learn from the teacher on unlabelled text."""
    if not run.recipe.injected_arms:
        return
    cache_outputs(run, run.recipe.teacher_texts())
    students = list(run.injections())
    for is_first in (True, False):
        wanted = [s for s in students if (len(injections_of(s[0])) == 1) == is_first]
        _train(run, [inject_job(run, *student) for student in wanted], "inject")


def inject_job(
    run: Run, arm: Arm, init: Init, seed: int, *, injected: Path | None = None
) -> PhaseJob:
    """The last injection of one student; `injected` is that of the one before, if not the run's."""
    *before, _ = injections_of(arm)
    text = text_of(arm)
    phase = run.recipe.injection_on(text)
    inputs = {
        "teacher": digest_of_directory(run.teacher),
        "text": digest_of_file(run.text(text)),
        **_generator_inputs(run, phase),
    }
    start: str | NewStudent = NewStudent(run.recipe.student, init)
    if before:
        injected = injected or run.student(before[-1], init, seed, "injected")
        start = str(injected / MODEL_FOLDER)
        inputs["injected"] = digest_of_directory(injected)
    else:
        inputs |= _student_inputs(run)
    return PhaseJob(
        stage="inject",
        name=f"inject {arm} {init} seed {seed}",
        out=run.student(arm, init, seed, "injected"),
        start=start,
        teacher=run.teacher / MODEL_FOLDER,
        text=run.text(text),
        teacher_outputs=(run.teacher_outputs(text) if text in run.recipe.teacher_texts() else None),
        config=phase,
        labels=_labels(run),
        tokens=run.tokens,
        seed=seed,
        inputs=inputs,
    )


def adapt(run: Run) -> None:
    """adapt: students learn the task, after injection or alone."""
    cache_outputs(run, [name for name in run.recipe.teacher_texts() if name == "train"])
    _train(run, [adapt_job(run, *student) for student in run.students()], "adapt")


def adapt_job(
    run: Run, arm: Arm, init: Init, seed: int, *, injected: Path | None = None
) -> PhaseJob:
    """The adaptation of one student; `alone` and `direct` start anew, `alone` has no teacher."""
    recipe = run.recipe
    injected = injected or run.student(arm, init, seed, "injected")
    inputs = {
        "train": digest_of_file(run.split("train")),
        "teacher": digest_of_directory(run.teacher),
    }
    reads_outputs = "train" in recipe.teacher_texts() and arm != "alone"
    phase = recipe.adaptation
    if arm == "alone":
        values = dict(recipe.alone or recipe.adaptation)
        values.pop("objective", None)
        phase = PhaseConfig(objective=FineTuneConfig(), **values)
    is_injected = arm in recipe.injected_arms
    if is_injected:
        inputs["injected"] = digest_of_directory(injected)
    else:
        inputs |= _student_inputs(run)
    inputs |= _generator_inputs(run, phase)
    job = PhaseJob(
        stage="adapt",
        name=f"adapt {arm} {init} seed {seed}",
        out=run.student(arm, init, seed, "adapted"),
        start=(str(injected / MODEL_FOLDER) if is_injected else NewStudent(recipe.student, init)),
        teacher=run.teacher / MODEL_FOLDER,
        text=run.split("train"),
        teacher_outputs=run.teacher_outputs("train") if reads_outputs else None,
        config=phase,
        labels=_labels(run),
        tokens=run.tokens,
        seed=seed,
        inputs=inputs,
    )
    return _with_curve(run, job)


def evaluate(run: Run) -> None:
    """evaluate: teacher, students, baselines on the reported split; what students learned, cost."""
    main = run.task().main_metric
    for score in score_models(run):
        who = " ".join(
            str(part) for part in (score.arm, score.init, score.seed) if part is not None
        )
        progress.say(f"  {score.metrics[main]:.3f} {main}  {who}, {score.stage}")
    analyse_students(run)
    told = set()
    for model in measure_models(run):
        if model.cost and model.cost not in told:
            told.add(model.cost)
            size = f"{model.num_parameters / 1e6:.2f} M parameters"
            progress.say(f"  {model.cost.latency_ms:.2f} ms a row, {size}  {model.arm}")


def report(run: Run) -> None:
    """report: results.json, report.html, and the student of the first seed with its card."""
    results = collect(run)
    write_if_new(run.out / "results.json", results.model_dump_json(indent=2) + "\n")
    write_if_new(run.out / "report.html", render(results))
    adapted = [score for score in results.scores if score.stage == "adapted"]
    first_seed = [score for score in adapted if score.seed == run.recipe.seeds[0]]
    student = next((s for s in first_seed if s.arm == "contextualized"), first_seed[-1])
    model = run.student(student.arm, student.init, student.seed, "adapted") / MODEL_FOLDER  # type: ignore[arg-type]  # a student's score has both
    card = write_card(results, student, run.recipe.teacher.model, "student")
    inputs = {"model": digest_of_directory(model.parent), "card": digest_of(card)}

    def write(draft: Draft) -> None:
        shutil.copytree(model, draft.directory, dirs_exist_ok=True)
        (draft.directory / "README.md").write_text(card, encoding="utf-8")

    write_once(run.out / "student", "student", {}, inputs, write)
    progress.say(f"  {run.out / 'report.html'}")


STAGES: dict[str, Callable[[Run], None]] = {
    "docstrings": make_docstrings,
    "task": load_task,
    "ingest": ingest,
    "search": search,
    "contextualize": make_textbooks,
    "teacher": train_teacher,
    "inject": inject,
    "adapt": adapt,
    "evaluate": evaluate,
    "report": report,
}


def run_stages(run: Run, last: str, *, first: str = "docstrings") -> None:
    """Run the stages from `first` to `last`; what is already done is not done again.

    Raises:
        InputError: the run directory cannot be one, or holds something of the user's where a stage
            writes; as the stages.
    """
    make_output_directory(run.out)
    for folder in run.replaced_folders():
        check_replaceable(folder)
    names = list(STAGES)
    names = names[names.index(first) : names.index(last) + 1]
    needs_models = "teacher" in names
    if "search" in names:
        search_embedder(run)
    if needs_models:
        for line in check_models(run):
            progress.say(line)
    write_if_new(run.out / "recipe.yaml", dump_yaml(run.recipe))
    for name in names:
        started = time.monotonic()
        with run.timed(name):
            STAGES[name](run)
            if name == "task" and needs_models:
                check_classes(run)
        progress.say(f"{name:14} {time.monotonic() - started:6.1f} s")


def _train(run: Run, jobs: Sequence[PhaseJob], label: str) -> None:
    tracking = Tracking(run.recipe.report_to, run.recipe.name, run.out)
    jobs = [replace(job, tracking=tracking) for job in jobs]
    train_phases(jobs, run.recipe.workers, label=label, storage=run.out / "ray_train")


def cache_outputs(run: Run, names: Sequence[str]) -> None:
    """Compute the teacher's outputs on texts, see `Recipe.teacher_texts`."""
    jobs = [_outputs_job(run, name) for name in names]
    cache_teacher_outputs(jobs, use_gpu=run.recipe.workers.use_gpu)


def _outputs_job(run: Run, name: str) -> OutputsJob:
    recipe = run.recipe
    phase = recipe.adaptation if name == "train" else recipe.injection_on(name)
    return OutputsJob(
        teacher=run.teacher / MODEL_FOLDER,
        text=run.text(name),
        out=run.teacher_outputs(name),
        max_length=phase.max_length,
        pooling=phase.objective.teacher_features,
        relation_layer=phase.objective.teacher_relations,
        inputs={
            "teacher": digest_of_directory(run.teacher),
            "text": digest_of_file(run.text(name)),
        },
    )


def _with_curve(run: Run, job: PhaseJob) -> PhaseJob:
    """The job, scored on dev as it goes; what the curve depends on is among its inputs."""
    split, metrics, length = run.split("dev"), run.task().metrics, job.config.max_length
    curve = digest_of([digest_of_file(split), metrics, length])
    scorer = Scorer(split, metrics, max_length=length)
    return replace(job, score=scorer, inputs={**job.inputs, "curve": curve})


def _student_inputs(run: Run) -> dict[str, str]:
    model = run.recipe.student.model
    return {} if model is None else {"student": digest_of_model(model)}


def _generator_inputs(run: Run, phase: PhaseConfig) -> dict[str, str]:
    reference = phase.objective.generator_beside(str(run.teacher / MODEL_FOLDER))
    return {} if reference is None else {"generator": digest_of_model(reference)}


def _labels(run: Run) -> Labels:
    task = run.task()
    return Labels(tuple(task.labels), task.regression)
