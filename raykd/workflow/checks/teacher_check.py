"""The check of a run's teacher, before students learn from it."""

import json

from raykd import progress
from raykd.errors import InputError
from raykd.evaluation.teacher_check import Finding
from raykd.workflow.collect import teacher_finding
from raykd.workflow.run import Run
from raykd.workflow.teacher.scores import teacher_name


def check_teacher(run: Run) -> None:
    """Score the teacher on dev (given scores: on train) and report what is wrong with its answers.

    Raises:
        InputError: it is no better than the constant answer, or another order of its classes is
            much better, beyond chance, and `teacher.dev_check` is `stop`; its logits are not
            finite.
    """
    finding = teacher_finding(run)
    if finding is None:
        return
    message = f"teacher {teacher_name(run)}: {finding.reason}"
    if finding.is_certain and run.recipe.teacher.dev_check == "stop":
        raise InputError(f"{message}; {_remedy(run, finding)}")
    progress.say(f"  warning: {message}")


def _remedy(run: Run, finding: Finding) -> str:
    accept = "or set teacher.dev_check: warn to distil it as it is"
    config = run.recipe.teacher
    if config.members and finding.order is None:
        return f"check that they are the scores of this task's rows and classes, {accept}"
    if config.members and config.labels is None:
        return f"correct the names of the classes in the file, {accept}"
    if not config.members and not config.fine_tuned:
        return f"train it longer or with another learning rate, {accept}"
    if finding.order is None:
        return f"name a teacher that was fine-tuned on this task, {accept}"
    outputs = config.labels or run.task().labels
    # The checked answers are in the task's order already.
    named = dict(zip(run.task().labels, finding.order, strict=True))
    order = json.dumps([named[name] for name in outputs], ensure_ascii=False)
    return f"name its outputs in their order with teacher.labels: {order}, {accept}"
