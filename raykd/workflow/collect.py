"""Collection of a run's results from its directory into one object."""

import json
import math
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq

from raykd.config import dump_yaml
from raykd.contextualize.card import read_card
from raykd.evaluation.baselines.pipeline import evaluate_baselines, read_facts
from raykd.evaluation.calibration.calibrate import CalibrationFacts
from raykd.evaluation.cost import Cost
from raykd.evaluation.pipeline import (
    PREDICTIONS_FILE,
    Comparison,
    analyze,
    constant_scores,
    evaluate,
    measure_costs,
)
from raykd.evaluation.predict import answers_in
from raykd.evaluation.teacher_check import Finding, check_answers
from raykd.objectives import OBJECTIVES
from raykd.report.results import (
    Analysis,
    CorpusFacts,
    Curve,
    CurvePoint,
    GeneratorFacts,
    ModelFacts,
    Phase,
    PhaseFacts,
    Results,
    Score,
    ScoreStage,
    StepFacts,
    Summary,
    TaskFacts,
    UnitSample,
    VariantFacts,
)
from raykd.storage.manifest import digest_of_directory, read_manifest
from raykd.storage.schemas import TEXT_FILE
from raykd.tasks.class_counts import class_counts, constant_answer, limits
from raykd.training.distributed.placement import uses_gpu
from raykd.training.logging.metrics_writer import CURVE_FILE
from raykd.training.phase.config import PhaseConfig
from raykd.training.phase.job import MODEL_FOLDER
from raykd.workflow.checks.baselines import baseline_job
from raykd.workflow.comparisons import compare_scores
from raykd.workflow.evaluation_sets import (
    SetScores,
    baseline_set_scores,
    facts_of_sets,
    score_constant_on_sets,
    score_models_on_sets,
)
from raykd.workflow.generators import generator_facts
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.variants import Text
from raykd.workflow.run import Run
from raykd.workflow.scoring.jobs import evaluation_job, predictions_on_dev
from raykd.workflow.starts import starts_of
from raykd.workflow.steps import QUERIES_FILE
from raykd.workflow.teacher.scores import facts_of_scores, finding_on_train, is_scored_on

_PACKAGES = ("raykd", "ray", "torch", "transformers", "numpy", "pyarrow", "numba", "scikit-learn")
_SAMPLE_UNITS = 5


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES}


def score_models(run: Run) -> list[Score]:
    """Score every model on the report split and evaluation sets; write missing predictions."""
    task, recipe = run.task_folder, run.recipe
    scores = [_baseline("majority", constant_scores(task), score_constant_on_sets(run))]
    baselines = [baseline_job(run, name) for name in recipe.baselines]
    for one, metrics in zip(
        baselines, evaluate_baselines(baselines, use_gpu=uses_gpu(recipe.workers)), strict=True
    ):
        scores.append(_baseline(one.name, metrics, baseline_set_scores(run, one.name)))
    models: list[tuple[str, str | None, int | None, ScoreStage, Path]] = []
    if is_scored_on(run, run.task().report_split):
        models.append(("teacher", None, None, "teacher", run.teacher))
    for student in run.students():
        chain = recipe.chain_of(student[0])
        # A student that is not adapted has one score only.
        if (
            chain
            and recipe.adapts(student[0])
            and _trains_classifier(recipe.injection_of(chain.last))
        ):
            models.append((*student, "injected", run.injected(chain, *student[1:])))
    models += [(*student, "adapted", run.adapted(*student)) for student in run.students()]
    jobs = [evaluation_job(run, variant, stage, folder) for variant, _, _, stage, folder in models]
    evaluated = evaluate(jobs, task, use_gpu=uses_gpu(recipe.workers))
    with_model = [job for job in jobs if job.given is None]  # scores are of the task's rows only
    of_models = score_models_on_sets(run, with_model)
    on_sets = {job.out: sets for job, sets in zip(with_model, of_models, strict=True)}
    for (variant, init, seed, stage, _), job, metrics in zip(models, jobs, evaluated, strict=True):
        answers = pq.read_table(job.out / PREDICTIONS_FILE, columns=["prediction"])
        constant = constant_answer(run.task(), answers["prediction"])
        scores.append(
            Score(
                variant=variant,
                init=init,
                seed=seed,
                stage=stage,
                metrics=metrics,
                constant_answer=constant,
                sets=dict(on_sets.get(job.out, {})),
            )
        )
    return scores


def teacher_finding(run: Run) -> Finding | None:
    """Check the teacher's answers on dev, or its given scores; return the problem, if any."""
    if run.recipe.teacher.members:
        return finding_on_train(run)
    on_dev = predictions_on_dev(run, "teacher", "teacher", run.teacher)
    return check_answers(run.task(), answers_in(on_dev))


