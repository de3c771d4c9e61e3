"""Pairs of models whose scores the report compares."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from raykd.evaluation.differences import Models, ScoreDifference, write_differences
from raykd.report.results import Score
from raykd.workflow.run import Run

# Variants without an injection; every other one is compared with the first that exists.
_SIMPLEST = ("direct", "alone")
# Texts that variants with an injection are compared with.
_BASELINE_TEXTS = ("random", "dsir")


def compare_scores(run: Run, scores: Sequence[Score]) -> list[ScoreDifference]:
    """Compare the scores of the students, also before adaptation, and the best with the others.

    Args:
        run: has the predictions of all models.
        scores: result of `collect.score_models`.
    """
    students = student_models(run)
    pairs = [pair for variants in students.values() for pair in _pairs(variants)]
    pairs += [(students[one.init][one.variant], one) for one in injected_models(run, scores)]
    best = _best(scores, run.task().main_metric)
    own = students[best.init][best.variant]
    pairs += [(own, other) for other in reference_models(run, scores)]
    return write_differences(pairs, run.task_folder, run.differences)


def student_models(run: Run) -> dict[str | None, dict[str, Models]]:
    """The adapted students with their predictions, by init and variant."""
    students: dict[str | None, dict[str, Models]] = {}
    for variant, init, _ in run.students():
        seeds = run.recipe.seeds
        folders: dict[int | None, Path] = {
            seed: run.predictions(run.adapted(variant, init, seed)) for seed in seeds
        }
        students.setdefault(init, {})[variant] = Models(variant, init, folders)
    return students


def injected_models(run: Run, scores: Sequence[Score]) -> list[Models]:
    """The students that have a score before adaptation as well."""
    scored = {(score.variant, score.init) for score in scores if score.stage == "injected"}
    models = []
    for variant, init in dict.fromkeys((variant, init) for variant, init, _ in run.students()):
        chain = run.recipe.chain_of(variant)
        if chain is None or (variant, init) not in scored:
            continue
        folders: dict[int | None, Path] = {
            seed: run.predictions(run.injected(chain, init, seed)) for seed in run.recipe.seeds
        }
        models.append(Models(variant, init, folders, is_injected=True))
    return models


def reference_models(run: Run, scores: Sequence[Score]) -> list[Models]:
    """The constant answer, baselines, and the teacher if it has a score."""
    models = [Models("majority", None, {})]
    models += [
        Models(name, None, {None: run.predictions(run.out / name)}) for name in run.recipe.baselines
    ]
    if any(score.stage == "teacher" for score in scores):
        models.append(Models("teacher", None, {None: run.predictions(run.teacher)}))
    return models


def _pairs(variants: dict[str, Models]) -> Iterator[tuple[Models, Models]]:
    """Yield each variant with the simplest one, and injected ones with those on baseline texts."""
    simplest = next((name for name in _SIMPLEST if name in variants), None)
    compared = set()
    for kind in (simplest, *_BASELINE_TEXTS):
        for name, models in variants.items():
            # Variants on a named corpus are compared with the one on a text of the same corpus.
            _, at, corpus = name.partition("@")
            other = kind if kind == simplest else f"{kind}{at}{corpus}"
            if kind != simplest and name in _SIMPLEST:
                continue
            if other not in variants or other == name or (other, name) in compared:
                continue
            compared.add((name, other))
            yield models, variants[other]


def _best(scores: Sequence[Score], metric: str) -> Score:
    """Return a score of the variant and init with the highest mean over seeds."""
    values: dict[tuple[str, str | None], list[float]] = {}
    for score in scores:
        if score.stage == "adapted":
            values.setdefault((score.variant, score.init), []).append(score.metrics[metric])
    best = max(values, key=lambda key: statistics.fmean(values[key]))
    return next(
        score
        for score in scores
        if (score.variant, score.init) == best and score.stage == "adapted"
    )
