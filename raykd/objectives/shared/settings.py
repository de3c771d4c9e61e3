"""Base classes of settings that several objectives share."""

from pydantic import Field

from raykd.models.pooling import Pooling
from raykd.objectives.base import ObjectiveConfig, TeacherPart


class TaskWeightConfig(ObjectiveConfig):
    """Settings with a weight of the task loss; labels are needed if it is not 0."""

    task_weight: float

    @property
    def needs_labels(self) -> bool:
        """True if the gold labels have a weight."""
        return self.task_weight > 0


class CachedTeacherConfig(ObjectiveConfig):
    """Settings of an objective that reads the teacher's layers, which may be cached."""

    cached_teacher: bool = Field(
        False,
        description="Run the teacher once over the text instead of in every step, and keep its "
        "pooled hidden states on disk (4 bytes per row, layer and dimension).",
    )

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Model, for its layers; logits are cached with them."""
        return frozenset({"model", "logits"} if self.cached_teacher else {"model"})

    @property
    def teacher_features(self) -> Pooling | None:
        """Pooling of the layers, if the teacher is cached."""
        return self.layer_pooling if self.cached_teacher else None

    @property
    def layer_pooling(self) -> Pooling | None:
        """Pooling of the compared hidden states; None if they are not pooled."""
        return None


class LayersOnlyConfig(ObjectiveConfig):
    """Settings of an objective that reads neither labels nor logits, only the teacher's layers."""

    @property
    def needs_labels(self) -> bool:
        """False."""
        return False

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Model, for its layers."""
        return frozenset({"model"})

    @property
    def reads_logits(self) -> bool:
        """False."""
        return False
