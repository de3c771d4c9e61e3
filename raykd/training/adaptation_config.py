"""Settings of the adaptation: training on the task's labelled rows."""

from typing import Literal

from pydantic import Field

from raykd.training.phases import PhaseConfig


class AdaptationConfig(PhaseConfig):
    """The phase in which students learn the task."""

    rows: Literal["task", "task_da"] = Field(
        "task",
        description=(
            "Labeled rows that students with a task_da step adapt on: task, the train split, or "
            "task_da, also what raykd augment made of it (TinyBERT's second stage)."
        ),
    )
