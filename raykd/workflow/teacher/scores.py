"""A run's teacher that is known by its scores: its outputs on the task's rows, and facts."""

from raykd import progress
from raykd.evaluation.predict import answers
from raykd.evaluation.teacher_check import Finding, check_answers
from raykd.report.results import TeacherScores
from raykd.storage.manifest import Manifest, read_manifest
from raykd.tasks.metrics import compute
from raykd.training.phase.config import TeacherConfig
from raykd.training.scores.outputs import Member, ScoresJob, has_outputs, outputs_on
from raykd.workflow.checks.describe import describe_scores
from raykd.workflow.run import Run


def write_scores(run: Run) -> Manifest:
    """Read, check and write the teacher's outputs on the task's rows, unless they are complete.

    Raises:
        InputError: a file, a row or a score is invalid, or training rows have no scores.
    """
    config = run.recipe.teacher
    members = [
        Member(one.scores, [run.resolve(path) for path in one.scores.paths], one.weight)
        for one in config.members
    ]
    return ScoresJob(
        members=members,
        order=config.labels,
        task=run.recipe.task,
        task_folder=run.task_folder,
        resolve=run.resolve,
        out=run.teacher,
    ).run()


def read_scores(run: Run) -> None:
    """Do the work of the stage `teacher` where it is known by its scores, and print what it has.

    It is called after the task is read, so that errors come before any work.

    Raises:
        InputError: see `write_scores`.
    """
    if run.recipe.teacher.members:
        progress.say(f"  {_describe(run, write_scores(run))}")


def teacher_name(run: Run) -> str:
    """The teacher's model, or its files of scores."""
    config = run.recipe.teacher
    if config.members:
        return describe_scores(config)
    assert config.model is not None
    return config.model


def is_scored_on(run: Run, split: str) -> bool:
    """True if the teacher has outputs on all rows of a split: as a model, or by its scores."""
    return not run.recipe.teacher.members or has_outputs(run.teacher, split)


def finding_on_train(run: Run) -> Finding | None:
    """Check the teacher's scores of the training rows; return the problem, if any."""
    return check_answers(run.task(), answers(outputs_on(run.teacher, "train")), split="train")


def facts_of_scores(run: Run) -> TeacherScores | None:
    """Facts about the scores for the report; None where the teacher is a model."""
    config = run.recipe.teacher
    if not config.members:
        return None
    manifest, task = read_manifest(run.teacher), run.task()
    assert manifest is not None
    given = answers(outputs_on(run.teacher, "train"))
    return TeacherScores(
        name=describe_scores(config),
        kind=_kind(config, regression=task.regression),
        num_rows={split: _num_scored(manifest, split) for split in task.splits},
        train_metrics=compute(task.metrics, task.train["label"].to_numpy(), given),
    )


def _describe(run: Run, manifest: Manifest) -> str:
    """Text like `scores of a.csv: all 96 train rows, 10 of 32 dev rows, 3 rows are not used`."""
    parts = []
    for split, table in run.task().splits.items():
        num_found, num_rows = _num_scored(manifest, split), table.num_rows
        share = f"all {num_rows:,}" if num_found == num_rows else f"{num_found:,} of {num_rows:,}"
        parts.append(f"{share} {split} rows")
    if num_unused := int(manifest.counts["num_unused_rows"]):
        parts.append(f"{num_unused:,} rows are not used")
    return f"{teacher_name(run)}: {', '.join(parts)}"


def _kind(config: TeacherConfig, *, regression: bool) -> str:
    kinds = dict.fromkeys(member.scores.kind for member in config.members)
    return "scores" if regression else " and ".join(kinds)


def _num_scored(manifest: Manifest, split: str) -> int:
    return int(manifest.counts.get(f"num_{split}_rows", 0))
