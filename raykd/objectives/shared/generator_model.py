"""Settings of the masked language model that generates text in MATE-KD and CILDA."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from raykd.config import Config


class TrainHeadConfig(Config):
    """Training of a masked-LM head on a frozen encoder, by masked-language modeling.

    The head's output layer is the encoder's word embeddings, which stay frozen with the encoder.
    Masked words are always replaced by the mask token, as in generation: BERT's 80/10/10 rule
    regularizes the encoder, which is not trained here.
    """

    num_steps: int = Field(2000, ge=1, description="Optimizer steps.")
    text: Literal["corpus", "task"] = Field(
        "corpus",
        description="Text to train on: corpus (units drawn at random from the recipe's corpus) or "
        "task (the task's training rows).",
    )
    batch_size: int = Field(32, ge=1, description="Rows per step.")
    learning_rate: float = Field(
        3e-3, gt=0, description="Peak learning rate; linear schedule, 10 % warm-up."
    )
    mask_probability: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Probability of each word to be masked, at least one word per row.",
    )
    max_length: int = Field(128, ge=4, description="Tokens kept per row.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Number format of the matrix products."
    )
    held_out_rows: int = Field(
        1000,
        ge=1,
        description="Rows kept out of training to measure the head; at most 10 % of the text.",
    )
    max_perplexity_ratio: float = Field(
        0.9,
        gt=0,
        description="Highest held-out perplexity accepted, as a share of the unigram baseline's "
        "perplexity on the same masked words.",
    )
    min_accuracy_gain: float = Field(
        0.01,
        ge=-1,
        le=1,
        description="Smallest gain accepted in held-out masked accuracy (a fraction) over always "
        "predicting the most frequent token.",
    )
    seed: int = Field(1, description="Seed of the new head, the batches and the masks.")

    def training_settings(self) -> dict[str, Any]:
        """Settings that determine the trained head, without the acceptance thresholds."""
        return self.model_dump(mode="json", exclude={"max_perplexity_ratio", "min_accuracy_gain"})


def _with_short_form(schema: dict[str, Any]) -> None:
    whole = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string"}, {"type": "null"}, whole]


class GeneratorModelConfig(Config):
    """Settings of the generator, a masked language model with the teacher's tokenizer.

    `generator: NAME` is short for `generator: {model: NAME}`.
    """

    model_config = ConfigDict(json_schema_extra=_with_short_form)

    model: str | None = Field(
        None,
        description="Masked language model: folder, package:NAME/FOLDER or hub name. Default: "
        "teacher.model as pretrained. MATE-KD takes DistilRoBERTa with RoBERTa and BERT L4-H256 "
        "with BERT.",
    )
    train_head: TrainHeadConfig | None = Field(
        None,
        description="Training of a masked-LM head where the model's checkpoint has none; a head "
        "in the checkpoint is used as it is.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, str):
            return {"model": value}
        if not isinstance(value, dict | cls):
            raise ValueError(
                "expected the name of a masked language model, or a section with the keys model "
                f"and train_head, not {value!r:.60}"
            )
        return value

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if self.model is not None and not self.model.strip():
            raise ValueError("model is empty: name a masked language model, or remove the key")
        return self