def analyze_students(run: Run) -> list[Analysis]:
    """Compare every adapted student with the teacher, after all have been scored."""
    if not is_scored_on(run, run.task().report_split):
        return []
    students = list(run.students())
    teacher = evaluation_job(run, "teacher", "teacher", run.teacher)
    comparisons = [
        Comparison(
            student=evaluation_job(run, student[0], "adapted", run.adapted(*student)),
            teacher=teacher,
            out=run.analysis(*student),
        )
        for student in students
    ]
    results = analyze(comparisons, run.task_folder, use_gpu=uses_gpu(run.recipe.workers))
    return [
        Analysis(variant=variant, init=init, seed=seed, divergence=apart, layers=layers)
        for (variant, init, seed), (apart, layers) in zip(students, results, strict=True)
    ]


def measure_models(run: Run) -> list[ModelFacts]:
    """Inference costs of baselines, of the teacher if it is a model, and of adapted students."""
    baselines = []
    for name in run.recipe.baselines:
        job = baseline_job(run, name)
        facts = read_facts(job)
        folder = str(job.out.relative_to(run.out))
        baselines.append(
            ModelFacts(
                variant=name,
                init=None,
                seed=None,
                folder=folder,
                num_parameters=facts.num_parameters,
                cost=facts.cost,
            )
        )
    models: list[tuple[str, str | None, int | None, ScoreStage, Path]] = []
    if not run.recipe.teacher.members:
        models.append(("teacher", None, None, "teacher", run.teacher))
    models += [(*s, "adapted", run.adapted(*s)) for s in run.students()]
    jobs = [evaluation_job(run, variant, stage, folder) for variant, _, _, stage, folder in models]
    costs = measure_costs(jobs, run.task_folder, run.costs)
    return baselines + [
        _model_facts(run, variant, init, seed, folder, cost)
        for (variant, init, seed, _, folder), cost in zip(models, costs, strict=True)
    ]


def summarize(scores: Sequence[Score], evaluation_set: str | None = None) -> list[Summary]:
    """Summarize every metric of every variant over its seeds, in the order of the scores.

    The metrics are those on the report split, or on an evaluation set.
    """
    values_by_key: dict[tuple[str, str | None, ScoreStage, str], list[float]] = {}
    for score in scores:
        metrics = score.metrics if evaluation_set is None else score.sets.get(evaluation_set, {})
        for metric, value in metrics.items():
            key = score.variant, score.init, score.stage, metric
            values_by_key.setdefault(key, []).append(value)
    return [
        Summary(
            variant=variant,
            init=init,
            stage=stage,
            metric=metric,
            num_seeds=len(values),
            mean=statistics.fmean(values),
            median=statistics.median(values),
            deviation=statistics.stdev(values) if len(values) > 1 else None,
            evaluation_set=evaluation_set,
        )
        for (variant, init, stage, metric), values in values_by_key.items()
    ]


def collect(run: Run, calibration: CalibrationFacts | None) -> Results:
    """Collect everything that the report of a completed run needs.

    Args:
        run: completed up to the evaluation.
        calibration: that of its student.
    """
    recipe, task = run.recipe, run.task()
    folders: list[tuple[str, str | None, int | None, Phase, Path]] = [
        ("teacher", None, None, "teacher", run.teacher)
    ]
    folders += [
        (chain.name, init, seed, "injection", run.injected(chain, init, seed))
        for chain, init, seed in run.injections()
    ]
    folders += [(*s, "adaptation", run.adapted(*s)) for s in run.students() if recipe.adapts(s[0])]
    finding, sets = teacher_finding(run), facts_of_sets(run)
    scores = score_models(run)  # writes the predictions that the analyses read
    return Results(
        run=recipe.name,
        recipe=dump_yaml(recipe),
        versions=package_versions(),
        digests={
            name: digest_of_directory(run.out / name)
            for name in ("docstrings", "task", *_corpus_folders(recipe), "teacher")
            if read_manifest(run.out / name)
        }
        | {
            f"text {text.name}": digest_of_directory(run.training_text(text))
            for text in recipe.corpus_texts
        },
        task=TaskFacts(
            name=task.name,
            labels=list(task.labels),
            regression=task.regression,
            multi_label=task.multi_label,
            metrics=list(task.metrics),
            num_rows={split: table.num_rows for split, table in task.splits.items()},
            class_counts=class_counts(task),
            remarks=[*task.remarks, *limits(task)],
            report_split=task.report_split,
            sources=dict(task.sources),
        ),
        corpora=[corpus_facts(run, text) for text in recipe.corpus_texts],
        injection=phase_facts(recipe.injection) if recipe.injection else None,
        variants=[variant_facts(recipe, variant) for variant in recipe.injected_variants],
        adaptation=phase_facts(recipe.adaptation),
        scores=scores,
        summaries=summarize(scores),
        sets=sets,
        set_summaries=[summary for one in sets for summary in summarize(scores, one.name)],
        differences=compare_scores(run, scores),
        analyses=analyze_students(run),
        curves=[
            Curve(variant=variant, init=init, seed=seed, phase=phase, points=curve_points(folder))
            for variant, init, seed, phase, folder in folders
            if (folder / CURVE_FILE).is_file()
        ],
        curve_split="dev",
        times_s=run.times_s(),
        models=measure_models(run),
        teacher_remark=finding.reason if finding else None,
        teacher_scores=facts_of_scores(run),
        starts=starts_of(recipe),
        generators=[
            GeneratorFacts(phase=phase, model=model, head=head)
            for phase, model, head in generator_facts(run)
        ],
        calibration=calibration,
    )


