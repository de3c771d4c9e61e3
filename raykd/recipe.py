"""A whole run as one typed object; `recipe_file` reads it from YAML."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from raykd.arms import CORPUS_ARMS, INJECTED_ARMS, TASK_DA_ARMS, Arm, injections_of, text_of
from raykd.config import Config
from raykd.contextualize import ContextualizeConfig
from raykd.corpus.docstrings import DocstringsConfig
from raykd.corpus.pipeline import CorpusConfig
from raykd.errors import InputError
from raykd.evaluation.tasks import TaskConfig
from raykd.models.student_init import StudentConfig
from raykd.objectives import OBJECTIVES
from raykd.retrieval.search import RetrievalConfig
from raykd.search_space import SearchConfig
from raykd.training.phases import PhaseConfig, TeacherConfig
from raykd.training.settings import TrainingConfig
from raykd.training.trackers import TrackerName
from raykd.training.workers import WorkersConfig

DOCSTRINGS_SCHEME = "docstrings:"

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Recipe(Config):
    """One run. Paths in it are relative to the file it was read from.

    `preset` names a method's settings in its paper (see `presets`), for keys that are not given;
    `task_da` is the directory that `raykd augment` wrote, for the arms of that name;
    `task_da_injection` holds for injections on it in place of `injection`. `report_to` names
    trackers that are told of every training; it decides no result.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    preset: str | None = None
    seeds: tuple[Seed, ...] = Field((1,), min_length=1, max_length=1000)
    arms: tuple[Arm, ...] = Field(("alone", "random", "contextualized"), min_length=1)
    docstrings: DocstringsConfig | None = None
    task: TaskConfig
    corpus: CorpusConfig | None = None
    retrieval: RetrievalConfig | None = None
    contextualize: ContextualizeConfig = ContextualizeConfig()
    task_da: str | None = None
    teacher: TeacherConfig
    student: StudentConfig
    injection: PhaseConfig | None = None
    task_da_injection: PhaseConfig | None = None
    adaptation: PhaseConfig
    alone: TrainingConfig | None = None
    workers: WorkersConfig = WorkersConfig()
    report_to: tuple[TrackerName, ...] = ()
    search: SearchConfig | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for key in ("seeds", "arms", "report_to"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key} {list(values)}: a value appears twice")
        if self.arms == ("tfidf",):
            raise ValueError("arms ['tfidf']: name an arm that is a student as well")
        needs_corpus = [arm for arm in self.arms if {*injections_of(arm)} & {*CORPUS_ARMS}]
        if needs_corpus and (self.corpus is None or self.retrieval is None):
            raise ValueError(f"arms {needs_corpus} need the sections corpus and retrieval")
        uses = [
            reference
            for reference in (
                *(self.task.train, self.task.dev, self.task.test),
                *(self.corpus.paths if self.corpus else ()),
            )
            if reference and reference.startswith(DOCSTRINGS_SCHEME)
        ]
        if uses and self.docstrings is None:
            raise ValueError(f"{uses[0]!r} needs the section docstrings")
        return self

    @model_validator(mode="after")
    def _student_has_a_source(self) -> Self:
        student = self.student
        lacks_source = student.model is None and student.init_from == "pretrained"
        if self.teacher.fine_tuned and student.copying_inits and lacks_source:
            raise ValueError(
                f"student.inits {list(student.inits)}: layers are copied of the teacher's model "
                "before it is fine-tuned, and with teacher.fine_tuned: true there is none; name "
                "the pretrained model as student.model, or set student.init_from: teacher to copy "
                "layers of the fine-tuned teacher"
            )
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if any(arm in TASK_DA_ARMS for arm in self.arms) != (self.task_da is not None):
            raise ValueError(
                f"the arms {' and '.join(TASK_DA_ARMS)} and the key task_da, the directory that "
                "raykd augment wrote, go together; give both or neither"
            )
        if self.injected_arms:
            if self.injection is None:
                raise ValueError(f"the arms {', '.join(INJECTED_ARMS)} need section injection")
            _check_injection("injection", self.injection)
        if self.task_da_injection is not None:
            if self.task_da is None or self.injection is None:
                raise ValueError(
                    "task_da_injection: nothing is injected on augmented rows; give the keys "
                    f"task_da and injection, and one of the arms {', '.join(TASK_DA_ARMS)}"
                )
            _check_injection("task_da_injection", self.task_da_injection)
            names = (self.task_da_injection.objective.name, self.injection.objective.name)
            if names[0] != names[1]:
                raise ValueError(
                    f"task_da_injection.objective {names[0]!r}: {names[1]!r}, as in injection, is "
                    "expected, since the report compares their students; its settings are free"
                )
        if not OBJECTIVES[self.adaptation.objective.name].trains_classifier:
            raise ValueError(
                f"adaptation.objective {self.adaptation.objective.name!r} trains no classifier; "
                "make it the objective of the section injection, and adapt with another"
            )
        return self

    @property
    def injected_arms(self) -> tuple[Arm, ...]:
        """The arms that have an injection phase."""
        return tuple(arm for arm in self.arms if arm in INJECTED_ARMS)

    @property
    def injections(self) -> tuple[Arm, ...]:
        """The arms whose injections are needed, also those that others go on from."""
        return tuple(dict.fromkeys(step for arm in self.arms for step in injections_of(arm)))

    @property
    def corpus_arms(self) -> tuple[Arm, ...]:
        """The arms whose injections read the general corpus."""
        return tuple(arm for arm in self.injections if arm in CORPUS_ARMS)

    def injection_on(self, text: str) -> PhaseConfig:
        """The settings of injections on a text, see `text_of`."""
        phase = self.task_da_injection if text == "task_da" else None
        phase = phase or self.injection
        assert phase is not None
        return phase

    def teacher_texts(self) -> tuple[str, ...]:
        """The texts on which the teacher's outputs are read in training, also `train`."""
        texts = [text_of(arm) for arm in self.injections]
        texts = [text for text in texts if _reads_outputs(self.injection_on(text))]
        if _reads_outputs(self.adaptation):
            texts.append("train")
        return tuple(dict.fromkeys(texts))

    def with_values(self, values: Mapping[str, Any], source: str) -> Self:
        """A copy with some keys, given by their paths, set to other values.

        Raises:
            InputError: there is no such key, or it does not take the value.
        """
        tree = self.model_dump(mode="json", by_alias=True)
        for path, value in values.items():
            *sections, key = path.split(".")
            branch: Any = tree
            for section in sections:
                branch = branch.get(section) if isinstance(branch, dict) else None
            if not isinstance(branch, dict) or key not in branch:
                raise InputError(f"{source}: the recipe has no key {path!r}")
            branch[key] = value
        return self.parse(tree, source)


def _check_injection(key: str, phase: PhaseConfig) -> None:
    if phase.objective.needs_labels:
        raise ValueError(
            f"{key}.objective {phase.objective.name!r} needs labels, and injection runs on "
            "unlabelled text: use minilmv2, or vanilla_kd with task_weight: 0"
        )
    if (of_scores := _set_for_scores(phase)) is not None:
        raise ValueError(
            f"{key}.{of_scores}: students are not scored in this phase; set it in the section "
            "adaptation"
        )


def _set_for_scores(phase: PhaseConfig) -> str | None:
    """A key of a phase that only scores give a meaning."""
    keys = ("score_every", "patience", "keep")
    given = (key for key in keys if getattr(phase, key) != PhaseConfig.model_fields[key].default)
    return next(given, None)


def _reads_outputs(phase: PhaseConfig) -> bool:
    return "logits" in phase.objective.needs_teacher
