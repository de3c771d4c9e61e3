"""Base classes of objectives: modules whose forward pass computes the training loss."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from raykd.config import Config
from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.forward import run
from raykd.models.masked_lm import MaskedLm, SpecialTokens
from raykd.models.pooling import Pooling
from raykd.models.probe import Trait
from raykd.objectives.losses.logits import GoldLabels, kd_loss, task_loss
from raykd.objectives.shared.generator_model import TrainHeadConfig

# "logits": batches contain teacher_logits; "model": the teacher is loaded, and runs in every step
# unless batches contain teacher_features or teacher_relations.
TeacherPart = Literal["logits", "model"]
Role = Literal["student", "teacher"]
STUDENT = "student"


class ObjectiveConfig(Config):
    """Base class of the objectives' settings; `name` is the key in `OBJECTIVES`."""

    name: str

    def defaults(self) -> dict[str, Any]:
        """Values of keys that are not set; a model is trained again when these values change."""
        return {}

    @property
    def needs_labels(self) -> bool:
        """True if batches must contain gold labels."""
        return True

    @property
    def needs_single_class(self) -> str | None:
        """Reason why rows must have exactly one class, and the remedy; None if they need not."""
        return None

    @property
    def mixes_examples(self) -> bool:
        """True if a row's loss depends on the other rows of its batch."""
        return False

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Parts of the teacher that the objective needs."""
        return frozenset()

    @property
    def reads_logits(self) -> bool:
        """True if the loss depends on the teacher's logits, which need a fine-tuned teacher."""
        return bool(self.needs_teacher)

    @property
    def masks_words(self) -> bool:
        """True if words of the text are masked, which needs `Models.special_tokens`."""
        return False

    @property
    def allows_other_tokenizer(self) -> bool:
        """True if teacher and student may have different tokenizers.

        Each tokenizes the original text itself, and nothing is compared except logits, which are
        computed once per text.
        """
        return "model" not in self.needs_teacher and not self.masks_words

    @property
    def teacher_features(self) -> Pooling | None:
        """Pooling of the teacher's hidden states in batches; None if batches have none."""
        return None

    @property
    def teacher_relations(self) -> int | None:
        """Teacher layer whose relation vectors are in batches; None if batches have none.

        Layers count from 1; `PAPER_LAYER` is that of the MiniLMv2 paper.
        """
        return None

    def generator_reference(self, teacher: str) -> str | None:
        """Reference of the masked language model trained as a generator; None without one.

        Args:
            teacher: reference of the pretrained model that the teacher was fine-tuned from.
        """
        return None

    @property
    def head_training(self) -> TrainHeadConfig | None:
        """Training of the generator's masked-LM head if its checkpoint has none."""
        return None


class Models(NamedTuple):
    """Models of an objective.

    Attributes:
        student: model to train.
        teacher: None unless `needs_teacher` contains "model".
        generator: masked language model; None if the objective has none.
        special_tokens: the tokenizer's special tokens; None unless `masks_words`.
    """

    student: Encoder
    teacher: Encoder | None = None
    generator: MaskedLm | None = None
    special_tokens: SpecialTokens | None = None


@dataclass(frozen=True)
class LossTerms:
    """Loss to minimize, and its unweighted terms and other measures for the log."""

    total: Tensor
    parts: dict[str, Tensor]
    measures: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def weighted(cls, **terms: tuple[float, Tensor]) -> Self:
        """Sum of `weight * loss` over the named terms."""
        assert terms, "an objective has at least one term"
        weighted = [weight * loss for weight, loss in terms.values()]
        return cls(
            total=sum(weighted[1:], start=weighted[0]),
            parts={name: loss.detach() for name, (_, loss) in terms.items()},
        )

    def measuring(self, **measures: Tensor) -> Self:
        """Copy with additional scalars to log."""
        detached = {name: value.detach() for name, value in measures.items()}
        return type(self)(self.total, self.parts, self.measures | detached)


@dataclass(frozen=True)
class Player:
    """Parameters with their own optimizer and schedule: the student, or a generator.

    A min-max objective trains its players in turns; all others have the student as only player.

    Attributes:
        parameters: parameters to update.
        learning_rate: peak learning rate; None for the phase's.
        max_grad_norm: gradient norm to clip to; None for the phase's.
    """

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float | None = None
    max_grad_norm: float | None = None


class Epoch(NamedTuple):
    """Epoch number, from 1 to `total`, and seed of the run."""

    seed: int
    number: int
    total: int


