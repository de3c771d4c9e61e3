"""Evaluation on Ray: one task per model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.cluster import tasks
from raykd.cluster.devices import assigned_device
from raykd.errors import InputError
from raykd.evaluation import cost
from raykd.evaluation.analysis import (
    Divergence,
    LayerSimilarity,
    divergence,
    layer_similarity,
    pooled_states,
)
from raykd.evaluation.predict import answers, to_predictions
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import check_finite, logits_of
from raykd.models.threads import one_thread
from raykd.models.tokenization.tokens import read_rows
from raykd.storage.manifest import (
    Draft,
    digest_of,
    digest_of_directory,
    finished,
    stage_key,
    write_once,
)
from raykd.storage.remote.task_files import TaskFiles
from raykd.tasks.config import Split
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import compute, majority_predictions
from raykd.tasks.store import read_task
from raykd.training.scores.outputs import outputs_on

PREDICTIONS_FILE = "predictions.parquet"
METRICS_FILE = "metrics.json"
ANALYSIS_FILE = "analysis.json"
COSTS_FILE = "costs.json"
_MAX_ANALYZED_ROWS = 1000
# Stage in manifests; renaming it would invalidate earlier runs.
_ANALYSIS_STAGE = "analyse"  # word list: ok

# Result of `analysis.pooled_states`; None for a model whose layers are not known.
_States = NDArray[np.float32] | None


@dataclass(frozen=True)
class EvaluationJob:
    """Evaluation of a model, whose predictions are written to `out`.

    Attributes:
        model: the model; it need not exist if `given` is set.
        on_dev: whether to use the dev split even if test is the reported one.
        given: outputs of a teacher that is a file of scores (`training.scores`), in place of the
            model's.
    """

    model: Path
    out: Path
    max_length: int
    inputs: Mapping[str, str]
    on_dev: bool = False
    given: Path | None = None

    def settings(self) -> dict[str, int]:
        """Settings that determine the predictions, together with the inputs."""
        return {"max_length": self.max_length, **({"on_dev": 1} if self.on_dev else {})}


@dataclass(frozen=True)
class Comparison:
    """Comparison of an evaluated student with its evaluated teacher, written to `out`."""

    student: EvaluationJob
    teacher: EvaluationJob
    out: Path

    def files(self) -> TaskFiles:
        """Files that the comparison reads and writes."""
        reads = (self.student.model, self.student.out, self.teacher.out)
        return TaskFiles(reads, (self.out,))

    @property
    def max_length(self) -> int:
        """Smaller of the two models' maximum lengths."""
        return min(self.student.max_length, self.teacher.max_length)

    def settings(self) -> dict[str, int]:
        """Settings that determine the result, together with the inputs."""
        return {
            "student_max_length": self.student.max_length,
            "teacher_max_length": self.teacher.max_length,
            "max_rows": _MAX_ANALYZED_ROWS,
        }

    def inputs(self) -> dict[str, str]:
        """Digests of both models and of the task."""
        return {
            "student": self.student.inputs["model"],
            "teacher": self.teacher.inputs["model"],
            "task": self.student.inputs["task"],
        }


def evaluate(
    jobs: Sequence[EvaluationJob], task_folder: Path, *, use_gpu: bool
) -> list[dict[str, float]]:
    """Compute metrics of each model on the report split, and write predictions.

    One model per task, on a GPU of its own or on a CPU.
    """
    undone = [
        job
        for job in jobs
        if finished(
            job.out,
            stage_key("evaluate", job.settings(), job.inputs),
        )
        is None
    ]
    if undone:
        evaluate_one = partial(_evaluate, task_folder=task_folder)
        tasks.for_each(
            evaluate_one,
            undone,
            label="evaluate",
            unit="models",
            num_gpus=float(use_gpu),
            files=lambda job: TaskFiles((job.given or job.model, task_folder), (job.out,)),
        )
    return [json.loads((job.out / METRICS_FILE).read_text()) for job in jobs]


def analyze(
    comparisons: Sequence[Comparison], task_folder: Path, *, use_gpu: bool
) -> list[tuple[Divergence, LayerSimilarity | None]]:
    """Compare each student with its teacher: divergence of logits, and similarity of layers.

    The similarity is None if a model's layers are not known, as those of given scores.
    """
    undone = [
        comparison
        for comparison in comparisons
        if finished(
            comparison.out, stage_key(_ANALYSIS_STAGE, comparison.settings(), comparison.inputs())
        )
        is None
    ]
    if undone:
        # A teacher is much larger than its students: it runs once for all of them.
        readings = sorted(
            {
                (comparison.teacher.model, comparison.max_length)
                for comparison in undone
                if comparison.teacher.given is None
            }
        )
        read = partial(_states, task_folder=task_folder)
        states = tasks.for_each(
            read,
            readings,
            label="analyze",
            unit="teachers",
            num_gpus=float(use_gpu),
            files=lambda reading: TaskFiles((reading[0], task_folder)),
        )
        tasks.for_each(
            partial(_compare, task_folder=task_folder),
            undone,
            label="analyze",
            unit="students",
            num_gpus=float(use_gpu),
            shared={"teacher_states": dict(zip(readings, states, strict=True))},
            files=lambda comparison: comparison.files() + TaskFiles((task_folder,)),
        )
    return [_read_analysis(comparison.out / ANALYSIS_FILE) for comparison in comparisons]


