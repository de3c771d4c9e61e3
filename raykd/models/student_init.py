"""Students: new ones shaped by settings, with random weights or the teacher's, or pretrained."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from raykd.config import Config
from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_encoder

Init = Literal["random", "skip", "top", "bottom", "pretrained"]

# Text on which tokenizers of equal vocabulary may still differ: case, accents, white space, digits.
_PROBE = "The  Façade cost 1,250.50\tEUR; “naïve” ÉTÉ, 北京 don't!"


class StudentConfig(Config):
    """A student of the teacher's family, or a pretrained one.

    Sizes that are not given follow the teacher: its width, its width of a head, its ratio of
    feed-forward to hidden size. Each of `inits` makes a student of its own: random weights, or
    evenly spread (`skip`), last (`top`) or first (`bottom`) layers of the teacher together with
    its embeddings, pooler and classifier, which needs the teacher's sizes. `dropout`, where given,
    is that of every place that has one; a small student on a teacher's soft answers needs none.
    """

    num_layers: int | None = Field(None, ge=1)
    hidden_size: int | None = Field(None, ge=1)
    num_heads: int | None = Field(None, ge=1)
    intermediate_size: int | None = Field(None, ge=1)
    dropout: float | None = Field(None, ge=0, lt=1)
    inits: tuple[Init, ...] = ("random",)
    model: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _pretrained_is_the_init_of_a_model(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("model") and "inits" not in values:
            return {**values, "inits": ("pretrained",)}
        return values

    @model_validator(mode="after")
    def _shape_or_model(self) -> Self:
        if not self.inits or len(set(self.inits)) < len(self.inits):
            raise ValueError("`inits` needs at least one way, and each only once")
        if self.model is not None:
            given = {"num_layers", "hidden_size", "num_heads", "intermediate_size", "dropout"}
            given = {name for name in given if getattr(self, name) is not None}
            if given:
                raise ValueError(
                    "`model` brings its own sizes and dropout; "
                    f"remove {', '.join(sorted(given))}, or `model`"
                )
            if self.inits != ("pretrained",):
                raise ValueError("`model` is a pretrained student; remove `inits`, or `model`")
        elif "pretrained" in self.inits:
            raise ValueError("init 'pretrained' needs `model`: a folder, package:… or hub name")
        elif self.num_layers is None:
            raise ValueError("give `num_layers`, or a pretrained student as `model`")
        return self


def make_student(teacher: Encoder, config: StudentConfig, init: Init, seed: int) -> Encoder:
    """Make one student, on the CPU, in float32 and evaluation mode.

    Args:
        teacher: gives family, vocabulary, classes and the sizes that are not set; stays as it is.
        config: the sizes wanted.
        init: one of `config.inits`.
        seed: of the random weights; the process's random state is left alone.

    Raises:
        InputError: the sizes do not fit each other, or not the layers to be copied.
    """
    if init == "pretrained":
        assert config.model is not None
        return load_encoder(
            config.model,
            num_labels=teacher.num_labels,
            label_names=teacher.label_names,
            seed=seed,
        )
    assert config.num_layers is not None
    shape = _shape(teacher, config)
    layers = [] if init == "random" else choose_layers(init, config.num_layers, teacher.num_layers)
    if layers:
        _check_copied_sizes(teacher.model.config, shape, init)
    student = _random_student(teacher, {**shape, **_dropouts(teacher, config)}, layers, seed)
    if layers:
        _copy_weights(teacher, student, layers)
    return student.eval()


def choose_layers(
    init: Literal["skip", "top", "bottom"], num_student_layers: int, num_teacher_layers: int
) -> list[int]:
    """The teacher's layers, counted from 1, that become the student's.

    `skip` takes layers n/m, 2n/m, ..., n (rounded up), so that the last one is always among them.

    Raises:
        InputError: the student has more layers than the teacher.
    """
    if num_student_layers > num_teacher_layers:
        raise InputError(
            f"student.num_layers {num_student_layers}: init {init!r} copies layers of the teacher, "
            f"which has {num_teacher_layers}; take at most as many, or init 'random'"
        )
    if init == "bottom":
        return list(range(1, num_student_layers + 1))
    if init == "top":
        return list(range(num_teacher_layers - num_student_layers + 1, num_teacher_layers + 1))
    return [
        -(-position * num_teacher_layers // num_student_layers)
        for position in range(1, num_student_layers + 1)
    ]


def check_tokenizers(
    teacher_tokenizer: PreTrainedTokenizerBase,
    student_tokenizer: PreTrainedTokenizerBase,
    *,
    role: str = "student",
    setting: str = "student.model",
) -> None:
    """Refuse a pair of models that would read the same text as different token ids.

    Args:
        teacher_tokenizer: of the teacher.
        student_tokenizer: of the student, or of another model beside the teacher.
        role: what the second one is.
        setting: names the second one.

    Raises:
        InputError: vocabulary, special tokens or the tokens of a probe sentence differ.
    """
    teacher_vocabulary = teacher_tokenizer.get_vocab()
    student_vocabulary = student_tokenizer.get_vocab()
    if teacher_vocabulary != student_vocabulary:
        shared = teacher_vocabulary.items() & student_vocabulary.items()
        difference = (
            f"of {len(teacher_vocabulary)} and {len(student_vocabulary)} tokens "
            f"{len(shared)} have the same id in both"
        )
    elif teacher_tokenizer.special_tokens_map != student_tokenizer.special_tokens_map:
        difference = (
            f"special tokens {teacher_tokenizer.special_tokens_map} "
            f"and {student_tokenizer.special_tokens_map}"
        )
    elif teacher_tokenizer(_PROBE)["input_ids"] != student_tokenizer(_PROBE)["input_ids"]:
        difference = "the same vocabulary, but other rules (case, accents or special tokens)"
    else:
        return
    raise InputError(
        f"teacher {teacher_tokenizer.name_or_path} and {role} {student_tokenizer.name_or_path} "
        f"have different tokenizers: {difference}; choose a {role} with the teacher's tokenizer, "
        f"or leave out {setting} to make one from the teacher"
    )


def _shape(teacher: Encoder, config: StudentConfig) -> dict[str, int]:
    """The student's sizes under the names that BERT's configuration gives them."""
    teacher_config = teacher.model.config
    head_width = teacher.hidden_size // teacher.num_heads
    width = config.hidden_size or teacher.hidden_size
    num_heads = config.num_heads or max(1, width // head_width)
    if width % num_heads:
        raise InputError(
            f"student.hidden_size {width} is not divisible by {num_heads} heads; "
            "set student.num_heads to a number that divides it"
        )
    teacher_intermediate = getattr(teacher_config, _intermediate_name(teacher_config))
    return {
        "num_hidden_layers": config.num_layers or teacher.num_layers,
        "hidden_size": width,
        "num_attention_heads": num_heads,
        _intermediate_name(teacher_config): config.intermediate_size
        or round(teacher_intermediate * width / teacher.hidden_size),
    }


def _intermediate_name(config: PreTrainedConfig) -> str:
    """DistilBERT is the one family whose alias for this is missing."""
    return "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size"


def _dropouts(teacher: Encoder, config: StudentConfig) -> dict[str, float]:
    """Every dropout of the teacher's family, as set; none where nothing is set."""
    if config.dropout is None:
        return {}
    names = teacher.model.config.to_dict()
    # Some families have one that is None and stands for another.
    return {name: config.dropout for name in names if "dropout" in name}


