"""Creation of students: random weights, layers copied from another model, or a pretrained model."""

import copy
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

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
from raykd.models.encoder import Encoder
from raykd.models.student.layer_copy import (
    check_increasing,
    check_layers,
    choose_layers,
    copy_weights,
    set_layer_types,
    shares_layers,
)
from raykd.models.student.shape import cannot_be_shaped, set_sizes, shape_of_student

Init = Literal["random", "skip", "top", "bottom", "layers", "pretrained"]
InitFrom = Literal["pretrained", "teacher"]

# Text on which tokenizers with equal vocabulary may differ: case, accents, white space, digits.
_PROBE = "The  Façade cost 1,250.50\tEUR; “naïve” ÉTÉ, 北京 don't!"
_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")
_COPYING = ("skip", "top", "bottom", "layers")

_OTHERWISE = (
    "; with a tokenizer of its own a student can learn by vanilla_kd, annealing_kd, fine_tune, and "
    "ad2 without deep KD, where nothing but logits is compared"
)


class StudentConfig(Config):
    """Settings of the student: layers copied from a model, random weights, or a pretrained model.

    The source is `model`, by default the teacher's model. Inits that copy layers require the
    source's sizes, and copy embeddings and pooler as well.
    """

    num_layers: int | None = Field(
        None, ge=1, le=1000, description="Layers of the student; not needed with `layers`."
    )
    hidden_size: int | None = Field(
        None, ge=1, le=2**16, description="Width of the hidden states. Default: the source's."
    )
    num_heads: int | None = Field(
        None,
        ge=1,
        le=2**10,
        description="Attention heads per layer. Default: of the source's head width.",
    )
    intermediate_size: int | None = Field(
        None,
        ge=1,
        le=2**18,
        description="Width of the feed-forward part. Default: in the source's ratio to "
        "hidden_size.",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout probability of every place that has one; by default the source's. A "
        "small student on a teacher's soft answers needs none.",
    )
    inits: tuple[Init, ...] = Field(
        ("random",),
        description="First weights; each init makes a student of its own. random: random weights; "
        "skip: evenly spaced layers of the source from its first on (of 12 for 6 layers 1, 3, 5, "
        "7, 9, 11); top: its last layers; bottom: its first layers; layers: those of `layers`, and "
        "the default with this key; pretrained: `model` as a whole, and the default with `model`.",
    )
    layers: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        min_length=1,
        description="Layers of the source for init `layers`, counted from 1, first to last.",
    )
    init_from: InitFrom | None = Field(
        None,
        description="What inits copy layers of. pretrained: `model`, or the teacher's model before "
        "it is fine-tuned; the classifier is random. teacher: the fine-tuned teacher, its "
        "classifier too, but never for the variant `alone`, whose classifier is random. Default: "
        "pretrained, or teacher where a fine-tuned teacher is given and no `model`.",
    )
    model: str | None = Field(
        None,
        description="Pretrained model as student or as source of its layers: folder, "
        "package:NAME/FOLDER or hub name.",
    )

    @property
    def depth(self) -> int | None:
        """Number of layers; None for that of the source."""
        return len(self.layers) if self.layers else self.num_layers

    def copies_layers(self, init: Init) -> bool:
        """True if an init copies selected layers of the source."""
        return init in _COPYING

    @property
    def copying_inits(self) -> tuple[Init, ...]:
        """Inits that copy selected layers of the source."""
        return tuple(init for init in self.inits if self.copies_layers(init))

    @model_validator(mode="before")
    @classmethod
    def _default_init(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "inits" in values:
            return values
        if values.get("layers") is not None:
            return {**values, "inits": ("layers",)}
        return {**values, "inits": ("pretrained",)} if values.get("model") else values

    @model_validator(mode="after")
    def _shape_or_model(self) -> Self:
        if not self.inits or len(set(self.inits)) < len(self.inits):
            raise ValueError("`inits` needs at least one way, and each only once")
        given = [name for name in (*_SIZES, "dropout") if getattr(self, name) is not None]
        if "pretrained" in self.inits:
            if self.model is None:
                raise ValueError("init 'pretrained' needs `model`: a folder, package:… or hub name")
            if given or self.layers:
                raise ValueError(
                    "init 'pretrained' takes the whole of `model`, with its own sizes and dropout; "
                    f"remove {', '.join(sorted([*given, *(['layers'] if self.layers else [])]))}, "
                    "or `model`, or choose layers of it by inits: [skip], [top] or [bottom]"
                )
        elif self.depth is None and self.model is None:
            raise ValueError("give `num_layers`, or a pretrained student as `model`")
        elif self.depth is None and self.copying_inits:
            raise ValueError(
                f"inits {list(self.inits)} take layers of `model`: give `num_layers`, or take the "
                "whole of it by inits: [pretrained]"
            )
        return self

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        if self.layers is not None:
            if "layers" not in self.inits:
                raise ValueError(
                    f"`layers` is read by init 'layers' alone, and inits are {list(self.inits)}; "
                    "remove `layers`, or add 'layers' to inits"
                )
            check_increasing(self.layers)
            if self.num_layers not in (None, len(self.layers)):
                raise ValueError(
                    f"layers {list(self.layers)}: {len(self.layers)} are listed, num_layers is "
                    f"{self.num_layers}; make them agree, or remove num_layers"
                )
        elif "layers" in self.inits:
            raise ValueError("init 'layers' needs the key `layers`, such as layers: [1, 4, 7]")
        if self.init_from == "teacher":
            if self.model is not None:
                raise ValueError(
                    "init_from 'teacher' copies layers of the teacher, and `model` names another "
                    "source; remove one of the two"
                )
            if not self.copying_inits:
                raise ValueError(
                    f"init_from 'teacher' has no effect on inits {list(self.inits)}, which copy no "
                    "layers; remove it, or choose inits: [skip], [top] or [bottom]"
                )
        return self


def make_student(
    source: Encoder, config: StudentConfig, init: Init, seed: int, *, with_classifier: bool = False
) -> Encoder:
    """Create a student on the CPU, in float32 and evaluation mode.

    Args:
        source: model with the student's family, vocabulary and classes, default sizes and weights
            to copy; unchanged. It may be a meta model with init "random"; with init "pretrained" it
            is the student itself.
        config: sizes of the student.
        init: one of `config.inits`.
        seed: seed of random weights; the process's random state is kept.
        with_classifier: whether to copy the source's classifier along with its layers.

    Raises:
        InputError: the sizes are inconsistent, or differ from those of the layers to copy.
    """
    if init == "pretrained":
        return source.eval()
    shape = _shape(source, config)
    layers = layers_of(source, config, init)
    if layers:
        _check_copied_sizes(source.model.config, shape, init)
    student = _random_student(source, {**shape, **_dropouts(source, config)}, layers, seed)
    if layers:
        copy_weights(source, student, layers, with_classifier=with_classifier)
    return student.eval()


def layers_of(source: Encoder, config: StudentConfig, init: Init) -> list[int]:
    """Layers of the source, from 1, that an init copies; empty for other inits.

    Raises:
        InputError: the source has too few layers, or they cannot be copied one by one.
    """
    if not config.copies_layers(init):
        return []
    shares_layers(source.model.config)  # raises where groups of layers share weights
    assert config.depth is not None
    match init:
        case "skip" | "top" | "bottom":
            return choose_layers(init, config.depth, source.num_layers)
        case _:
            assert config.layers is not None
            check_layers(config.layers, source.num_layers)
            return list(config.layers)


def check_tokenizers(
    teacher_tokenizer: PreTrainedTokenizerBase,
    student_tokenizer: PreTrainedTokenizerBase,
    *,
    role: str = "student",
    setting: str = "student.model",
) -> None:
    """Refuse models whose tokenizers give different token ids for the same text.

    Args:
        teacher_tokenizer: tokenizer of the teacher.
        student_tokenizer: tokenizer of the student, or of another model.
        role: role of the other model.
        setting: key that names the other model.

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
    otherwise = _OTHERWISE if role == "student" else ""
    raise InputError(
        f"teacher {teacher_tokenizer.name_or_path} and {role} {student_tokenizer.name_or_path} "
        f"have different tokenizers: {difference}; choose a {role} with the teacher's tokenizer, "
        f"or remove {setting} to make one from the teacher{otherwise}"
    )


def same_tokens(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
    """True if two tokenizers give the same token ids for a text."""
    try:
        check_tokenizers(first, second)
    except InputError:
        return False
    return True


def _shape(source: Encoder, config: StudentConfig) -> dict[str, int]:
    """Sizes of the student by the names in its family's configuration."""
    head_width = source.hidden_size // source.num_heads
    width = config.hidden_size or source.hidden_size
    num_heads = config.num_heads or max(1, width // head_width)
    if width % num_heads:
        raise InputError(
            f"student.hidden_size {width} is not divisible by {num_heads} heads; "
            "set student.num_heads to a number that divides it"
        )
    return shape_of_student(
        source.model.config,
        num_layers=config.depth or source.num_layers,
        hidden_size=width,
        num_heads=num_heads,
        intermediate_size=config.intermediate_size,
    )


def _dropouts(source: Encoder, config: StudentConfig) -> dict[str, float]:
    """All dropout settings of the source's family, with the configured value; empty without one."""
    if config.dropout is None:
        return {}
    names = source.model.config.to_dict()
    # Some families have a dropout setting of None, which falls back to another one.
    return {name: config.dropout for name in names if "dropout" in name}


def _check_copied_sizes(source_config: PreTrainedConfig, shape: dict[str, int], init: str) -> None:
    for name, size in shape.items():
        source_size = getattr(source_config, name)
        if name not in ("num_hidden_layers", "decoder_layers") and size != source_size:
            raise InputError(
                f"student {name} {size}: init {init!r} copies layers of a model whose {name} is "
                f"{source_size}; remove the size, or use init 'random'"
            )


def _random_student(
    source: Encoder, changes: Mapping[str, float], layers: list[int], seed: int
) -> Encoder:
    config = copy.deepcopy(source.model.config)
    set_sizes(config, changes)
    set_layer_types(config, layers)
    make_model: Callable[..., PreTrainedModel] = AutoModelForSequenceClassification.from_config
    generator_state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        student = Encoder(make_model(config, dtype=torch.float32))
    # Families raise different exceptions for invalid configurations.
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise cannot_be_shaped(config, " ".join(str(e).split())) from None
    finally:
        torch.set_rng_state(generator_state)
    expected = int(config.num_hidden_layers), int(config.hidden_size)
    assert (student.num_layers, student.hidden_size) == expected, (config, expected)
    return student
