"""CILDA: adversarial text generation with contrastive distillation of intermediate layers.

x is the text, x' its version rewritten by the generator (see `generation`). L_CRD compares the
first token's hidden states of all layers (with `pooling: mean`, those of all tokens), concatenated
and mapped to vectors t (teacher) and s (student): `-log softmax_j(cos(t_k, s_j) / 2)[k]`, averaged
over the rows k of the batch. Generator steps maximize `KL(x') + L_CRD(x')`, student steps minimize
`1/3 CE(x) + 1/3 KL(x) + 2/9 KL(x') + 1/9 L_CRD(x')`. For regression CE and KL become the squared
error.

Source: Haidar et al. 2022, "CILDA: Contrastive Data Augmentation using Intermediate Layer Knowledge
Distillation" (arXiv:2204.07674), equations 1 to 3.
Readings of unclear points of the paper: of the two weights of generated text, 2/9 is that of KL and
1/9 that of L_CRD, so that all weights sum to 1 and the maps to t and s are trained, in student
steps only. Candidates are all rows of the batch, including the row itself. The authors published no
code; the third-party code of TKC002 has other terms (see `aug_terms`), trains the maps in generator
steps and masks each text once for all epochs.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from raykd.models.encoder import Encoder, EncoderOutput
from raykd.models.forward import run
from raykd.models.pooling import Pooling, pooled_layers
from raykd.models.probe import Trait
from raykd.objectives.base import LossTerms, Models, ObjectiveConfig, Role
from raykd.objectives.losses.descriptions import of_labels, of_logits, of_pooling
from raykd.objectives.losses.in_batch_contrastive import in_batch_loss
from raykd.objectives.shared.generation import (
    GENERATOR,
    GeneratedText,
    GeneratorConfig,
    GeneratorObjective,
)

_Weight = Annotated[float, Field(gt=0)]


class CildaConfig(GeneratorConfig):
    """Settings of CILDA.

    TKC002's terms, with gold labels for generated text, are
    `aug_terms: {task: 0.2222, logits: 0.1111}`; the layer maps then stay at their random
    initialization. The number of candidates is logged as `num_candidates`.
    """

    name: Literal["cilda"] = Field(
        "cilda",
        description="CILDA (Haidar et al. 2022): MATE-KD's generated text with a contrastive loss "
        "between intermediate layers.",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="Temperature T of the logit loss; without effect for regression; 1 in the "
        "paper.",
    )
    aug_terms: dict[Literal["task", "logits", "contrastive"], _Weight] = Field(
        {"logits": 2 / 9, "contrastive": 1 / 9},
        min_length=1,
        description="Weights of the student's losses on generated text: logits (KL), contrastive "
        "and task (gold labels). The paper's 2/9 and 1/9 are read as logits and contrastive.",
    )
    generator_terms: dict[Literal["logits", "contrastive"], _Weight] = Field(
        {"logits": 1.0, "contrastive": 1.0},
        min_length=1,
        description="Weights of the losses on generated text that the generator maximizes; 1 each "
        "in the paper.",
    )
    contrastive_temperature: float = Field(
        2.0, gt=0, description="Temperature tau_2 of the contrastive loss; 2 in the paper."
    )
    projection_size: int = Field(
        128, ge=1, description="Width u of the compared vectors; 128 in the paper."
    )
    pooling: Pooling = Field(
        "cls",
        description="Vector of a text in a layer: of the first token (cls), as in the paper, or "
        "the tokens' mean. First tokens of encoders that pool by mean, such as sentence encoders, "
        "are nearly the same for all texts below the last layer.",
    )
    gather_negatives: bool = Field(
        True,
        description="Contrast each row with the rows of all workers; false: with those of its own "
        "worker only, so that the loss depends on the number of workers.",
    )

    @property
    def needs_labels(self) -> bool:
        """True if gold labels have a weight, on original or generated text."""
        return self.task_weight > 0 or "task" in self.aug_terms

    @property
    def mixes_examples(self) -> bool:
        """True: other rows of the batch are negatives."""
        return True


class Cilda(GeneratorObjective):
    """Training on original text, and on generated text including its intermediate layers."""

    config: CildaConfig

    @classmethod
    def traits(cls, config: ObjectiveConfig, role: Role) -> frozenset[Trait]:
        """Traits of `Objective`, and that of first tokens if they are compared."""
        assert isinstance(config, CildaConfig)
        needed = super().traits(config, role)
        return needed | {"first_token"} if config.pooling == "cls" else needed

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models with different vocabularies or unknown layers."""
        super().check(config, student, teacher)
        student.blocks()
        teacher.blocks()

    def __init__(self, config: CildaConfig, models: Models) -> None:
        super().__init__(config, models)
        assert self.teacher is not None
        self.student_projection = _projection(self.student, config.projection_size)
        self.teacher_projection = _projection(self.teacher, config.projection_size)

    def student_parameters(self) -> tuple[nn.Parameter, ...]:
        """Parameters of the student, and of the layer maps if the loss uses them."""
        maps = (self.student_projection, self.teacher_projection)
        learning = maps if "contrastive" in self.config.aug_terms else ()
        heads = [parameter for projection in learning for parameter in projection.parameters()]
        return (*super().student_parameters(), *heads)

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        assert self.teacher is not None
        config, text = self.config, "on generated text"
        layers = (
            f"{of_pooling(config.pooling)} of the student's layers 1 to {self.student.num_layers} "
            f"and of the teacher's 1 to {self.teacher.num_layers}, the batch's other rows as "
            "negatives"
        )
        of_terms = {
            "task": f"{of_labels()}, {text}",
            "logits": f"{of_logits(config.temperature, cached=False)}, {text}",
            "contrastive": f"{layers}, {text}",
        }
        terms = {f"aug_{name}": of_terms[name] for name in config.aug_terms}
        terms["logits"] = of_logits(config.temperature, cached=True)
        return terms | ({"task": of_labels()} if config.task_weight else {})

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Losses of a batch with teacher_logits, for the active player."""
        assert self.teacher is not None
        config, text = self.config, self._generate(batch)
        generates = self._player == GENERATOR
        weights = config.generator_terms if generates else config.aug_terms
        by_layer = "contrastive" in weights
        student = _read(self.student, batch, text, by_layer=by_layer)
        teacher = _read(self.teacher, batch, text, by_layer=by_layer)
        losses = {"logits": self.kd_loss(student.logits, teacher.logits, config.temperature)}
        measures = {}
        if "task" in weights:
            losses["task"] = self.task_loss(student.logits, batch)
        if by_layer:
            losses["contrastive"], measures["num_candidates"] = self._contrast(
                student, teacher, batch
            )
        sign = -1.0 if generates else 1.0
        terms = {f"aug_{name}": (sign * weight, losses[name]) for name, weight in weights.items()}
        if not generates:
            terms |= self._terms_of_known_text(batch)
        return LossTerms.weighted(**terms).measuring(**measures)

    def _terms_of_known_text(self, batch: Mapping[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        config, logits = self.config, run(self.student, batch).logits
        known = self.kd_loss(logits, batch["teacher_logits"], config.temperature)
        terms = {"logits": (config.logit_weight, known)}
        if config.task_weight > 0:
            terms["task"] = (config.task_weight, self.task_loss(logits, batch))
        return terms

    def _contrast(
        self, student: EncoderOutput, teacher: EncoderOutput, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """L_CRD and the number of candidates."""
        anchors = self.teacher_projection(self._pooled(teacher, batch))
        vectors = self.student_projection(self._pooled(student, batch))
        return in_batch_loss(
            anchors,
            vectors,
            batch["row_ids"],
            self.config.contrastive_temperature,
            gather=self.config.gather_negatives,
        )

    def _pooled(self, output: EncoderOutput, batch: Mapping[str, Tensor]) -> Tensor:
        """Concatenated vectors of a text in all layers, (B, layers * d)."""
        states, mask = output.hidden_states, batch["attention_mask"]
        return pooled_layers(states, states, mask, self.config.pooling).flatten(1)


def _read(
    encoder: Encoder, batch: Mapping[str, Tensor], text: GeneratedText, *, by_layer: bool
) -> EncoderOutput:
    layers = range(1, encoder.num_layers + 1) if by_layer else ()
    return run(encoder, batch, word_embeddings=text.word_embeddings(encoder), layers=layers)


def _projection(encoder: Encoder, size: int) -> nn.Linear:
    return nn.Linear(encoder.num_layers * encoder.hidden_size, size)
