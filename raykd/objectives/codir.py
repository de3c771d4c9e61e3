"""CoDIR: contrastive distillation of intermediate layers against negatives from a memory.

For each row, the pooled hidden states of the chosen layers are concatenated, mapped linearly to
width u and normalized: s for the student, t for the teacher; both maps are trained. Negatives are
vectors of earlier batches, stored in a memory.

    total = task_weight task + logit_weight kd + contrastive_weight contrastive
    "infonce": -log( e(t, s) / (e(t, s) + sum_k e(t, s_k)) ),   e(x, y) = exp(<x, y> / tau)
    "nce":     mean of two losses, of s with the teacher's memory and of t with the student's:
               -log( P_0 / (P_0 + K/N) ) - sum_k log( (K/N) / (P_k + K/N) ),   P = e / Z;
               P_0 is that of the row's own memory, Z is N times the mean e of the first batch

Source: Sun et al. 2020, "Contrastive Distillation on Intermediate Representations for Language
Model Compression" (arXiv:2009.14167), section 3; "nce" and the bank's momentum: the authors' code
(github.com/intersun/CoDIR), after Tian et al. 2020, "Contrastive Representation Distillation"
(arXiv:1910.10699), equation 18.

Memory: `bank` holds one vector per row of the text; a row's K negatives are rows with another label
or, on unlabeled text, any other rows. It takes 4 N u bytes on each worker, twice that for "nce"
(MNLI, u = 128: 200 and 400 MB), and 32 bytes per row for the draw. `queue` holds the last K vectors
with any labels, as in the paper's pre-training; a row's own older vectors are skipped. The vectors
of every step are gathered from all workers, so that their memories are equal.

Regression: the bank's negatives are rows whose label differs by more than `label_margin`.

Differs from the paper: distillation on unlabeled text uses the classifier's logits, not a masked
language model. Differs from the authors' code, whose method is not the paper's (its issue 5; here
`loss: nce, pooling: cls, teacher_layers: alternate`): the teacher has no dropout; negatives depend
only on seed, epoch and row; rows repeat only if a pool has fewer than K; Z is computed over all
workers' rows; contrastive_weight is not divided by the batch size; regression is supported.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.forward import run
from raykd.models.pooling import Pooling, pooled_layers
from raykd.models.probe import Trait
from raykd.objectives.base import (
    Epoch,
    LossTerms,
    Models,
    Objective,
    ObjectiveConfig,
    Role,
)
from raykd.objectives.losses.descriptions import of_labels, of_layers, of_logits
from raykd.objectives.losses.layer_maps import Layer
from raykd.objectives.losses.memory_bank import (
    Bank,
    OtherRows,
    Queue,
    random_numbers,
    random_vectors,
)
from raykd.objectives.losses.memory_contrastive import (
    BankContrast,
    Contrast,
    NceContrast,
    QueueContrast,
)
from raykd.objectives.shared.settings import CachedTeacherConfig, TaskWeightConfig

Layers = Literal["all", "alternate"] | Annotated[tuple[Layer, ...], Field(min_length=1)]


class CodirConfig(TaskWeightConfig, CachedTeacherConfig):
    """Settings of CoDIR; defaults are the paper's loss with the values of the authors' code."""

    name: Literal["codir"] = Field(
        "codir",
        description="CoDIR (Sun et al. 2020): contrast concatenated layer vectors of student and "
        "teacher with other rows' vectors in a memory.",
    )
    task_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; 0.5 is the authors' code's 1 - beta.",
    )
    logit_weight: float = Field(
        0.5,
        gt=0,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression); 0.5 is the authors' code's beta.",
    )
    contrastive_weight: float = Field(
        0.1,
        gt=0,
        description="Weight of the contrastive loss; neither paper nor code gives a value.",
    )
    temperature: float = Field(
        2.0,
        gt=0,
        description="Temperature T of the logit loss; without effect for regression; 2 is the "
        "authors' code's.",
    )
    contrastive_temperature: float = Field(
        0.07,
        gt=0,
        description="Temperature tau of the contrastive loss; 0.07 is the authors' code's.",
    )
    loss: Literal["infonce", "nce"] = Field(
        "infonce",
        description="Contrastive loss: infonce (the paper's) or nce (the authors' code's).",
    )
    pooling: Pooling = Field(
        "mean",
        description="Vector of a row per layer: mean over its tokens (paper) or cls (first token; "
        "authors' code).",
    )
    student_layers: Layers = Field(
        "all",
        description="Student layers concatenated: all (paper and code), alternate (1, 3, 5, ...), "
        "or a list counted from 1.",
    )
    teacher_layers: Layers = Field(
        "all",
        description="Teacher layers concatenated: all (paper), alternate (1, 3, 5, ...; authors' "
        "code), or a list counted from 1.",
    )
    projection_size: int = Field(
        128, ge=1, description="Width u of the compared vectors; 128 in the authors' code."
    )
    negatives: Literal["bank", "queue"] | None = Field(
        None,
        description="Memory of negatives: bank (one vector per row of the text, negatives of "
        "another label) or queue (vectors of the latest rows). Default: bank where labels have a "
        "weight or with loss nce, else queue.",
    )
    num_negatives: int | None = Field(
        None,
        ge=1,
        description="Negatives K per row; the length of a queue. Default: 100 for a bank "
        "(authors' code), 4096 for a queue.",
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of the old vector kept when a row of the bank is updated. Default: 0.5 "
        "(authors' code); not for queues.",
    )
    label_margin: float = Field(
        1.0,
        ge=0,
        description="Regression only: smallest difference between the labels of a row and its "
        "negatives in the bank.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.memory == "queue" and self.loss == "nce":
            raise ValueError(
                "loss 'nce' compares a row with its own entry in the memory, which a queue does "
                "not have; set negatives: bank, or loss: infonce"
            )
        if self.memory == "queue" and self.momentum is not None:
            raise ValueError(
                "momentum belongs to a bank, but the negatives are in a queue; remove it, or set "
                "negatives: bank"
            )
        return self

    @property
    def memory(self) -> Literal["bank", "queue"]:
        """Kind of memory that holds the negatives."""
        if self.negatives is not None:
            return self.negatives
        return "bank" if self.needs_labels or self.loss == "nce" else "queue"

    @property
    def needs_single_class(self) -> str | None:
        """Reason if the negatives are rows of another class."""
        if self.memory == "queue" or not self.needs_labels:
            return None
        return (
            "its bank has negatives of another class, and a row of a multi-label task has several "
            "classes or none; set negatives: queue (with loss: infonce), or task_weight: 0"
        )

    @property
    def mixes_examples(self) -> bool:
        """True: negatives are vectors of earlier batches."""
        return True

    @property
    def layer_pooling(self) -> Pooling:
        """Pooling of the setting `pooling`."""
        return self.pooling


class Codir(Objective):
    """Contrastive distillation: match student and teacher representations of the same example."""

    trains_classifier = True
    config: CodirConfig
    contrast: Contrast

    @classmethod
    def traits(cls, config: ObjectiveConfig, role: Role) -> frozenset[Trait]:
        """Traits of `Objective`, and that of first tokens if `pooling` is "cls"."""
        assert isinstance(config, CodirConfig)
        needed = super().traits(config, role)
        return needed | {"first_token"} if config.pooling == "cls" else needed

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse layers that do not exist or are repeated."""
        assert isinstance(config, CodirConfig)
        for role, encoder, chosen in (
            ("student", student, config.student_layers),
            ("teacher", teacher, config.teacher_layers),
        ):
            layers = _resolve(chosen, encoder)
            if len(set(layers)) < len(layers) or max(layers) > encoder.num_layers:
                raise InputError(
                    f"codir: {role}_layers {list(layers)} of a {role} with {encoder.num_layers} "
                    f"layers; name each once, from 1 to {encoder.num_layers}, or set all"
                )
            encoder.blocks()

    def __init__(self, config: CodirConfig, models: Models) -> None:
        student, teacher = models.student, models.teacher
        assert teacher is not None
        self.check(config, student, teacher)
        super().__init__(config, models)
        self._student_layers = _resolve(config.student_layers, student)
        self._teacher_layers = _resolve(config.teacher_layers, teacher)
        width = config.projection_size
        self.student_projection = nn.Linear(len(self._student_layers) * student.hidden_size, width)
        self.teacher_projection = nn.Linear(len(self._teacher_layers) * teacher.hidden_size, width)

    def start_training(self, num_rows: int, labels: Tensor | None, seed: int) -> None:
        """Initialize the memory with random vectors.

        Raises:
            InputError: a row has no negative.
        """
        config, random = self.config, random_numbers(seed, 0)
        device = self.student_projection.weight.device
        size, temperature = config.projection_size, config.contrastive_temperature
        if config.memory == "queue":
            queue = Queue(random_vectors(config.num_negatives or 4096, size, random))
            self.contrast = QueueContrast(queue, temperature).to(device)
            return
        others = self._other_rows(num_rows, labels, device)
        momentum = 0.5 if config.momentum is None else config.momentum
        bank = Bank(random_vectors(num_rows, size, random), momentum)
        if config.loss == "nce":
            second = Bank(random_vectors(num_rows, size, random), momentum)
            self.contrast = NceContrast(bank, second, others, temperature).to(device)
        else:
            self.contrast = BankContrast(bank, others, temperature).to(device)

    def _other_rows(self, num_rows: int, labels: Tensor | None, device: torch.device) -> OtherRows:
        rows = torch.arange(num_rows, device=device)
        margin = 0.0
        if labels is not None:
            assert labels.shape[0] == labels.numel() == num_rows, (labels.shape, num_rows)
            margin = self.config.label_margin if self.student.num_labels == 1 else 0.0
        targets = rows if labels is None else labels.flatten()
        others = OtherRows(targets, margin, self.config.num_negatives or 100)
        alone = (others.num_different(rows) == 0).nonzero().flatten().tolist()
        if alone:
            raise InputError(_why_alone(alone[0], targets if labels is not None else None, margin))
        return others

    def start_epoch(self, epoch: Epoch) -> None:
        """Draw the epoch's negatives."""
        self.contrast.start_epoch(epoch)

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        config = self.config
        kind = "first token's" if config.pooling == "cls" else "tokens' mean"
        terms = {
            "logits": of_logits(config.temperature, cached=config.cached_teacher),
            "contrastive": (
                f"{kind} vectors of the student's layers {of_layers(self._student_layers)} and of "
                f"the teacher's {of_layers(self._teacher_layers)}, negatives from a {config.memory}"
            ),
        }
        return terms | ({"task": of_labels()} if self.needs_labels else {})

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Weighted losses of a batch, whose vectors are then stored in the memory."""
        config, mask = self.config, batch["attention_mask"]
        student = run(self.student, batch, layers=self._student_layers)
        teacher = self.teacher_output(batch, self._teacher_layers)
        # In bfloat16 the rounding errors of the scores, scaled by 1 / tau, would be too large.
        with torch.autocast(mask.device.type, enabled=False):
            contrast, num_candidates = self.contrast(
                self._vectors(self.student_projection, student, self._student_layers, mask),
                self._vectors(self.teacher_projection, teacher, self._teacher_layers, mask),
                batch["row_ids"],
            )
        divergence = self.kd_loss(student.logits, teacher.logits, config.temperature)
        terms = {
            "logits": (config.logit_weight, divergence),
            "contrastive": (config.contrastive_weight, contrast),
        }
        if self.needs_labels:
            terms["task"] = (config.task_weight, self.task_loss(student.logits, batch))
        return LossTerms.weighted(**terms).measuring(num_candidates=num_candidates)

    def _vectors(
        self, projection: nn.Linear, output: EncoderOutput, layers: Sequence[int], mask: Tensor
    ) -> Tensor:
        """Unit vector per row, (B, u)."""
        features = pooled_layers(output.hidden_states, layers, mask, self.config.pooling)
        return F.normalize(projection(features.flatten(1)), dim=-1)


def _resolve(layers: Layers, encoder: Encoder) -> tuple[int, ...]:
    if isinstance(layers, tuple):
        return layers
    return tuple(range(1, encoder.num_layers + 1, 1 if layers == "all" else 2))


def _why_alone(row: int, labels: Tensor | None, margin: float) -> str:
    what = f"codir: row {row} has no other row as a negative"
    if labels is None:
        return f"{what}: the text has one row; give it two or more"
    label = f"{float(labels[row]):g}"
    if margin:
        return (
            f"{what}: its label is {label}, and none differs from it by more than label_margin "
            f"{margin:g}; set a smaller label_margin, or negatives: queue"
        )
    return f"{what}: all rows have the label {label}; give rows of two, or set negatives: queue"
