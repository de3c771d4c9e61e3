"""Results of a cross-validation: those of a run, on the held-out rows of all folds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from raykd.config import dump_yaml
from raykd.report.crossval.facts import CrossvalFacts, Fold
from raykd.report.results import (
    Curve,
    CurvePoint,
    GeneratorFacts,
    ModelFacts,
    Phase,
    Results,
    Score,
    TaskFacts,
    TeacherScores,
)
from raykd.storage.checked_json import read_informative
from raykd.storage.manifest import digest_of_directory
from raykd.storage.schemas import TIMES_FILE
from raykd.tasks.class_counts import count_classes
from raykd.workflow.collect import (
    corpus_facts,
    curve_points,
    measure_models,
    package_versions,
    phase_facts,
    summarize,
    variant_facts,
)
from raykd.workflow.crossval.epochs import STUDENT_ROUND, TEACHER_ROUND, Choice
from raykd.workflow.crossval.folds import Crossval
from raykd.workflow.crossval.pooled import compare_pooled, pooled_intervals
from raykd.workflow.generators import generator_facts
from raykd.workflow.run import STAGE_FOLDERS, Run
from raykd.workflow.scoring.calibration import StudentCalibration, chosen_student
from raykd.workflow.starts import starts_of
from raykd.workflow.teacher.scores import facts_of_scores

# Name of the held-out rows of all folds in the report.
SPLIT = "held-out"


def collect(
    crossval: Crossval,
    runs: Mapping[int, Run],
    final: Run,
    scores: Sequence[Score],
    choices: Mapping[tuple[str, str | None], Choice],
    calibration: StudentCalibration | None,
) -> Results:
    """Collect what the report of a completed cross-validation needs.

    Args:
        crossval: the cross-validation.
        runs: runs of the folds.
        final: run on all labeled rows.
        scores: result of `pooled.pool_scores`.
        choices: chosen numbers of epochs by variant and init.
        calibration: that of the student.
    """
    recipe, task = crossval.recipe, crossval.pooled_run.task()
    num_rows = task.dev.num_rows
    counts = [] if task.regression else count_classes(task.dev, len(task.labels))
    return Results(
        run=recipe.name,
        recipe=dump_yaml(recipe),
        versions=package_versions(),
        digests={
            "task": digest_of_directory(final.task_folder),
            "teacher on all rows": digest_of_directory(final.teacher),
        },
        task=TaskFacts(
            name=task.name,
            labels=list(task.labels),
            regression=task.regression,
            metrics=list(task.metrics),
            num_rows={SPLIT: num_rows},
            class_counts={SPLIT: counts} if counts else {},
            remarks=[remark for remark in task.remarks if not remark.startswith("dev:")],
            report_split=SPLIT,
            sources={"labeled": task.sources["train"]},
        ),
        corpora=[corpus_facts(final, text) for text in final.recipe.corpus_texts],
        injection=phase_facts(recipe.injection) if recipe.injection else None,
        variants=[variant_facts(recipe, variant) for variant in recipe.injected_variants],
        adaptation=phase_facts(final.recipe.adaptation),
        scores=list(scores),
        summaries=summarize(scores),
        differences=compare_pooled(crossval, scores),
        curves=_curves(crossval, runs, choices),
        curve_split=f"{SPLIT} rows, mean over folds; {SPLIT}",
        times_s=_times_s(crossval, [*runs.values(), final]),
        models=_models(crossval, runs[1]),
        teacher_scores=_teacher_scores(final, scores, num_rows),
        starts=starts_of(recipe),
        generators=[
            GeneratorFacts(phase=phase, model=model, head=head)
            for phase, model, head in generator_facts(final)
        ],
        calibration=None if calibration is None else calibration.facts,
        crossval=CrossvalFacts(
            num_folds=crossval.num_folds,
            seed=recipe.task.dev_seed,
            num_rows=num_rows,
            folds=[_fold(number, run) for number, run in runs.items()],
            epochs=[choice.facts(*key) for key, choice in choices.items()],
            intervals=pooled_intervals(crossval, scores),
            student=chosen_student(crossval.whole_run),
            teacher_is_given=recipe.teacher.fine_tuned or bool(recipe.teacher.members),
        ),
    )


def _fold(number: int, run: Run) -> Fold:
    task = run.task()
    return Fold(
        number=number,
        num_train=task.train.num_rows,
        num_held_out=task.dev.num_rows,
        class_counts=[] if task.regression else count_classes(task.dev, len(task.labels)),
    )


def _curves(
    crossval: Crossval,
    runs: Mapping[int, Run],
    choices: Mapping[tuple[str, str | None], Choice],
) -> list[Curve]:
    """Mean learning curves over folds: those of all epochs where epochs were chosen."""
    whole = crossval.whole_run
    models: list[tuple[str, str | None, int | None, Phase]] = []
    if crossval.recipe.teacher.model is not None and not crossval.recipe.teacher.fine_tuned:
        models.append(("teacher", None, None, "teacher"))
    models += [(*student, "adaptation") for student in whole.students()]
    curves = []
    for variant, init, seed, phase in models:
        folders = []
        for number, run in runs.items():
            folder = run.teacher
            if phase == "adaptation":
                folder = next(
                    run.adapted(*student)
                    for student in run.students()
                    if student == (variant, init, seed)
                )
            if (variant, init) in choices:
                folder = crossval.choices_of(number) / folder.relative_to(run.out)
            folders.append(folder)
        points = _mean_points([curve_points(folder) for folder in folders])
        curves.append(Curve(variant=variant, init=init, seed=seed, phase=phase, points=points))
    return curves


def _mean_points(curves: Sequence[Sequence[CurvePoint]]) -> list[CurvePoint]:
    """Mean of the points of all folds at the epochs that all of them have."""
    by_epoch = [{point.epoch: point for point in curve} for curve in curves]
    epochs = sorted(set(by_epoch[0]).intersection(*by_epoch[1:]))
    points = []
    for epoch in epochs:
        own = [points_of[epoch] for points_of in by_epoch]
        points.append(
            CurvePoint(
                step=own[0].step,
                epoch=epoch,
                losses=_means(point.losses for point in own),
                measures=_means(point.measures for point in own),
                metrics=_means(point.metrics for point in own),
            )
        )
    return points


def _means(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each name that all have."""
    known = list(values)
    return {name: fmean(one[name] for one in known) for name in known[0] if _all(name, known)}