def _read_analysis(path: Path) -> tuple[Divergence, LayerSimilarity | None]:
    values = json.loads(path.read_text())
    layers = values["layers"]
    return (
        Divergence.model_validate(values["divergence"]),
        None if layers is None else LayerSimilarity.model_validate(layers),
    )


def measure_costs(jobs: Sequence[EvaluationJob], task_folder: Path, out: Path) -> list[cost.Cost]:
    """Measure the inference cost of each model; see `evaluation.cost`.

    One task measures one model per shape, one after the other, while no other task of the job runs.
    With a new shape all are measured again, so that all figures are from one device.
    """
    shapes = [cost.shape_of(job.model, job.max_length) for job in jobs]
    firsts = dict(zip(reversed(shapes), reversed(jobs), strict=True))
    inputs = {"shapes": digest_of(sorted(firsts)), "task": digest_of_directory(task_folder)}
    if finished(out, stage_key("cost", cost.SETTINGS, inputs)) is None:
        measure = partial(_measure, task_folder=task_folder, out=out, inputs=inputs)
        models = tuple(job.model for job in jobs)
        tasks.for_each(
            measure,
            [firsts],
            label="cost",
            files=lambda _: TaskFiles((*models, task_folder), (out,)),
            shows_progress=False,
        )
    costs = json.loads((out / COSTS_FILE).read_text())
    return [cost.Cost.model_validate(costs[shape]) for shape in shapes]


def constant_scores(task_folder: Path) -> dict[str, float]:
    """Metrics of the best constant answer."""
    task = read_task(task_folder)
    labels = targets_of(task.reported)
    constant = majority_predictions(targets_of(task.train), len(labels), regression=task.regression)
    return compute(task.metrics, labels, constant)


def logits_on(job: EvaluationJob, examples: Path, name: str) -> NDArray[np.float32]:
    """Logits (N, C) of a model on a file of examples, on the device of the current task.

    Raises:
        InputError: some are not finite; the message has the name of the text.
    """
    tokenizer = load_tokenizer(str(job.model))
    rows = read_rows(examples, tokenizer, max_length=job.max_length)
    device = assigned_device()
    encoder = load_encoder(str(job.model)).to(device)
    with one_thread():
        logits = logits_of(encoder, rows, pad_id=tokenizer.pad_token_id, device=device)
    check_finite(logits, str(job.model), name)
    return logits


def _evaluate(job: EvaluationJob, task_folder: Path) -> None:
    def write(draft: Draft) -> None:
        task = read_task(task_folder)
        split: Split = "dev" if job.on_dev else task.report_split
        examples = task.splits[split]
        if job.given is None:
            logits = logits_on(job, task_folder / f"{split}.parquet", f"{split} split")
        else:
            logits = outputs_on(job.given, split)
        table = to_predictions(examples, logits)
        pq.write_table(table, draft.directory / PREDICTIONS_FILE)
        found = answers(logits, multi_label=task.multi_label)
        scores = compute(task.metrics, targets_of(examples), found)
        (draft.directory / METRICS_FILE).write_text(json.dumps(scores))

    write_once(job.out, "evaluate", job.settings(), job.inputs, write)


def _compare(
    comparison: Comparison, task_folder: Path, teacher_states: Mapping[tuple[Path, int], _States]
) -> None:
    def write(draft: Draft) -> None:
        student, teacher = comparison.student, comparison.teacher
        layers = None
        of_teacher = teacher_states.get((teacher.model, comparison.max_length))
        if of_teacher is not None:
            of_student = _states((student.model, comparison.max_length), task_folder)
            if of_student is not None:
                layers = layer_similarity(of_student, of_teacher).model_dump()
        multi_label = read_task(task_folder).multi_label
        apart = divergence(_logits(student), _logits(teacher), multi_label=multi_label).model_dump()
        comparison_result = {"divergence": apart, "layers": layers}
        (draft.directory / ANALYSIS_FILE).write_text(json.dumps(comparison_result))

    write_once(comparison.out, _ANALYSIS_STAGE, comparison.settings(), comparison.inputs(), write)


def _measure(
    firsts: Mapping[str, EvaluationJob], task_folder: Path, out: Path, inputs: Mapping[str, str]
) -> None:
    def write(draft: Draft) -> None:
        reported = read_task(task_folder).reported
        with one_thread():
            costs = {
                shape: cost.cost_of(job.model, job.max_length, reported).model_dump()
                for shape, job in firsts.items()
            }
        (draft.directory / COSTS_FILE).write_text(json.dumps(costs, indent=2))

    write_once(out, "cost", cost.SETTINGS, inputs, write)


def _logits(job: EvaluationJob) -> NDArray[np.float64]:
    """Logits of an evaluated model, in the order of the report split."""
    table = pq.read_table(job.out / PREDICTIONS_FILE, columns=["logits"])
    return np.asarray(table["logits"].to_pylist())


def _states(reading: tuple[Path, int], task_folder: Path) -> _States:
    """Pooled states of a model at a maximum length, on the first rows of the report split."""
    model, max_length = reading
    encoder, tokenizer = load_encoder(str(model)), load_tokenizer(str(model))
    try:
        encoder.blocks()
    except InputError:  # the model's layers are not known, and no objective needed them
        return None
    rows = read_rows(
        task_folder / f"{read_task(task_folder).report_split}.parquet",
        tokenizer,
        max_length=max_length,
        stop=_MAX_ANALYZED_ROWS,
    )
    device = assigned_device()
    with one_thread():
        return pooled_states(encoder.to(device), rows, pad_id=tokenizer.pad_token_id, device=device)
