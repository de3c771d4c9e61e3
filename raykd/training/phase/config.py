"""Training settings of a run: teacher and student phases."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from raykd.objectives import ObjectiveConfig
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.training.scores.config import MemberConfig, ScoresConfig
from raykd.training.settings import TrainingConfig


class PhaseConfig(TrainingConfig):
    """Settings of a student's phase: injection or adaptation."""

    objective: ObjectiveConfig = Field(
        default_factory=FineTuneConfig,
        discriminator="name",
        description="Loss of the student, by the name of a method, and its settings.",
    )

    @property
    def reads_outputs(self) -> bool:
        """Return whether the phase uses teacher outputs that are computed once per text."""
        return "logits" in self.objective.needs_teacher

    def determining(self) -> dict[str, Any]:
        """See `TrainingConfig`."""
        values, defaults = super().determining(), self.objective.defaults()
        return values | {"defaults": defaults} if defaults else values

    @model_validator(mode="after")
    def _batches_can_be_cut(self) -> Self:
        if self.max_tokens_per_micro_batch is not None and self.objective.mixes_examples:
            raise ValueError(
                f"max_tokens_per_micro_batch splits batches, but with {self.objective.name!r} a "
                "row's loss depends on its whole batch; remove it, or lower batch_size"
            )
        return self


class TeacherConfig(TrainingConfig):
    """Settings of the teacher: fine-tuned here, already fine-tuned, or a file of scores."""

    model: str | None = Field(
        None,
        description="Pretrained or fine-tuned model: folder, package:NAME/FOLDER or hub name. "
        "This key, `scores` or `ensemble` is required.",
    )
    scores: ScoresConfig | None = Field(
        None,
        description="Instead of `model`, a teacher that is known by its scores of the training "
        "rows only: an API, an ensemble or another run. A file, a list of files, or a section.",
    )
    ensemble: tuple[MemberConfig, ...] | None = Field(
        None,
        min_length=2,
        max_length=100,
        description="Instead of `model`, several teachers that are known by their scores: the "
        "teacher is the weighted mean of their probabilities (for regression, of their scores).",
    )
    weights_sha256: str | None = Field(
        None, description="SHA-256 of the model's weights; a model with other weights is refused."
    )
    fine_tuned: bool = Field(
        False,
        description="Whether `model` is fine-tuned on the task already; it is then used as it is.",
    )
    labels: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        description="The task's classes in the order of a fine-tuned teacher's outputs, instead "
        "of the names in its config.json (id2label), or in the order of lists of `scores`.",
    )
    dev_check: Literal["stop", "warn"] = Field(
        "stop",
        description="Where the teacher, scored on dev (with `scores`, on train), is no better than "
        "a constant answer, or another order of its classes is much better, beyond chance: stop, "
        "or warn.",
    )
    seed: int = Field(1, description="Seed of the fine-tuning.")

    @model_validator(mode="after")
    def _labels_are_of_outputs(self) -> Self:
        if self.labels is not None and not self.fine_tuned and not self.members:
            raise ValueError(
                "labels: they name the outputs of a fine-tuned teacher; set fine_tuned: true, or "
                "remove labels"
            )
        return self

    @model_validator(mode="after")
    def _is_model_or_scores(self) -> Self:
        forms = ("model", "scores", "ensemble")
        found = [form for form in forms if getattr(self, form) is not None]
        if not found:
            raise ValueError(
                "give `model`, a pretrained or fine-tuned model, or `scores`, a file of a "
                "teacher's scores of the training rows (of several teachers: `ensemble`)"
            )
        if len(found) > 1:
            raise ValueError(
                f"{' and '.join(found)}: the teacher is one of them; remove the other (a student "
                "of a teacher that is known by its scores has a model of its own, student.model)"
            )
        if self.model is not None:
            return self
        fields = type(self).model_fields
        own = {*forms, "labels", "dev_check"}
        given = [key for key in fields if key not in own and self._is_changed(key)]
        if given:
            raise ValueError(
                f"{given[0]}: the teacher is known by its scores, so that no model is read or "
                f"trained; remove {', '.join(given)}"
            )
        return self

    @property
    def members(self) -> tuple[MemberConfig, ...]:
        """Teachers that are known by their scores, one or an ensemble; none for a model."""
        if self.scores is not None:
            return (MemberConfig(scores=self.scores),)
        return self.ensemble or ()

    def _is_changed(self, key: str) -> bool:
        return bool(getattr(self, key) != type(self).model_fields[key].default)


class AdaptationConfig(PhaseConfig):
    """Settings of the phase in which students learn the task."""

    rows: Literal["task", "task_da"] = Field(
        "task",
        description="Labeled rows that students with a task_da step adapt on: task (the train "
        "split) or task_da (also what `raykd augment` made of it; TinyBERT's second stage).",
    )
