"""Settings of workers per model and of models trained concurrently."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from raykd.config import Config

_Number = Annotated[int, Field(ge=1)]
_Range = tuple[_Number, _Number]


class WorkersConfig(Config):
    """Processes that train one model together (DDP), and models trained at the same time."""

    num_workers: int | tuple[int, int] = Field(
        1,
        description="Processes that train one model together (DDP): a number, or [at least, at "
        "most], between which a training adapts to the nodes that the cluster has.",
    )
    cpus_per_worker: float = Field(
        1.0,
        gt=0,
        description="CPUs, and threads, of each worker; fewer on a machine with fewer CPUs. "
        "The teacher gets those of all models that train at once.",
    )
    use_gpu: bool | Literal["auto"] = Field(
        "auto",
        description="Train each worker on a GPU of its own; the teacher's outputs, embeddings, "
        "evaluation and trials of `raykd tune` use GPUs too. auto: if the cluster has enough GPUs, "
        "or can start nodes with GPUs.",
    )
    engine: Literal["auto", "task", "train"] = Field(
        "auto",
        description="What runs a training. task: a Ray task, for one worker per model; its process "
        "trains one model after the other. train: Ray Train, whose groups of workers start in "
        "about 15 s. auto: Ray Train for several workers, and on GPUs.",
    )
    models_at_once: int = Field(
        1,
        ge=1,
        description="Models that train at the same time; a stage with fewer models leaves CPUs "
        "idle.",
    )
    checkpoint_every_s: float = Field(
        60.0,
        ge=0,
        description="Seconds between checkpoints, which is the most that an interrupted training "
        "loses; 0: after every step.",
    )

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "task" and self.max_workers > 1:
            raise ValueError(
                "engine: task trains a model with one worker; set num_workers: 1, or remove engine"
            )
        return self

    @property
    def min_workers(self) -> int:
        """Minimum number of workers of a model."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """Maximum number of workers of a model."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @field_validator("num_workers", mode="before", json_schema_input_type=_Number | _Range)
    @classmethod
    def _check_num_workers(cls, value: Any) -> Any:
        ends = value if isinstance(value, list | tuple) else [value, value]
        if len(ends) == 2 and all(type(end) is int for end in ends) and 1 <= ends[0] <= ends[1]:
            return ends[0] if ends[0] == ends[1] else tuple(ends)
        raise ValueError(
            f"expected a number of at least 1, or [at least, at most], not {value!r:.60}"
        )
