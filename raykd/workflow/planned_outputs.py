"""Outputs that the stages of a run will write, in a file that is read without the recipe."""

import json
from pathlib import Path
from typing import Any

from raykd.workflow.run import Run


def plan_text(run: Run) -> str:
    """Content of `plan.json`: outputs per stage, and settings that `raykd status` shows."""
    recipe = run.recipe
    plan: dict[str, Any] = {
        "name": recipe.name,
        "stages": planned_outputs(run),
        "models_at_once": recipe.workers.models_at_once,
        "num_trials": recipe.tune.most_trials if recipe.tune else None,
        "prices": recipe.prices.model_dump() if recipe.prices else None,
    }
    return json.dumps(plan, indent=2) + "\n"


def planned_outputs(run: Run) -> dict[str, list[str]]:
    """Directories that each stage writes, relative to the run directory.

    Stages without an output of their own in this recipe are left out, and so are outputs of
    another run: trials share the units of their study.
    """
    recipe = run.recipe
    texts = recipe.corpus_texts
    used = {text.corpus for text in texts}
    searched = {text.corpus for text in texts if text.kind == "contextualized"}
    corpora = [corpus for corpus in recipe.all_corpora if corpus is None or corpus in used]
    hits = [
        run.hits_in(corpus)
        for corpus in corpora
        if recipe.retrieval is not None and (corpus is None or corpus in searched)
    ]
    augmented = [run.augmented_rows] if recipe.adaptation.rows == "task_da" else []
    students = list(run.students())
    # Whether scores of a teacher include rows of the reported split is known after the task.
    has_model = recipe.teacher.model is not None
    scored = [run.adapted(*student) for student in students]
    scored += [run.teacher] if has_model else []
    sets = [one.name for one in recipe.evaluation.sets]
    outputs: dict[str, list[Path]] = {
        "docstrings": [run.out / "docstrings"] if recipe.docstrings else [],
        "task": [run.task_folder, *map(run.evaluation_set, sets)],
        "ingest": [run.units_of(corpus) for corpus in corpora],
        "retrieve": [run.queries, *hits] if hits else [],
        "contextualize": [*map(run.training_text, texts), *augmented],
        "teacher": [run.teacher],
        "inject": [run.injected(*student) for student in run.injections()],
        "adapt": [run.adapted(*student) for student in students],
        "evaluate": [
            *(run.analysis(*student) for student in students if has_model),
            run.differences,
            run.costs,
            *(run.predictions(model, name) for name in sets for model in scored),
        ],
        "report": [run.out / "student"],
    }
    names = {
        stage: [str(path.relative_to(run.out)) for path in paths if path.is_relative_to(run.out)]
        for stage, paths in outputs.items()
    }
    return {stage: paths for stage, paths in names.items() if paths}
