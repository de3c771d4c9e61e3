"""Training phase of a teacher or student, as a job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from raykd.models.encoder import Encoder, save_tokenizer
from raykd.storage.manifest import Draft, Manifest, finished, stage_key
from raykd.storage.remote.task_files import HasFiles, TaskFiles
from raykd.training.checkpoint import CheckpointFolder
from raykd.training.logging.tracking import Tracking
from raykd.training.phase.config import PhaseConfig
from raykd.training.phase.new_student import NewStudent
from raykd.training.settings import steps_until, total_epochs

MODEL_FOLDER = "model"

# Evaluates a model with its tokenizer on held-out examples.
Score = Callable[[Encoder, PreTrainedTokenizerBase], dict[str, float]]


@dataclass(frozen=True)
class Labels:
    """Outputs of a classifier: names of its classes, or one score (regression).

    `multi_label`: whether a row has any number of the classes.
    """

    names: tuple[str, ...]
    regression: bool
    multi_label: bool = False

    @property
    def num_outputs(self) -> int:
        """Number of the classifier's outputs."""
        return 1 if self.regression else len(self.names)


@dataclass(frozen=True)
class PhaseJob:
    """Training of one model with one objective on one text; its output is a directory.

    Attributes:
        start: reference of a saved model, or the student to create.
        inputs: digests of all inputs.
        score: evaluation function, called at most `num_scores` times for the learning curve.
        score_every: steps between these evaluations if `config.score_every` is not set; None: as
            many epochs as `num_scores` needs.
        tokens: folder of the token cache of long texts.
        has_more_outputs: whether `teacher_outputs` may be of a longer text that begins with `text`.
        is_pretrained: whether the teacher's classifier is untrained, so that its logits are unused.
        generator: reference of the objective's masked language model, if it has one.
        stop_after: epochs after which the training ends, though its learning rate follows the
            schedule of all epochs; None to train for all of them.
        trains: False for a phase that is left out: its result is the saved model that it starts
            from.
    """

    stage: str
    name: str
    out: Path
    start: str | NewStudent
    teacher: str | Path | None
    text: Path
    teacher_outputs: Path | None
    config: PhaseConfig
    labels: Labels
    seed: int
    inputs: Mapping[str, str]
    score: Score | None = None
    num_scores: int = 10
    score_every: int | None = None
    tracking: Tracking = field(default_factory=Tracking)
    tokens: Path | None = None
    is_pretrained: bool = False
    generator: str | None = None
    has_more_outputs: bool = False
    stop_after: int | None = None
    trains: bool = True

    def settings(self) -> dict[str, Any]:
        """Settings that determine the result, together with the inputs."""
        start = self.start
        stop = {} if self.stop_after is None else {"stop_after": self.stop_after}
        return {
            **stop,
            "phase": self.config.determining(),
            "start": start.settings() if isinstance(start, NewStudent) else "given",
            "seed": self.seed,
            "labels": list(self.labels.names),
            "regression": self.labels.regression,
            **({"multi_label": True} if self.labels.multi_label else {}),
            **({} if self.trains else {"trains": False}),
        }

    def key(self) -> str:
        """Digest of settings and inputs."""
        return stage_key(self.stage, self.settings(), self.inputs)

    def finished(self) -> Manifest | None:
        """Manifest of the completed job; None if it is not completed."""
        return finished(self.out, self.key())

    def num_steps(self) -> int:
        """Number of optimizer steps of the job."""
        if not self.trains:
            return 0
        num_rows = pq.read_metadata(self.text).num_rows
        return steps_until(self.config, num_rows, self.stop_after)

    def num_epochs(self) -> int:
        """Number of epochs of the job."""
        if not self.trains:
            return 0
        num_epochs = total_epochs(self.config, pq.read_metadata(self.text).num_rows)
        return num_epochs if self.stop_after is None else min(num_epochs, self.stop_after)

    @property
    def unfinished(self) -> Path:
        """Working folder of an unfinished training, next to `out`."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    def files(self) -> TaskFiles:
        """Files that the training reads and writes."""
        start = self.start.source if isinstance(self.start, NewStudent) else self.start
        reads = (start, self.teacher, self.text, self.teacher_outputs, self.generator)
        of_score = self.score.files() if isinstance(self.score, HasFiles) else TaskFiles()
        return (
            TaskFiles(
                tuple(path for path in reads if path is not None),
                (self.out, self.unfinished),
                () if self.tokens is None else (self.tokens,),
            )
            + of_score
            + self.tracking.files(self.name)
        )

    def checkpoints(self, every_s: float) -> CheckpointFolder:
        """Checkpoints in the folder `unfinished`."""
        return CheckpointFolder(
            self.unfinished, self.stage, self.settings(), self.inputs, every_s=every_s
        )


def save_model(model: Encoder, tokenizer: PreTrainedTokenizerBase, draft: Draft) -> None:
    """Write a model and its tokenizer into a job's output."""
    model.to("cpu").save(draft.directory / MODEL_FOLDER)
    save_tokenizer(tokenizer, draft.directory / MODEL_FOLDER)
    draft.counts["num_parameters"] = sum(p.numel() for p in model.parameters())