def _check_copied_sizes(teacher_config: PreTrainedConfig, shape: dict[str, int], init: str) -> None:
    for name, size in shape.items():
        teacher_size = getattr(teacher_config, name)
        if name != "num_hidden_layers" and size != teacher_size:
            raise InputError(
                f"student {name} {size}: init {init!r} copies layers of the teacher, whose {name} "
                f"is {teacher_size}; leave the size out, or use init 'random'"
            )


def _random_student(
    teacher: Encoder, changes: Mapping[str, float], layers: list[int], seed: int
) -> Encoder:
    config = copy.deepcopy(teacher.model.config)
    for name, value in changes.items():
        setattr(config, name, value)
    _set_layer_types(config, layers)
    if hasattr(config, "pooler_hidden_size"):  # DeBERTa
        config.pooler_hidden_size = config.hidden_size
    make_model: Callable[..., PreTrainedModel] = AutoModelForSequenceClassification.from_config
    generator_state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        return Encoder(make_model(config, dtype=torch.float32))
    finally:
        torch.set_rng_state(generator_state)


def _set_layer_types(config: PreTrainedConfig, layers: list[int]) -> None:
    """ModernBERT lists which layers attend locally: copied layers keep their kind."""
    types = getattr(config, "layer_types", None)
    if types is not None:
        layers = layers or list(range(1, config.num_hidden_layers + 1))
        config.layer_types = [types[(layer - 1) % len(types)] for layer in layers]


def _copy_weights(teacher: Encoder, student: Encoder, layers: list[int]) -> None:
    student_blocks = list(student.blocks())
    in_blocks = {
        id(tensor)
        for block in student_blocks
        for tensor in block.state_dict(keep_vars=True).values()
    }
    teacher_state = teacher.state_dict()
    outside = {
        name: teacher_state[name]
        for name, tensor in student.state_dict(keep_vars=True).items()
        if id(tensor) not in in_blocks
    }
    unused = student.load_state_dict(outside, strict=False).unexpected_keys
    assert not unused, unused
    for block, layer in zip(student_blocks, layers, strict=True):
        # ModernBERT's first layer alone has no norm before its attention: the copy drops it.
        result = block.load_state_dict(teacher.blocks()[layer - 1].state_dict(), strict=False)
        assert not result.missing_keys, result.missing_keys
