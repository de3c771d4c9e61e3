"""AD2: distillation on the text and on an adversarial perturbation of its word embeddings.

    loss = CE(S(x), y) + kd(S(x), T(x)) + alpha kd(S(e + delta), T(x))

with e the student's word embeddings of x. The perturbation delta is found by projected gradient
ascent (`perturbation`): K times, with g the gradient with respect to delta of the batch's sum of
kd(S(e + delta), T(x)), delta moves by step_size g / ||g|| and is projected to size epsilon. The
teacher reads the unchanged text, once per batch.

If delta starts at zero, the first gradient is that of the clean forward pass, with its dropout
mask, which saves one pass. With another start, or with `inner_eval`, every step runs its own pass.

Ablations: `logit_weight: 0` uses gold labels and perturbed text only ("-KD": the ascent maximizes
the task loss), `adversarial_weight: 0` has no ascent ("-AD"). Deep KD ("-DKD" in the ablations, but
not in the paper's algorithm) is off by default: `feature_weight` and `attention_weight` add
TinyBERT's losses of hidden states and attention scores between layer i of the student's m and the
teacher's layer i n / m; the teacher then runs in every step.

Source: Zhang, Naresh and He 2022, "Adversarial Data Augmentation for Task-Specific Knowledge
Distillation of Pre-trained Transformers" (doi:10.1609/aaai.v36i10.21423), equations 1 to 3 and
Algorithm 1. Adversaries: Zhu et al. 2020, "FreeLB: Enhanced Adversarial Training for Natural
Language Understanding" (arXiv:1909.11764), and Jiang et al. 2020, "SMART: Robust and Efficient
Fine-Tuning for Pre-trained Natural Language Models through Principled Regularized Optimization"
(arXiv:1911.03437).
Differs from the paper: the default adversary is FreeLB's. The paper's epsilon, 1e-5, is below its
step of 1e-3 and about 1e-5 of the norm of a token's embedding, so that it amounts to a second pass
with another dropout mask (`adversary: paper` selects it, with a warning). KL is KL(teacher ||
student) everywhere. A perturbation larger than epsilon is scaled down, all tokens of a row
together. The authors published no code.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.forward import run
from raykd.models.probe import Trait
from raykd.objectives.base import LossTerms, Models, Objective, ObjectiveConfig, Role, TeacherPart
from raykd.objectives.losses.descriptions import of_labels, of_logits
from raykd.objectives.losses.hidden_and_attention import (
    ProjectionSharing,
    TokenMaps,
    check_token_maps,
)
from raykd.objectives.losses.perturbation import (
    Ascent,
    Initialization,
    Norm,
    Normalized,
    norms,
    perturbation,
)
from raykd.objectives.shared.settings import TaskWeightConfig

_LOG = logging.getLogger(__name__)
# steps, epsilon, step_size, norm, initialization, initial_size, normalized
_ADVERSARIES = {
    # FreeLB's step. Word embeddings have norms of about 1, those of a row of L tokens together
    # about sqrt(L). With 0.5, 14 % of a row of SST-2, students of 3 layers gave one answer for all
    # texts for an epoch, or to the end: to separate texts cost them more than labels paid.
    "freelb": Ascent(1, 0.1, 0.1, "row_l2", "zeros", 0.1),
    # The paper's values: the step is scaled down to a hundredth, which has no effect.
    "paper": Ascent(1, 1e-5, 1e-3, "row_l2", "zeros", 1e-5),
    # SMART's first code (namisan/mt-dnn, 0d6201e2): the gradient is divided by each token's largest
    # entry.
    "smart": Ascent(1, 1e-3, 1e-3, "token_linf", "gaussian", 1e-5),
    # SMART's later code (676b48b1): the perturbation is divided, so its largest entry is always 1.
    "smart_later": Ascent(1, 1.0, 1e-3, "token_linf", "gaussian", 1e-5, "perturbation"),
}


class Ad2Config(TaskWeightConfig):
    """Settings of AD2: weights of the terms, and the adversary (`perturbation.Ascent`)."""

    name: Literal["ad2"] = Field(
        "ad2",
        description="AD2: match the teacher's logits on the text and on an adversarial "
        "perturbation of its word embeddings.",
    )
    task_weight: float = Field(
        1.0,
        ge=0,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; 1 in the paper (Algorithm 1).",
    )
    logit_weight: float = Field(
        1.0,
        ge=0,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        'regression) on the clean text; 1 in the paper (Algorithm 1), 0 for its ablation "-KD".',
    )
    adversarial_weight: float = Field(
        1.0,
        ge=0,
        description="Weight alpha of the logit loss on the perturbed text; 1 in the paper "
        '(Algorithm 1), 0 for its ablation "-AD".',
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="Temperature T of the logit loss; without effect for regression; 1 in the "
        "paper.",
    )
    adversary: Literal["freelb", "paper", "smart", "smart_later"] = Field(
        "freelb",
        description="Defaults of the seven keys below: freelb (Zhu et al. 2020), paper (AD2's "
        "literal values, whose perturbation is too small to have an effect), smart or smart_later "
        "(first and later code of Jiang et al. 2020).",
    )
    steps: int | None = Field(
        None, ge=1, description="Steps of gradient ascent K. Default: 1, as in the paper."
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        description="Largest size of a perturbation, in the norm `norm`; also the step_size where "
        "that is not given, unless normalized is perturbation. Default: the adversary's (freelb "
        "0.1; paper 1e-5).",
    )
    step_size: float | None = Field(
        None,
        gt=0,
        description="Size of one step, in the norm `norm`. Default: the adversary's (freelb 0.1; "
        "paper 1e-3).",
    )
    norm: Norm | None = Field(
        None,
        description="L2 norm or largest entry (linf), over all tokens of a row together (row_*) "
        "or per token (token_*). Default: the adversary's.",
    )
    initialization: Initialization | None = Field(
        None,
        description="Start of the perturbation: zeros, uniform (FreeLB) or gaussian (SMART). "
        "Default: the adversary's.",
    )
    initial_size: float | None = Field(
        None,
        gt=0,
        description="Size of the start: the largest norm of a uniform one, the standard deviation "
        "per entry of a gaussian one. Default: the adversary's.",
    )
    normalized: Normalized | None = Field(
        None,
        description="gradient: every step has step_size, then the perturbation is projected into "
        "the ball of size epsilon; perturbation: the raw gradient is added and the perturbation "
        "is scaled to epsilon (SMART's later code). Default: the adversary's.",
    )
    inner_eval: bool = Field(
        False, description="Switch dropout off while the perturbation is searched."
    )
    feature_weight: float = Field(
        0.0,
        ge=0,
        description="Deep KD: weight of TinyBERT's loss of hidden states; 0 leaves it out, as "
        "Algorithm 1 does.",
    )
    attention_weight: float = Field(
        0.0,
        ge=0,
        description="Deep KD: weight of TinyBERT's loss of attention scores; 0 leaves it out, as "
        "Algorithm 1 does.",
    )
    projection: ProjectionSharing = Field(
        "shared",
        description="Deep KD: linear maps from the student's to the teacher's width, shared (one "
        "for all layers) or per_layer.",
    )
    deep_on_adversarial: bool = Field(
        False, description="Apply deep KD to the perturbed text, too."
    )

    @model_validator(mode="after")
    def _has_terms(self) -> Self:
        if not (self.task_weight or self.logit_weight):
            raise ValueError("task_weight and logit_weight are 0; set one of them above 0")
        if self.deep_on_adversarial and not (self.is_deep and self.adversarial_weight):
            raise ValueError(
                "deep_on_adversarial needs adversarial_weight and feature_weight or "
                "attention_weight above 0"
            )
        return self

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Model for deep KD, otherwise logits if they have a weight."""
        if self.is_deep:
            return frozenset({"model"})
        return frozenset({"logits"}) if self.logit_weight > 0 else frozenset()

    @property
    def is_deep(self) -> bool:
        """True if the layer losses have a weight."""
        return self.feature_weight > 0 or self.attention_weight > 0

    @property
    def ascent(self) -> Ascent:
        """Settings of the adversary, overridden by the keys that are set."""
        given = {key: getattr(self, key) for key in Ascent._fields}
        own = _ADVERSARIES[self.adversary]
        if (self.normalized or own.normalized) == "gradient":
            # Otherwise the step would be projected back, or be smaller than intended.
            given["step_size"] = self.step_size or self.epsilon
        return own._replace(**{key: value for key, value in given.items() if value is not None})

    def defaults(self) -> dict[str, Any]:
        """See `ObjectiveConfig`."""
        return {"ascent": list(self.ascent)} if self.adversarial_weight > 0 else {}


