"""Results of a run, the content of `results.json` and `report.html`.

Metrics are fractions as `tasks.metrics` computes them, never rounded here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.contextualize.card import CorpusCard
from raykd.evaluation.analysis import Divergence, LayerSimilarity
from raykd.evaluation.calibration.calibrate import CalibrationFacts
from raykd.evaluation.cost import Cost
from raykd.evaluation.differences import ScoreDifference
from raykd.report.crossval.facts import CrossvalFacts
from raykd.training.masked_lm_head.report import HeadReport

# `injected`: a student before adaptation; `adapted`: after it, or fine-tuned alone.
ScoreStage = Literal["baseline", "teacher", "injected", "adapted"]
Phase = Literal["teacher", "injection", "adaptation"]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskFacts(_Facts):
    """The task; the first metric is the main one, `labels` is empty for regression."""

    name: str
    labels: list[str]
    regression: bool
    metrics: list[str]
    num_rows: dict[str, int]  # by split
    report_split: str
    sources: dict[str, str]  # by split
    multi_label: bool = False  # whether a row has any number of classes
    class_counts: dict[str, list[int]] = {}  # rows of each class, by split
    remarks: list[str] = []  # on rows and labels, see `tasks.class_counts`


class SetFacts(_Facts):
    """An evaluation set; the first metric is the main one, `labels` is empty for regression.

    `label_map` has the set's class of each class of the task; it is empty if they are the same.
    `content` describes the classes or scores of its rows, `num_in_train` are the rows whose text is
    that of a training row.
    """

    name: str
    source: str
    labels: list[str]
    label_map: dict[str, str]
    metrics: list[str]
    num_rows: int
    content: str
    num_in_train: int
    remarks: list[str] = []


class UnitSample(_Facts):
    """A unit of a corpus, and the task sentence that retrieved it, if any."""

    text: str
    task_sentence: str | None = None
    rank: int | None = None


class CorpusFacts(_Facts):
    """A training corpus and a few of its units; `name` is the name of its folder."""

    name: str | None = None
    card: CorpusCard
    samples: list[UnitSample] = []

    @property
    def title(self) -> str:
        """Name of the corpus on the page."""
        return self.name or self.card.kind

    @property
    def general(self) -> str:
        """Name of the general corpus it was selected from; empty if that has none."""
        return self.title.partition("@")[2]


class PhaseFacts(_Facts):
    """The objective of a phase; students can be scored after it if it trains the classifier.

    `keeps_best`: models are those of the step with the best score on the curves' split.
    """

    objective: str
    trains_classifier: bool
    keeps_best: bool = False


class StepFacts(_Facts):
    """An injection; `teacher` is a pretrained model, None for the run's fine-tuned teacher."""

    name: str
    text: str
    teacher: str | None
    objective: str
    trains_classifier: bool


class VariantFacts(_Facts):
    """The injections of a variant, in order, and whether it was adapted to the task after them."""

    variant: str
    steps: list[StepFacts]
    adapted: bool = True


class ModelFacts(_Facts):
    """A model in a folder, relative to the run directory; models of one shape share a cost."""

    variant: str
    init: str | None
    seed: int | None
    folder: str
    num_parameters: int
    cost: Cost | None = None


class Score(_Facts):
    """One model (variant, init, seed) on the report split; `init` is None except for students.

    `constant_answer` is its answer if it is the same for every row, else None. `sets` are its
    metrics on the evaluation sets, by name.
    """

    variant: str
    init: str | None
    seed: int | None
    stage: ScoreStage
    metrics: dict[str, FiniteFloat]
    constant_answer: str | None = None
    sets: dict[str, dict[str, FiniteFloat]] = {}


class Summary(_Facts):
    """A metric of one variant over seeds; one seed has no sample standard deviation.

    It is of the report split, or of an evaluation set.
    """

    variant: str
    init: str | None
    stage: ScoreStage
    metric: str
    num_seeds: int
    mean: FiniteFloat
    median: FiniteFloat
    deviation: FiniteFloat | None
    evaluation_set: str | None = None


class CurvePoint(_Facts):
    """Mean losses and measures of an epoch, and scores after it, if measured."""

    step: int
    epoch: float
    losses: dict[str, FiniteFloat]
    measures: dict[str, FiniteFloat] = {}
    metrics: dict[str, FiniteFloat] = {}


class Curve(_Facts):
    """Learning curve of one model in one phase."""

    variant: str
    init: str | None
    seed: int | None
    phase: Phase
    points: list[CurvePoint]


class Analysis(_Facts):
    """Comparison of one adapted student with the teacher on the report split."""

    variant: str
    init: str
    seed: int
    divergence: Divergence
    layers: LayerSimilarity | None


class TeacherScores(_Facts):
    """A teacher that is a file of scores.

    `kind` is probabilities, logits, or scores (of a regression); `num_rows` are the rows of each
    split that have scores, `train_metrics` the metrics of the scores on the training rows.
    """

    name: str
    kind: str
    num_rows: dict[str, int]
    train_metrics: dict[str, FiniteFloat]


class GeneratorFacts(_Facts):
    """The generator of a phase's objective; `head` is None if its checkpoint has one."""

    phase: str
    model: str
    head: HeadReport | None


class Results(_Facts):
    """Everything that the report of a run needs.

    Variants are `majority`, `tfidf`, `teacher` and those of a recipe; others are shown by their own
    names. `recipe` is the resolved recipe as YAML, `sets` are the evaluation sets, `set_summaries`
    the summaries of their scores, `times_s` the wall time of each stage in their order,
    `curve_split` the split the curves' scores were taken on, `starts` what students start from, by
    init.
    """

    run: str
    recipe: str
    versions: dict[str, str]
    digests: dict[str, str]
    task: TaskFacts
    corpora: list[CorpusFacts]
    injection: PhaseFacts | None
    variants: list[VariantFacts] = []
    adaptation: PhaseFacts | None
    scores: list[Score]
    summaries: list[Summary] = []
    sets: list[SetFacts] = []
    set_summaries: list[Summary] = []
    differences: list[ScoreDifference] = []
    analyses: list[Analysis] = []
    curves: list[Curve]
    curve_split: str
    times_s: dict[str, float]
    models: list[ModelFacts]
    teacher_remark: str | None = None  # problem with its answers on dev, or with its scores
    teacher_scores: TeacherScores | None = None  # if the teacher is a file of scores
    starts: dict[str, str] = {}
    generators: list[GeneratorFacts] = []
    calibration: CalibrationFacts | None = None  # of the student in RUN/student
    crossval: CrossvalFacts | None = None  # of `raykd crossval`

    def injections_of(self, variant: str) -> list[StepFacts]:
        """Injections of a variant; empty if the results do not contain them."""
        return next((facts.steps for facts in self.variants if facts.variant == variant), [])

    def is_adapted(self, variant: str) -> bool:
        """Return whether the students of a variant were adapted to the task."""
        return all(facts.adapted for facts in self.variants if facts.variant == variant)
