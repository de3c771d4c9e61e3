"""Settings of injections: training on unlabeled text before the student is adapted to the task."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raykd.training.phase.config import PhaseConfig

TextKind = Literal["task", "task_da", "random", "dsir", "contextualized"]
TEXT_KINDS: tuple[TextKind, ...] = ("task", "task_da", "random", "dsir", "contextualized")
# Texts made from a general corpus.
CORPUS_TEXTS: tuple[TextKind, ...] = ("random", "dsir", "contextualized")
# Those that have the size of the contextualized corpus, unless another is given.
BASELINE_TEXTS: tuple[TextKind, ...] = ("random", "dsir")


class InjectionConfig(PhaseConfig):
    """Settings of an injection: training on unlabeled text, and its teacher."""

    teacher: Literal["fine_tuned", "pretrained"] = Field(
        "fine_tuned",
        description="fine_tuned: the run's teacher, fine-tuned on the task; pretrained: "
        "teacher.model as downloaded (task-agnostic distillation), for objectives that read "
        "neither logits nor labels.",
    )
    teacher_model: str | None = Field(
        None,
        description="With teacher: pretrained, another model to learn from, with the teacher's "
        "tokenizer: folder, package:NAME/FOLDER or hub name.",
    )
    adapt: bool = Field(
        True,
        description="Whether a student is adapted to the task after this injection, if it is its "
        "last. false leaves the student as it is, for objectives that train the classifier.",
    )

    @model_validator(mode="after")
    def _teacher_has_what_is_read(self) -> Self:
        if self.teacher_model is not None and self.teacher == "fine_tuned":
            raise ValueError(
                f"teacher_model {self.teacher_model!r} is read as downloaded only; set teacher: "
                "pretrained, or remove teacher_model"
            )
        if self.teacher == "pretrained" and self.objective.reads_logits:
            raise ValueError(
                f"teacher 'pretrained': objective {self.objective.name!r} reads the teacher's "
                "logits, and the classifier of a pretrained model is random; use an objective on "
                "hidden states alone (minilmv2, tinybert, codir_pretraining), or set teacher: "
                "fine_tuned"
            )
        return self

    def phase(self) -> PhaseConfig:
        """Training settings only; the teacher's settings are inputs of the stage."""
        names = set(PhaseConfig.model_fields)
        return PhaseConfig.model_validate(self.model_dump(include=names, by_alias=True))


class StepConfig(InjectionConfig):
    """Settings of a named injection; missing keys are taken from the section `injection`."""

    text: TextKind = Field(
        description="Text to train on: task (the task's rows), task_da (rows of `raykd augment`), "
        "random (units drawn from a general corpus), dsir (units drawn from it by the importance "
        "of their n-grams for the task) or contextualized (units retrieved from it)."
    )
    corpus: str | None = Field(
        None, description="Which of `corpora` a random, dsir or contextualized text is made from."
    )
    num_units: int | None = Field(
        None,
        ge=1,
        description="Units of a random or dsir text. Default: the size of the contextualized "
        "corpus.",
    )

    @model_validator(mode="after")
    def _keys_fit_the_text(self) -> Self:
        if self.corpus is not None and self.text not in CORPUS_TEXTS:
            raise ValueError(
                f"corpus {self.corpus!r}: text {self.text!r} is not made from a corpus; remove it"
            )
        if self.num_units is not None and self.text not in BASELINE_TEXTS:
            raise ValueError(
                f"num_units {self.num_units}: belongs to text: random or dsir; the size of a "
                "contextualized corpus is set in the section contextualize"
            )
        return self


def check_injection(key: str, phase: InjectionConfig) -> None:
    """Refuse settings that have no meaning on unlabeled text.

    Args:
        key: path of the section in the recipe.
        phase: settings of the injection.

    Raises:
        ValueError: names the key and what to do.
    """
    if phase.objective.needs_labels:
        raise ValueError(
            f"{key}.objective {phase.objective.name!r} needs labels, and injection runs on "
            "unlabeled text: use minilmv2, or vanilla_kd with task_weight: 0"
        )
    if (score_key := _set_score_key(phase)) is not None:
        raise ValueError(
            f"{key}.{score_key}: students are not scored in this phase; set it in the section "
            "adaptation"
        )


def _set_score_key(phase: PhaseConfig) -> str | None:
    """First key that is set although it only has a meaning with evaluation; None if none is."""
    keys = ("score_every", "patience", "keep")
    given = (key for key in keys if getattr(phase, key) != PhaseConfig.model_fields[key].default)
    return next(given, None)
