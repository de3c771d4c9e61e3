"""Settings of the masked language model that generates text in MATE-KD and CILDA."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from raykd.config import Config


class TrainHeadConfig(Config):
    """Training of a masked-LM head on a frozen encoder, by masked-language modeling.

    The head's last map is the encoder's word embeddings, which stay frozen with the rest of the
    encoder. Masked words are always replaced by the mask token, as the generator does it later: the
    80/10/10 rule of BERT keeps the encoder from relying on the mask token, and the encoder does not
    learn here.
    """

    num_steps: int = Field(2000, ge=1, description="optimizer steps")
    text: Literal["corpus", "task"] = Field(
        "corpus",
        description="text to train on: units drawn at random from the recipe's corpus, or the "
        "task's training rows",
    )
    batch_size: int = Field(32, ge=1, description="rows per step")
    learning_rate: float = Field(
        3e-3, gt=0, description="peak learning rate; linear schedule, 10 % warm-up"
    )
    mask_probability: float = Field(
        0.15, gt=0, le=1, description="chance of each word to be masked; one per row at least"
    )
    max_length: int = Field(128, ge=4, description="tokens kept per row")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="format of the matrix products"
    )
    held_out_rows: int = Field(
        1000, ge=1, description="rows kept out of training to measure the head; 10 % at most"
    )
    max_perplexity_ratio: float = Field(
        0.9,
        gt=0,
        description="highest held-out perplexity accepted, as a share of the unigram baseline's "
        "perplexity on the same masked words",
    )
    min_accuracy_gain: float = Field(
        0.01,
        ge=-1,
        le=1,
        description="least gain in held-out masked accuracy (a fraction) over always answering "
        "the most frequent token",
    )
    seed: int = Field(1, description="seed of the new head, the batches and the masks")

    def training_settings(self) -> dict[str, Any]:
        """The settings that decide the trained head; thresholds only judge it."""
        return self.model_dump(mode="json", exclude={"max_perplexity_ratio", "min_accuracy_gain"})


class GeneratorModelConfig(Config):
    """The generator: a masked language model with the teacher's tokenizer.

    `generator: NAME` is short for `generator: {model: NAME}`.
    """

    model: str | None = Field(
        None,
        description="folder, package:NAME/FOLDER or hub name of a masked language model; default: "
        "teacher.model, as it was pretrained",
    )
    train_head: TrainHeadConfig | None = Field(
        None,
        description="how a masked-LM head is trained first where the model's checkpoint has none; "
        "a head that the checkpoint has is used as it is",
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
                "the name of a masked language model, or a section with the keys model and "
                f"train_head, is expected, not {value!r:.60}"
            )
        return value

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if self.model is not None and not self.model.strip():
            raise ValueError("model is empty: name a masked language model, or leave it out")
        return self
