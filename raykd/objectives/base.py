"""What every objective is: a module whose forward pass is the training step."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from raykd.config import Config
from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.forward import run
from raykd.models.masked_lm import MaskedLm, SpecialTokens
from raykd.models.pooling import Pooling
from raykd.models.probe import Trait
from raykd.objectives.shared.generator_model import TrainHeadConfig

# "logits": batches carry teacher_logits; "model": the teacher is there, and runs in the step unless
# batches carry teacher_features or teacher_relations.
TeacherPart = Literal["logits", "model"]
Role = Literal["student", "teacher"]
STUDENT = "student"


class MethodConfig(Config):
    """Base of the objectives' settings; `name` is the key in `OBJECTIVES`."""

    name: str

    @property
    def needs_labels(self) -> bool:
        """True if the batches must carry gold labels."""
        return True

    @property
    def mixes_examples(self) -> bool:
        """True if a row's loss depends on the other rows of its batch."""
        return False

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """What the objective wants of the teacher; nothing where it has none."""
        return frozenset()

    @property
    def reads_logits(self) -> bool:
        """True if the loss reads the teacher's logits, which only a fine-tuned teacher has."""
        return bool(self.needs_teacher)

    @property
    def masks_words(self) -> bool:
        """True if words of the text are masked, for which `Models.special_tokens` are needed."""
        return False

    @property
    def teacher_features(self) -> Pooling | None:
        """How the teacher's hidden states are pooled that batches carry, None if they do not."""
        return None

    @property
    def teacher_relations(self) -> int | None:
        """The teacher's block whose relation vectors batches carry; None if they do not.

        Counted from 1, or `PAPER_LAYER` for that of the MiniLMv2 paper.
        """
        return None

    def generator_reference(self, teacher: str) -> str | None:
        """The masked language model that is trained beside the student, None if there is none.

        Args:
            teacher: the reference of the pretrained model that the teacher was fine-tuned from.
        """
        return None

    @property
    def head_training(self) -> TrainHeadConfig | None:
        """How that model's masked-LM head is trained if its checkpoint has none."""
        return None


class Models(NamedTuple):
    """The models of an objective.

    Attributes:
        student: is trained.
        teacher: None where `needs_teacher` does not hold "model".
        generator: None where the method has none.
        special_tokens: of the tokenizer; None where `masks_words` does not hold.
    """

    student: Encoder
    teacher: Encoder | None = None
    generator: MaskedLm | None = None
    special_tokens: SpecialTokens | None = None


@dataclass(frozen=True)
class LossTerms:
    """The loss to minimise, its unweighted terms for the log, and what else is logged."""

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
        """The same, with scalars that are logged beside the losses."""
        detached = {name: value.detach() for name, value in measures.items()}
        return type(self)(self.total, self.parts, self.measures | detached)


@dataclass(frozen=True)
class Player:
    """Who is trained in some of the steps, by an optimiser and a schedule of its own.

    Attributes:
        parameters: those that its steps change.
        learning_rate: None for the phase's.
        max_grad_norm: None for the phase's.
    """

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float | None = None
    max_grad_norm: float | None = None


class Epoch(NamedTuple):
    """One pass over the rows: counted from 1 to `total`; `seed` is the run's."""

    seed: int
    number: int
    total: int