class Ad2(Objective):
    """Training on clean and adversarially perturbed text."""

    trains_classifier = True
    student_traits = Objective.student_traits | {"embeddings"}
    config: Ad2Config

    @classmethod
    def traits(cls, config: ObjectiveConfig, role: Role) -> frozenset[Trait]:
        """Traits of `Objective`, and attention scores for deep KD."""
        assert isinstance(config, Ad2Config)
        needed = super().traits(config, role)
        return needed | {"relations", "first_token"} if config.attention_weight > 0 else needed

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models whose layers or attention heads deep KD cannot compare."""
        assert isinstance(config, Ad2Config)
        if config.is_deep:
            check_token_maps("ad2", student, teacher, attention=config.attention_weight > 0)

    def __init__(self, config: Ad2Config, models: Models) -> None:
        super().__init__(config, models)
        self._ascent = config.ascent
        self.maps: TokenMaps | None = None
        if models.teacher is not None:
            self.check(config, models.student, models.teacher)
            self.maps = TokenMaps(
                models.student,
                models.teacher,
                hidden=config.feature_weight > 0,
                attention=config.attention_weight > 0,
                projection=config.projection,
            )
        if config.adversarial_weight and self._ascent.epsilon < self._ascent.step_size:
            _LOG.warning(
                "ad2: epsilon %g is below step_size %g: every perturbation is scaled to epsilon; "
                "word embeddings have norms of about 1, and adversary: freelb takes a step of 0.1",
                self._ascent.epsilon,
                self._ascent.step_size,
            )

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        config = self.config
        cached = self.teacher is None
        distance = (
            of_logits(config.temperature, cached=cached) if config.logit_weight else of_labels()
        )
        terms = {"task": of_labels()} if config.task_weight else {}
        terms |= {"logits": distance} if config.logit_weight else {}
        deep = self.maps.describe() if self.maps is not None else {}
        terms |= deep
        if config.adversarial_weight:
            where = f"on embeddings perturbed by up to {self._ascent.epsilon:g}"
            terms["adversarial"] = f"{distance}, {where}"
            if config.deep_on_adversarial:
                terms |= {f"adversarial_{name}": f"{what}, {where}" for name, what in deep.items()}
        return terms

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Weighted losses of a batch."""
        config, teacher = self.config, self._run_teacher(batch)
        embedded = self.student.embed(batch["input_ids"])
        clean = self._run_student(batch, embedded)
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.task_weight:
            terms["task"] = (config.task_weight, self.task_loss(clean.logits, batch))
        if config.logit_weight:
            terms["logits"] = (config.logit_weight, self._distance(clean.logits, batch, teacher))
        terms |= self._deep_terms("", clean, teacher, batch)
        if not config.adversarial_weight:
            return LossTerms.weighted(**terms)
        clean_loss = terms["logits" if config.logit_weight else "task"][1]
        delta = self._perturbation(batch, embedded, clean_loss, teacher)
        perturbed = self._run_student(batch, embedded + delta, deep=config.deep_on_adversarial)
        perturbed_loss = self._distance(perturbed.logits, batch, teacher)
        terms["adversarial"] = (config.adversarial_weight, perturbed_loss)
        if config.deep_on_adversarial:
            terms |= self._deep_terms("adversarial_", perturbed, teacher, batch)
        return LossTerms.weighted(**terms).measuring(
            adversarial_gap=perturbed_loss - clean_loss,
            delta_norm_ratio=_size_ratio(delta, embedded, batch["attention_mask"]),
        )

    def _perturbation(
        self,
        batch: Mapping[str, Tensor],
        embedded: Tensor,
        clean_loss: Tensor,
        teacher: EncoderOutput | None,
    ) -> Tensor:
        """Perturbation (B, L, e) that maximizes the loss; `clean_loss` is its mean at the start."""
        mask, num_rows = batch["attention_mask"], len(batch["input_ids"])

        def loss_of(word_embeddings: Tensor) -> Tensor:
            logits = self._search(batch, word_embeddings)
            return self._distance(logits, batch, teacher) * num_rows

        gradient = None
        if self._ascent.initialization == "zeros" and not self.config.inner_eval:
            (gradient,) = torch.autograd.grad(clean_loss * num_rows, embedded, retain_graph=True)
        return perturbation(embedded, mask, self._ascent, loss_of, gradient)

    def _search(self, batch: Mapping[str, Tensor], word_embeddings: Tensor) -> Tensor:
        """Logits of the student during the ascent."""
        mode = self.student.training
        self.student.train(mode and not self.config.inner_eval)
        logits = run(self.student, batch, word_embeddings=word_embeddings).logits
        self.student.train(mode)
        return logits

    def _run_student(
        self, batch: Mapping[str, Tensor], word_embeddings: Tensor, *, deep: bool = True
    ) -> EncoderOutput:
        layers: dict[str, Any] = self.maps.of_student if self.maps is not None and deep else {}
        return run(self.student, batch, word_embeddings=word_embeddings, **layers)

    def _run_teacher(self, batch: Mapping[str, Tensor]) -> EncoderOutput | None:
        if self.teacher is None or self.maps is None:
            return None
        with torch.no_grad():
            return run(self.teacher, batch, **self.maps.of_teacher)

    def _distance(
        self, logits: Tensor, batch: Mapping[str, Tensor], teacher: EncoderOutput | None
    ) -> Tensor:
        """Distance to the teacher, or to the gold labels if its logits have no weight."""
        if not self.config.logit_weight:
            return self.task_loss(logits, batch)
        teacher_logits = batch["teacher_logits"] if teacher is None else teacher.logits
        return self.kd_loss(logits, teacher_logits, self.config.temperature)

    def _deep_terms(
        self,
        prefix: str,
        student: EncoderOutput,
        teacher: EncoderOutput | None,
        batch: Mapping[str, Tensor],
    ) -> dict[str, tuple[float, Tensor]]:
        if self.maps is None or teacher is None:
            return {}
        weights = {
            "hidden": self.config.feature_weight,
            "attention": self.config.attention_weight,
        }
        losses = self.maps(student, teacher, batch["attention_mask"])
        return {prefix + name: (weights[name], loss) for name, loss in losses.items()}


def _size_ratio(delta: Tensor, embedded: Tensor, attention_mask: Tensor) -> Tensor:
    """Ratio of the L2 norms of perturbation and word embeddings per row, mean over rows."""
    tokens = embedded.detach() * attention_mask[..., None]
    sizes = norms(tokens, "row_l2").clamp(min=torch.finfo(tokens.dtype).tiny)
    return (norms(delta, "row_l2") / sizes).mean()