def _all(name: str, values: Sequence[Mapping[str, float]]) -> bool:
    return all(name in one for one in values)


def _models(crossval: Crossval, run: Run) -> list[ModelFacts]:
    """Models of a fold with their costs; those of other folds have the same shapes."""
    prefix = run.out.relative_to(crossval.out)
    return [
        model.model_copy(update={"folder": str(prefix / model.folder)})
        for model in measure_models(run)
    ]


def _teacher_scores(final: Run, scores: Sequence[Score], num_rows: int) -> TeacherScores | None:
    """Facts about the scores of a teacher that is no model."""
    facts = facts_of_scores(final)
    if facts is None:
        return None
    is_scored = any(score.stage == "teacher" for score in scores)
    found = {**facts.num_rows, SPLIT: num_rows if is_scored else 0}
    return facts.model_copy(update={"num_rows": found})


def _times_s(crossval: Crossval, runs: Sequence[Run]) -> dict[str, float]:
    """Wall time of each stage, summed over folds and the final training."""
    times: dict[str, float] = {}
    for run in runs:
        for stage, seconds in run.times_s().items():
            times[stage] = times.get(stage, 0.0) + seconds
    rounds = read_informative(crossval.out / TIMES_FILE)
    ordered = {stage: times[stage] for stage in STAGE_FOLDERS if stage in times}
    return ordered | {one: rounds[one] for one in (TEACHER_ROUND, STUDENT_ROUND) if one in rounds}
