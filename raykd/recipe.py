"""A whole run as one typed object, read from one YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from raykd.arms import CORPUS_ARMS, INJECTED_ARMS, TASK_DA_ARMS, Arm, injections_of, text_of
from raykd.config import Config, absolute, load_yaml
from raykd.contextualize import ContextualizeConfig
from raykd.corpus.docstrings import DocstringsConfig
from raykd.corpus.pipeline import CorpusConfig
from raykd.errors import InputError
from raykd.evaluation.tasks import TaskConfig
from raykd.locations import is_url
from raykd.models.student_init import StudentConfig
from raykd.objectives import OBJECTIVES
from raykd.objectives.generation import GeneratorConfig
from raykd.presets import load_preset, merged
from raykd.retrieval.search import RetrievalConfig
from raykd.training.phases import PhaseConfig, TeacherConfig
from raykd.training.settings import TrainingConfig
from raykd.training.trackers import TrackerName
from raykd.training.workers import WorkersConfig

DOCSTRINGS_SCHEME = "docstrings:"


class Parameter(Config):
    """The range of one searched key: exactly one of `float`, `int` and `choice`."""

    float_range: tuple[float, float] | None = Field(None, alias="float")
    int_range: tuple[int, int] | None = Field(None, alias="int")
    choice: tuple[Any, ...] | None = Field(None, min_length=1)
    log: bool = False

    def values(self) -> tuple[Any, ...]:
        """The ends of the range, or the choices."""
        return self.choice or self.float_range or self.int_range or ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.float_range, self.int_range, self.choice]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give exactly one of float: [low, high], int: [low, high], choice: []")
        bounds = self.float_range or self.int_range
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"{list(bounds)}: low must be below high")
        if self.log and (bounds is None or bounds[0] <= 0):
            raise ValueError("log needs a float or int range above 0")
        return self


class SearchConfig(Config):
    """What `raykd tune` searches: keys of the recipe by path, and how long."""

    space: dict[str, Parameter] = Field(min_length=1)
    num_trials: int = Field(8, ge=1)
    max_concurrent_trials: int = Field(2, ge=1)
    seed: int = 1
    grace_epochs: int = Field(1, ge=1)


class Recipe(Config):
    """One run. Paths in it are relative to the file it was read from.

    `preset` names a method's settings in its paper (see `presets`), for keys that are not given;
    `task_da` is the directory that `raykd augment` wrote, for the arms of that name;
    `task_da_injection` holds for injections on it in place of `injection`. `report_to` names
    trackers that are told of every training; it decides no result.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    preset: str | None = None
    seeds: tuple[int, ...] = Field((1,), min_length=1)
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


def load_recipe(path: Path) -> Recipe:
    """Read and validate a recipe; its paths become absolute, so that it can be kept anywhere.

    Raises:
        InputError: names the file, the path of each wrong key, and what is accepted there.
    """
    values_given = load_yaml(path)
    if "tasks" in values_given:
        raise InputError(f"{path}: names several tasks; raykd corpus makes their corpora")
    recipe = Recipe.parse(_with_preset(values_given, str(path)), str(path))
    folder = path.absolute().parent
    values: dict[str, Any] = {
        f"task.{split}": _absolute(folder, reference)
        for split in ("train", "dev", "test")
        if (reference := getattr(recipe.task, split))
    }
    if recipe.task_da:
        values["task_da"] = _absolute(folder, recipe.task_da)
    if recipe.corpus:
        values["corpus.paths"] = [_absolute(folder, reference) for reference in recipe.corpus.paths]
    dense = recipe.retrieval.dense if recipe.retrieval else None
    for key, model in (
        ("teacher.model", recipe.teacher.model),
        ("student.model", recipe.student.model),
        ("retrieval.dense.model", dense and dense.model),
        ("injection.objective.generator", _generator(recipe.injection)),
        ("task_da_injection.objective.generator", _generator(recipe.task_da_injection)),
        ("adaptation.objective.generator", _generator(recipe.adaptation)),
    ):
        # Any other reference is a name: of an installed package, or on the hub.
        if model and (folder / Path(model).expanduser()).exists():
            values[key] = _absolute(folder, model)
    return recipe.with_values(values, str(path))


def _with_preset(values: dict[str, Any], source: str) -> dict[str, Any]:
    name, task = values.get("preset"), values.get("task")
    if not isinstance(name, str) or not isinstance(task, dict):
        return values
    try:
        preset = load_preset(name, str(task.get("name")))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    whole = merged(preset, values)
    # A search is of one objective's keys, and of those alone that its author names.
    if "search" in values or _objectives(whole) != _objectives(merged(values, preset)):
        whole["search"] = values.get("search")
    # Settings for augmented rows are of use to those who have some, with the preset's objective.
    injections = [{"injection": tree.get("injection")} for tree in (whole, preset)]
    is_used = "task_da" in values and _objectives(injections[0]) == _objectives(injections[1])
    if "task_da_injection" not in values and not is_used:
        whole.pop("task_da_injection", None)
    return whole


def _objectives(values: Mapping[str, Any]) -> list[Any]:
    sections = (values.get(phase) for phase in ("injection", "adaptation"))
    objectives = (s.get("objective") for s in sections if isinstance(s, Mapping))
    return [objective.get("name") for objective in objectives if isinstance(objective, Mapping)]


def _absolute(folder: Path, reference: str) -> str:
    if reference.startswith(DOCSTRINGS_SCHEME) or is_url(reference):
        return reference
    return absolute(folder, reference)


def _generator(phase: PhaseConfig | None) -> str | None:
    objective = phase and phase.objective
    return objective.generator if isinstance(objective, GeneratorConfig) else None


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
