"""A whole run as one typed object; `recipe_file` reads it from YAML."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from raykd.config import Config
from raykd.contextualize.config import ContextualizeConfig
from raykd.corpus.config import CorpusConfig
from raykd.demo.docstrings import DocstringsConfig
from raykd.evaluation.baselines import BASELINES, Baseline
from raykd.evaluation.config import EvaluationConfig
from raykd.models.student.init import StudentConfig
from raykd.objectives import OBJECTIVES
from raykd.retrieval.config import RetrievalConfig
from raykd.tasks.config import SPLITS, TaskConfig
from raykd.training.distributed.config import WorkersConfig
from raykd.training.logging.trackers import TrackerName
from raykd.training.phase.config import AdaptationConfig, TeacherConfig
from raykd.training.phase.injection_config import InjectionConfig, StepConfig
from raykd.training.settings import TrainingConfig
from raykd.workflow.presets import merged
from raykd.workflow.recipe.changed_values import set_values
from raykd.workflow.recipe.injection_rules import (
    check_left_as_it_is,
    check_steps,
    check_task_da,
    check_task_da_injection,
)
from raykd.workflow.recipe.label_rules import check_labels, labeled_phases
from raykd.workflow.recipe.model_rules import (
    check_baselines,
    check_pretrained_teachers,
    check_student_source,
)
from raykd.workflow.recipe.paper_space import with_paper_space
from raykd.workflow.recipe.prices import PricesConfig
from raykd.workflow.recipe.scores_rules import check_scores
from raykd.workflow.recipe.tune_config import TuneConfig
from raykd.workflow.recipe.variants import (
    NAME_PATTERN,
    Chain,
    Step,
    Text,
    check_step_names,
    parse_variant,
)

DOCSTRINGS_SCHEME = "docstrings:"
RUN_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Recipe(Config):
    """One run. Paths in it are relative to the file it was read from."""

    name: str = Field(
        pattern=RUN_NAME_PATTERN,
        description="Name of the run; its directory is runs/NAME unless --out is given. Letters, "
        "digits, '.', '_' and '-'.",
    )
    preset: str | None = Field(
        None,
        description="Settings of a method in its paper, for keys that are not given: the name of "
        "a preset, such as rail_kd or contextualized.",
    )
    seeds: tuple[Seed, ...] = Field(
        (1,),
        min_length=1,
        max_length=1000,
        description="Seeds, each of which makes a student per variant; scores are reported as mean "
        "and standard deviation over them.",
    )
    variants: tuple[str, ...] = Field(
        ("alone", "random", "contextualized"),
        min_length=1,
        max_length=100,
        description="Students to make, each as its injection steps joined by '+': alone (no "
        "injection), direct (trained by the objective of adaptation only), task, random, dsir, "
        "contextualized, task_da, contextualized_task_da, names of `injections`; or "
        "baselines without distillation: tfidf and embeddings (of the pretrained encoder) with a "
        "linear model, static (Model2Vec) and setfit (few labels; both: extra `baselines`), "
        "int8_teacher (extra `onnx`).",
    )
    docstrings: DocstringsConfig | None = Field(
        None,
        description="Corpus and task made from the documentation of installed packages, for demos "
        "without downloads.",
    )
    task: TaskConfig = Field(
        description="The labeled task: its files, columns, labels and metrics."
    )
    corpus: CorpusConfig | None = Field(
        None,
        description="The general corpus from which texts are retrieved, and how it is cut into "
        "units.",
    )
    corpora: dict[Annotated[str, Field(pattern=NAME_PATTERN)], CorpusConfig] = Field(
        {},
        description="Several general corpora by name, instead of `corpus`; the steps random@NAME, "
        "dsir@NAME and contextualized@NAME are made from one of them.",
    )
    retrieval: RetrievalConfig | None = Field(
        None, description="How units of the corpus are ranked for each sentence of the task."
    )
    contextualize: ContextualizeConfig = Field(
        ContextualizeConfig(),
        description="Which of the retrieved units make the contextualized corpus.",
    )
    task_da: str | None = Field(
        None, description="Directory that `raykd augment` wrote, for variants with a step task_da."
    )
    teacher: TeacherConfig = Field(
        description="The large model: fine-tuned here, given as fine-tuned, or known by its scores."
    )
    student: StudentConfig = Field(
        description="The small model: its shape, its first weights, or a pretrained model."
    )
    injection: InjectionConfig | None = Field(
        None,
        description="Distillation on unlabeled text, before the student is adapted to the task.",
    )
    task_da_injection: InjectionConfig | None = Field(
        None,
        description="Settings that replace `injection` for steps on augmented rows that come "
        "after another step, as in the variant contextualized_task_da.",
    )
    injections: dict[Annotated[str, Field(pattern=NAME_PATTERN)], StepConfig] = Field(
        {},
        description="Injection steps by name, for variants; keys that are not given are those of "
        "`injection`.",
    )
    adaptation: AdaptationConfig = Field(
        description="Training of the students on the labeled task."
    )
    alone: TrainingConfig | None = Field(
        None,
        description="Training of the student of the variant alone, on gold labels without a "
        "teacher. Default: the settings of adaptation.",
    )
    evaluation: EvaluationConfig = Field(
        EvaluationConfig(), description="Rows to score models on, besides those of the task."
    )
    workers: WorkersConfig = Field(
        WorkersConfig(), description="Processes, CPUs and GPUs of trainings."
    )
    report_to: tuple[TrackerName, ...] = Field(
        (),
        description="Trackers that receive the measures of every training; they do not change "
        "results.",
    )
    prices: PricesConfig | None = Field(
        None, description="Prices of CPU and GPU hours, for the costs that raykd status shows."
    )
    tune: TuneConfig | None = Field(None, description="Hyper-parameter search of `raykd tune`.")

    @model_validator(mode="before")
    @classmethod
    def _steps_follow_injection(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = with_paper_space(values)
        common, steps = values.get("injection"), values.get("injections")
        if not isinstance(common, Mapping) or not isinstance(steps, Mapping):
            return values
        whole = {
            name: merged(common, own) if isinstance(own, Mapping) else own
            for name, own in steps.items()
        }
        return {**values, "injections": whole}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for key in ("seeds", "variants", "report_to"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key} {list(values)}: a value appears twice")
        if set(self.variants) <= set(BASELINES):
            raise ValueError(
                f"variants {list(self.variants)}: name a variant that is a student as well"
            )
        if self.corpus is not None and self.corpora:
            raise ValueError("corpus and corpora: give one of them; one corpus can have a name too")
        if self.tune is not None and self.tune.variant is not None:
            known = [variant for variant in self.variants if variant not in BASELINES]
            if self.tune.variant not in known:
                raise ValueError(
                    f"tune.variant {self.tune.variant!r}: the recipe makes no such student; choose "
                    f"{' or '.join(known)}"
                )
        check_step_names(self.injections)
        self._check_variants()
        self.evaluation.check(self.task)
        references = [path for split in SPLITS for path in self.task.files_of(split)]
        references += [path for corpus in self.all_corpora.values() for path in corpus.paths]
        references += self.evaluation.paths
        uses = [path for path in references if path.startswith(DOCSTRINGS_SCHEME)]
        if uses and self.docstrings is None:
            raise ValueError(f"{uses[0]!r} needs the section docstrings")
        for key, phase in {**self.injection_sections(), "adaptation": self.adaptation}.items():
            head = phase.objective.head_training
            if head and head.text == "corpus" and self.corpus is None:
                raise ValueError(
                    f"{key}.objective.generator.train_head.text 'corpus' needs the section corpus; "
                    "add it, or set text: task"
                )
        return self

    def _check_variants(self) -> None:
        seen: dict[Chain, str] = {}
        for variant in self.variants:
            chain = self.chain_of(variant)
            if chain is None:
                continue
            if (other := seen.get(chain)) is not None:
                raise ValueError(f"variants: {other!r} and {variant!r} are the same; remove one")
            seen[chain] = variant
        needing = [
            variant
            for variant in self.variants
            if any(t.is_made_from_corpus for t in self._texts_of(variant))
        ]
        if needing and not self.all_corpora:
            raise ValueError(f"variants {needing} need the sections corpus and retrieval")
        searching = [
            variant
            for variant in needing
            if any(t.is_made_from_corpus and t.num_units is None for t in self._texts_of(variant))
        ]
        if searching and self.retrieval is None:
            raise ValueError(f"variants {searching} need the sections corpus and retrieval")

    @model_validator(mode="after")
    def _models_exist(self) -> Self:
        teacher, student, injections = self.teacher, self.student, self.injection_sections()
        check_scores(teacher, student, self.task, injections, self.adaptation, self.steps)
        check_student_source(teacher, student)
        check_pretrained_teachers(injections, teacher)
        check_baselines(self.baselines, self.teacher, self.student, self.task)
        labeled = labeled_phases(teacher, self.adaptation, self.alone)
        check_labels(self.task, labeled, injections, self.task_da)
        return self

    @property
    def copies_teacher(self) -> bool:
        """Return whether copying inits copy layers of the fine-tuned teacher."""
        if self.student.init_from is not None:
            return self.student.init_from == "teacher"
        return self.teacher.fine_tuned and self.student.model is None

    @model_validator(mode="after")
    def _augmented_rows_exist(self) -> Self:
        if self.adaptation.rows == "task_da" and self.task_da is None:
            raise ValueError(
                "adaptation.rows 'task_da': there are no augmented rows; give the key task_da, the "
                "directory that raykd augment wrote, and a variant with the step task_da"
            )
        if self.task_da is not None and self.task.cuts_dev:
            key = "folds" if self.task.dev_fraction is None else "dev_fraction"
            raise ValueError(
                f"task_da: its text has variants of the dev rows that task.{key} cuts from "
                "train; give dev rows in a file (task.dev), and augment only the others"
            )
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        sections = self.injection_sections()
        check_task_da(self.task_da, self.steps)
        check_steps(self.steps, sections)
        if self.task_da_injection is not None:
            check_task_da_injection(self.task_da, self.steps, sections)
        for chain in filter(None, map(self.chain_of, self.variants)):
            if not self.injection_of(chain.last).adapt:
                check_left_as_it_is(chain, sections)
        if not OBJECTIVES[self.adaptation.objective.name].trains_classifier:
            raise ValueError(
                f"adaptation.objective {self.adaptation.objective.name!r} trains no classifier; "
                "make it the objective of the section injection, and adapt with another"
            )
        return self

    def chain_of(self, variant: str) -> Chain | None:
        """The injections of a variant, None where it has none."""
        return parse_variant(
            variant,
            self.injections,
            tuple(self.corpora),
            has_task_da=self.task_da_injection is not None,
        )

    def _texts_of(self, variant: str) -> tuple[Text, ...]:
        chain = self.chain_of(variant)
        return () if chain is None else tuple(step.text for step in chain.steps)

    @property
    def baselines(self) -> list[Baseline]:
        """The variants that are linear models, in the order of the report."""
        return [name for name in BASELINES if name in self.variants]

    @property
    def injected_variants(self) -> tuple[str, ...]:
        """The variants that have an injection."""
        return tuple(variant for variant in self.variants if self.chain_of(variant) is not None)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Injected students, also those that others begin from, the shortest chains first."""
        found = [
            chain for variant in self.variants if (chain := self.chain_of(variant)) is not None
        ]
        prefixes = dict.fromkeys(prefix for chain in found for prefix in chain.prefixes())
        return tuple(sorted(prefixes, key=lambda chain: len(chain.steps)))

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all variants, each once."""
        return tuple(dict.fromkeys(chain.last for chain in self.chains))

    @property
    def all_corpora(self) -> dict[str | None, CorpusConfig]:
        """The general corpora by name; the one of the section `corpus` has None."""
        corpora: dict[str | None, CorpusConfig] = {}
        if self.corpus is not None:
            corpora[None] = self.corpus
        corpora.update(self.corpora.items())
        return corpora

    @property
    def corpus_texts(self) -> tuple[Text, ...]:
        """The texts made from general corpora, each after the one that decides its size."""
        texts: list[Text] = []
        for text in (step.text for step in self.steps):
            if text.follows_contextualized:
                texts.append(Text("contextualized", text.corpus))
            if text.is_made_from_corpus:
                texts.append(text)
        return tuple(dict.fromkeys(texts))

    def adaptation_text(self, variant: str) -> str:
        """Return the name of the labeled rows for adaptation: `train` or `augmented`."""
        texts = self._texts_of(variant) if self.adaptation.rows == "task_da" else ()
        return "augmented" if any(text.kind == "task_da" for text in texts) else "train"

    def adapts(self, variant: str) -> bool:
        """Return whether a student is adapted to the task, not left as its injection makes it."""
        chain = self.chain_of(variant)
        return chain is None or self.injection_of(chain.last).adapt

    def injection_sections(self) -> dict[str, InjectionConfig]:
        """The settings of injections that are given, by their paths."""
        sections: dict[str, InjectionConfig | None] = {
            "injection": self.injection,
            "task_da_injection": self.task_da_injection,
            **{f"injections.{name}": step for name, step in self.injections.items()},
        }
        return {name: phase for name, phase in sections.items() if phase is not None}

    def injection_of(self, step: Step) -> InjectionConfig:
        """The settings of a step."""
        return self.injection_sections()[step.section]

    def teacher_model_of(self, phase: InjectionConfig) -> str | None:
        """The pretrained model that an injection learns from, None for the fine-tuned teacher."""
        if phase.teacher == "fine_tuned":
            return None
        return phase.teacher_model or self.teacher.model

    def steps_on_outputs(self) -> tuple[Step, ...]:
        """The steps that read the teacher's outputs, computed once for the text."""
        return tuple(step for step in self.steps if self.injection_of(step).reads_outputs)

    def with_values(self, values: Mapping[str, Any], source: str) -> Self:
        """A copy with some keys, given by their paths, set to other values.

        Raises:
            InputError: there is no such key, or it does not take the value.
        """
        tree = self.model_dump(mode="json", by_alias=True)
        set_values(tree, values, source)
        return self.parse(tree, source)