def _baseline(variant: str, metrics: dict[str, float], sets: SetScores) -> Score:
    return Score(
        variant=variant, init=None, seed=None, stage="baseline", metrics=metrics, sets=dict(sets)
    )


def phase_facts(phase: PhaseConfig) -> PhaseFacts:
    """Objective of a phase, for the report."""
    name = phase.objective.name
    return PhaseFacts(
        objective=name,
        trains_classifier=OBJECTIVES[name].trains_classifier,
        keeps_best=phase.keep == "best",
    )


def _trains_classifier(phase: PhaseConfig) -> bool:
    return OBJECTIVES[phase.objective.name].trains_classifier


def variant_facts(recipe: Recipe, variant: str) -> VariantFacts:
    """Injections of a variant, for the report."""
    chain = recipe.chain_of(variant)
    assert chain is not None
    steps = []
    for step in chain.steps:
        phase = recipe.injection_of(step)
        steps.append(
            StepFacts(
                name=step.name,
                text=step.text.name,
                teacher=recipe.teacher_model_of(phase),
                objective=phase.objective.name,
                trains_classifier=_trains_classifier(phase),
            )
        )
    return VariantFacts(variant=variant, steps=steps, adapted=recipe.adapts(variant))


def _corpus_folders(recipe: Recipe) -> list[str]:
    """Return the folders of units and hits of the general corpora."""
    names = [None, *recipe.corpora]
    return [
        folder if name is None else f"{folder}@{name}"
        for folder in ("units", "hits")
        for name in names
    ]


def corpus_facts(run: Run, text: Text) -> CorpusFacts:
    """Card and sample of a training corpus, for the report."""
    folder = run.training_text(text)
    units = pq.read_table(folder / TEXT_FILE).slice(0, _SAMPLE_UNITS).to_pylist()
    sentences = {}
    if text.kind == "contextualized":
        queries = pq.read_table(run.queries / QUERIES_FILE, columns=["query_id", "text"])
        query_ids = {unit["query_id"] for unit in units}
        sentences = {
            row["query_id"]: row["text"]
            for row in queries.to_pylist()
            if row["query_id"] in query_ids
        }
    return CorpusFacts(
        name=text.name,
        card=read_card(folder),
        samples=[
            UnitSample(
                text=unit["text"],
                task_sentence=sentences.get(unit["query_id"]),
                rank=unit["rank"],
            )
            for unit in units
        ],
    )


def curve_points(folder: Path) -> list[CurvePoint]:
    """Learning curve of a completed training."""
    records = [json.loads(line) for line in (folder / CURVE_FILE).read_text().splitlines()]
    return [
        CurvePoint(
            step=record["step"],
            epoch=record["epoch"],
            losses=record["losses"],
            # Measures that are not finite numbers must not make the report fail.
            measures={
                name: value
                for name, value in record.get("measures", {}).items()
                if math.isfinite(value)
            },
            metrics=record["scores"],
        )
        for record in records
    ]


def _model_facts(
    run: Run, variant: str, init: str | None, seed: int | None, folder: Path, cost: Cost
) -> ModelFacts:
    manifest = read_manifest(folder)
    assert manifest is not None
    return ModelFacts(
        variant=variant,
        init=init,
        seed=seed,
        folder=str((folder / MODEL_FOLDER).relative_to(run.out)),
        num_parameters=int(manifest.counts["num_parameters"]),
        cost=cost,
    )