class Objective(nn.Module, ABC):
    """Loss with its student, frozen teacher and heads.

    `forward(batch)` returns the loss of a batch with the keys input_ids (B, L), attention_mask
    (B, L), row_ids (B,) and optionally token_type_ids (B, L), labels (B,) (int64; float32 for
    regression; (B, C) float32, 0 or 1, of a multi-label task), class_weight_scale (B,) (see
    `losses.logits.task_loss`), teacher_logits (B, C), teacher_features (B, n, d) float32 (pooled
    hidden states of the teacher's n layers) or teacher_relations (B, L, 3, d) float32 (query, key
    and value vectors of one layer). Losses are means over the rows of the batch, independent of
    padding.

    In every step and on every worker, exactly the parameters of the active player get a gradient.

    `gold` has the class weights and the smoothing of gold labels; training sets it.

    Args:
        config: settings of the objective.
        models: models; student and generator become trainable except for parameters that the loss
            does not depend on. The teacher is frozen and stays in evaluation mode.
    """

    # Whether this objective trains the student's classifier.
    trains_classifier: ClassVar[bool]
    # Traits (see `models.probe`) required of the student, and of the teacher if there is one.
    student_traits: ClassVar[frozenset[Trait]] = frozenset({"logits", "padding", "gradients"})
    teacher_traits: ClassVar[frozenset[Trait]] = frozenset({"logits", "padding"})

    def __init__(self, config: ObjectiveConfig, models: Models) -> None:
        super().__init__()
        runs_teacher = "model" in config.needs_teacher
        assert (models.teacher is not None) == runs_teacher, "a teacher is run, or is not there"
        self.config = config
        self.student = models.student.requires_grad_(True)
        self.teacher = None if models.teacher is None else models.teacher.requires_grad_(False)
        self.generator = None if models.generator is None else models.generator.requires_grad_(True)
        self.gold = GoldLabels()
        self._player = STUDENT

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse settings that do not fit the models, which may be meta models.

        Raises:
            InputError: names the setting and what would fit.
        """

    @classmethod
    def traits(cls, config: ObjectiveConfig, role: Role) -> frozenset[Trait]:
        """Traits required of a model in a role."""
        return cls.student_traits if role == "student" else cls.teacher_traits

    @property
    def needs_labels(self) -> bool:
        """True if batches must contain gold labels."""
        return self.config.needs_labels

    @property
    def mixes_examples(self) -> bool:
        """True if a row's loss depends on the other rows of its batch."""
        return self.config.mixes_examples

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Description of each loss term of a student's step, by its name in `LossTerms.parts`."""

    def start_training(self, num_rows: int, labels: Tensor | None, seed: int) -> None:
        """Prepare training; called once before the first step, with modules on their device.

        Args:
            num_rows: rows of the text; the upper bound of `row_ids`.
            labels: (num_rows,) labels of all rows, if the objective needs labels.
            seed: seed of the run.
        """

    def start_epoch(self, epoch: Epoch) -> None:
        """Prepare an epoch; called before its first step, with equal arguments on all workers."""

    def players(self) -> dict[str, Player]:
        """Players by name; by default the student with all trainable parameters."""
        return {STUDENT: Player(tuple(p for p in self.parameters() if p.requires_grad))}

    def player_of(self, step: int) -> str:
        """Name of the player that a step trains; steps count from 1."""
        return STUDENT

    def take_turn(self, player: str, players: Mapping[str, Player]) -> None:
        """Make a player active: only its parameters require gradients."""
        if player == self._player and len(players) == 1:
            return
        self._player = player
        self.requires_grad_(False)
        for parameter in players[player].parameters:
            parameter.requires_grad_(True)

    def teacher_output(self, batch: Mapping[str, Tensor], layers: Collection[int]) -> EncoderOutput:
        """Teacher's logits and hidden states of layers; cached, pooled ones are (B, 1, d)."""
        assert self.teacher is not None
        if self.config.teacher_features is None:
            with torch.no_grad():
                return run(self.teacher, batch, layers=layers)
        features = batch["teacher_features"]
        states = {layer: features[:, layer - 1, None] for layer in layers}
        return EncoderOutput(batch["teacher_logits"], states, {})

    def task_loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of logits (B, C) with the batch's gold labels, weighted as in `gold`."""
        return task_loss(logits, batch["labels"], self.gold, batch.get("class_weight_scale"))

    def kd_loss(self, logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Divergence of logits (B, C) from the teacher's, of the student's kind of task."""
        multi_label = self.student.is_multi_label
        return kd_loss(logits, teacher_logits, temperature, multi_label=multi_label)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of student, generator and heads; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Loss of a batch."""


def freeze_beyond(student: Encoder, **layers: Collection[int]) -> None:
    """Freeze parameters that the given layers do not depend on: later layers, pooler, classifier.

    They are determined by differentiation, since families name and order modules differently.

    Args:
        student: model to freeze in part.
        layers: `layers` and `relation_layers`, as `Encoder.forward` takes them.
    """
    parameters = list(student.parameters())
    ids = torch.zeros(1, 2, dtype=torch.int64, device=parameters[0].device)
    # No mask, so that it also works on the device `meta`.
    output: EncoderOutput = student(ids, None, **layers)
    vectors = [part for parts in output.relation_vectors.values() for part in parts]
    reached = torch.stack([part.sum() for part in (*output.hidden_states.values(), *vectors)])
    gradients = torch.autograd.grad(reached.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