class Objective(nn.Module, ABC):
    """Student, frozen teacher and heads of one method.

    `forward(batch)` returns the loss of a batch with the keys input_ids (B, L), attention_mask
    (B, L), row_ids (B,) and, where there are any, token_type_ids (B, L), labels (B,) (int64;
    float32 for regression), teacher_logits (B, C) and teacher_features (B, n, d) float32, pooled
    hidden states of the teacher's n layers, or teacher_relations (B, L, 3, d) float32, query, key
    and value vectors of one of them. Losses are means over the rows of the batch,
    independent of padding.

    Every parameter of the player whose turn it is gets a gradient in every step, on every worker,
    and no other parameter does.

    Args:
        config: the method's settings.
        models: all parameters of the student, and of the generator, are made trainable, then the
            method freezes those that its loss does not reach. The teacher is frozen and stays in
            evaluation mode.
    """

    # Whether the student can classify after this objective alone.
    trains_classifier: ClassVar[bool]
    # Traits (see `models.probe`) that the student must have, and the teacher if there is one.
    student_traits: ClassVar[frozenset[Trait]] = frozenset({"logits", "padding", "gradients"})
    teacher_traits: ClassVar[frozenset[Trait]] = frozenset({"logits", "padding"})
    # Whether teacher and student may have different tokenizers, each reading the text by its own:
    # nothing is compared but logits, and the text that both read is the row itself.
    allows_other_tokenizer: ClassVar[bool] = False

    def __init__(self, config: MethodConfig, models: Models) -> None:
        super().__init__()
        runs_teacher = "model" in config.needs_teacher
        assert (models.teacher is not None) == runs_teacher, "a teacher is run, or is not there"
        self.config = config
        self.student = models.student.requires_grad_(True)
        self.teacher = None if models.teacher is None else models.teacher.requires_grad_(False)
        self.generator = None if models.generator is None else models.generator.requires_grad_(True)
        self._player = STUDENT

    @classmethod
    def check(cls, config: MethodConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse settings that do not fit the two models, whose weights are not looked at.

        Raises:
            InputError: names the setting and what would fit.
        """

    @classmethod
    def traits(cls, config: MethodConfig, role: Role) -> frozenset[Trait]:
        """Traits that a model must have in a role, with these settings."""
        return cls.student_traits if role == "student" else cls.teacher_traits

    @property
    def needs_labels(self) -> bool:
        """True if the batches must carry gold labels."""
        return self.config.needs_labels

    @property
    def mixes_examples(self) -> bool:
        """True if a row's loss depends on the other rows of its batch."""
        return self.config.mixes_examples

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What each loss term of a student's step is made of, by its name in `LossTerms.parts`."""

    def start_training(self, num_rows: int, labels: Tensor | None, seed: int) -> None:
        """Called once before the first step; the modules stand on their device.

        Args:
            num_rows: rows of the text; `row_ids` are below it.
            labels: (num_rows,) of all rows, where the objective needs labels.
            seed: of the run.
        """

    def start_epoch(self, epoch: Epoch) -> None:
        """Called before the first step of every epoch, with the same argument on every worker."""

    def players(self) -> dict[str, Player]:
        """Who is trained, by name; all but the student's method has this one."""
        return {STUDENT: Player(tuple(p for p in self.parameters() if p.requires_grad))}

    def player_of(self, step: int) -> str:
        """Whose turn the step is, counted from 1."""
        return STUDENT

    def take_turn(self, player: str, players: Mapping[str, Player]) -> None:
        """Let the next forward passes be those of a player: all but its parameters stand still."""
        if player == self._player and len(players) == 1:
            return
        self._player = player
        self.requires_grad_(False)
        for parameter in players[player].parameters:
            parameter.requires_grad_(True)

    def teacher_output(self, batch: Mapping[str, Tensor], layers: Collection[int]) -> EncoderOutput:
        """Logits and hidden states of layers of the teacher; those in the batch are (B, 1, d)."""
        assert self.teacher is not None
        if self.config.teacher_features is None:
            with torch.no_grad():
                return run(self.teacher, batch, layers=layers)
        features = batch["teacher_features"]
        states = {layer: features[:, layer - 1, None] for layer in layers}
        return EncoderOutput(batch["teacher_logits"], states, {})

    def train(self, mode: bool = True) -> Self:
        """Switch student, generator and heads; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """The loss of a batch."""


def freeze_beyond(student: Encoder, **layers: Collection[int]) -> None:
    """Freeze what some of a student's layers do not depend on: later ones, pooler, classifier.

    It is found by differentiation, since every family names and orders its modules differently.

    Args:
        student: any.
        layers: `layers` and `relation_layers`, as `Encoder.forward` takes them.
    """
    parameters = list(student.parameters())
    ids = torch.zeros(1, 2, dtype=torch.int64, device=parameters[0].device)
    # Without a mask it works on the device `meta`, too.
    output: EncoderOutput = student(ids, None, **layers)
    vectors = [part for parts in output.relation_vectors.values() for part in parts]
    reached = torch.stack([part.sum() for part in (*output.hidden_states.values(), *vectors)])
    gradients = torch.autograd.grad(reached.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
