"""Variants: the students of a run, which differ by the injections they get before adaptation.

A variant is written as its injection steps in order, joined by "+", as in
`general+contextualized+task_da`. A step is a text, a teacher and settings: either a predefined step
with the name of its text (`random@news` is made from the corpus `news` of the recipe's `corpora`),
or a step of the recipe's section `injections`. Variants that begin with the same steps share the
student of these.

`direct` has no step and is distilled on the task's labeled rows only; `alone` has no step either
and is trained without a teacher; `tfidf`, `embeddings` and `static` are linear models on TF-IDF
features, on embeddings of the pretrained encoder, and on static ones (Model2Vec).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from raykd.evaluation.baselines import BASELINES
from raykd.training.phase.injection_config import (
    BASELINE_TEXTS,
    CORPUS_TEXTS,
    TEXT_KINDS,
    StepConfig,
    TextKind,
)

# A name becomes a part of folders' names.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"
VARIANTS_WITHOUT_STEPS = (*BASELINES, "alone", "direct")
# An older name: it keeps the folders of its students.
_CONTEXTUALIZED_TASK_DA = "contextualized_task_da"
_ALIASES = {_CONTEXTUALIZED_TASK_DA: "contextualized+task_da"}
PREDEFINED_VARIANTS = (*VARIANTS_WITHOUT_STEPS, *TEXT_KINDS, _CONTEXTUALIZED_TASK_DA)
# Names that mean something else: the task's labeled rows among texts, or variants.
_RESERVED = (*PREDEFINED_VARIANTS, "train", "teacher", "majority")
# Settings of steps on augmented rows after another step.
_AFTER_INJECTION = "task_da_injection"
_MAX_STEPS = 5
_MAX_VARIANT_LENGTH = 100


class Text(NamedTuple):
    """A text that students are injected on.

    Attributes:
        kind: what it is made from and how.
        corpus: which of the recipe's `corpora`; None for its section `corpus`, or for none.
        num_units: units of a random or DSIR text; None for the size of the contextualized one.
    """

    kind: TextKind
    corpus: str | None = None
    num_units: int | None = None

    @property
    def name(self) -> str:
        """`random`, `random-1000`, `contextualized@news`; the name of its folder."""
        name = self.kind if self.num_units is None else f"{self.kind}-{self.num_units}"
        return name if self.corpus is None else f"{name}@{self.corpus}"

    @property
    def is_made_from_corpus(self) -> bool:
        """Return whether the text consists of units of a general corpus."""
        return self.kind in CORPUS_TEXTS

    @property
    def follows_contextualized(self) -> bool:
        """Return whether the text has the size of the contextualized corpus."""
        return self.kind in BASELINE_TEXTS and self.num_units is None


class Step(NamedTuple):
    """One injection: a text, and the path of its settings in the recipe."""

    name: str
    text: Text
    section: str

    @property
    def outputs_name(self) -> str:
        """Folder of the teacher's outputs on the text, one for each section of settings."""
        return f"+{self.name}" if self.section == _AFTER_INJECTION else self.name


@dataclass(frozen=True)
class Chain:
    """Injections one after the other, at least one; they make one student."""

    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """The variant that has these steps."""
        name = "+".join(step.name for step in self.steps)
        return next((alias for alias, variant in _ALIASES.items() if variant == name), name)

    @property
    def last(self) -> Step:
        """The step that ends it."""
        return self.steps[-1]

    @property
    def before(self) -> Self | None:
        """All steps but the last, None where there is one."""
        return type(self)(self.steps[:-1]) if len(self.steps) > 1 else None

    def prefixes(self) -> tuple[Self, ...]:
        """The chains of its first step, of the first two, up to itself."""
        return tuple(type(self)(self.steps[: n + 1]) for n in range(len(self.steps)))


def check_step_names(names: Mapping[str, object]) -> None:
    """Refuse names of steps that conflict with predefined ones.

    Raises:
        ValueError: names the step.
    """
    for name in names:
        if name in _RESERVED:
            raise ValueError(
                f"injections.{name}: the name has a meaning of its own in raykd; choose another"
            )


def parse_variant(
    variant: str, steps: Mapping[str, StepConfig], corpora: tuple[str, ...], *, has_task_da: bool
) -> Chain | None:
    """The injections of a variant, None where it has none.

    Args:
        variant: as the recipe names it.
        steps: the recipe's section `injections`.
        corpora: names of the recipe's `corpora`; none where it has the section `corpus`.
        has_task_da: whether steps on augmented rows that come after another step have the section
            `task_da_injection`; a first step has the section `injection`.

    Raises:
        ValueError: names the variant, the step that is not known, and what is.
    """
    if variant in VARIANTS_WITHOUT_STEPS:
        return None
    names = _ALIASES.get(variant, variant).split("+")
    if len(names) > _MAX_STEPS or len(variant) > _MAX_VARIANT_LENGTH:
        raise ValueError(
            f"variants: {variant!r:.120} has {len(names)} steps and {len(variant)} characters; at "
            f"most {_MAX_STEPS} and {_MAX_VARIANT_LENGTH} are allowed"
        )
    return Chain(
        tuple(
            _step(variant, name, steps, corpora, has_task_da=has_task_da and at > 0)
            for at, name in enumerate(names)
        )
    )


def _step(
    variant: str,
    name: str,
    steps: Mapping[str, StepConfig],
    corpora: tuple[str, ...],
    *,
    has_task_da: bool,
) -> Step:
    if name in steps:
        config = steps[name]
        text = Text(config.text, config.corpus, config.num_units)
        _check_corpus(f"injections.{name}: text {text.kind!r}", text, corpora, "set corpus: NAME")
        return Step(name, text, f"injections.{name}")
    kind, at, corpus = name.partition("@")
    for known in TEXT_KINDS:
        if kind == known:
            text = Text(known, corpus if at else None)
            _check_corpus(
                f"variants: {variant!r}: step {name!r}", text, corpora, f"write {kind}@NAME"
            )
            is_task_da = known == "task_da" and has_task_da
            return Step(name, text, _AFTER_INJECTION if is_task_da else "injection")
    known_steps = ", ".join([*TEXT_KINDS, *steps])
    raise ValueError(
        f"variants: {variant!r:.120}: there is no step {name!r:.60}; a variant is one of "
        f"{', '.join(PREDEFINED_VARIANTS)}, or steps joined by '+': {known_steps}"
    )


def _check_corpus(whose: str, text: Text, corpora: tuple[str, ...], remedy: str) -> None:
    if text.corpus is None:
        if text.is_made_from_corpus and corpora:
            raise ValueError(
                f"{whose} is made from one of the corpora {', '.join(corpora)}; {remedy}"
            )
        return
    if not text.is_made_from_corpus:
        raise ValueError(f"{whose} is not made from a corpus; remove @{text.corpus}")
    if text.corpus not in corpora:
        known = ", ".join(corpora) or "none; name corpora in the section corpora"
        raise ValueError(f"{whose}: there is no corpus {text.corpus!r:.60} (known: {known})")
