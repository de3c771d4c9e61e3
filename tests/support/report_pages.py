"""Results of a made-up run, and the parts of a rendered page."""

from html.parser import HTMLParser

from raykd.contextualize.card import Compared, CorpusCard, SearchFacts
from raykd.report.results import (
    CorpusFacts,
    Curve,
    CurvePoint,
    ModelFacts,
    PhaseFacts,
    Results,
    Score,
    TaskFacts,
    UnitSample,
)
from raykd.text.figures import TextFigures

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def figures(task_overlap=0.5):
    return TextFigures(
        distinct_1=0.25,
        distinct_2=0.75,
        num_words=20_000,
        task_overlap=task_overlap,
        general_overlap=0.625,
        num_vocabulary_words=5000,
        content_task_overlap=0.875,
        content_general_overlap=0.125,
        num_content_vocabulary_words=4000,
    )


def card(kind):
    searched = kind == "contextualized"
    return CorpusCard(
        kind=kind,
        num_units=3000,
        num_bytes=312_345,
        bytes_per_unit=104.115,
        num_candidates=17_123,
        max_units=3000,
        num_missing=0,
        target_bytes=None,
        num_missing_bytes=0,
        top_percent=None,
        num_beyond_limit=14_023 if searched else None,
        num_duplicates=96,
        num_near_duplicates=0,
        leaks="remove",
        num_leaks=4,
        num_leaked_ngrams=0,
        num_evaluation_sentences=2911,
        leak_min_words=5,
        leak_ngram=None,
        num_quarantined=2,
        search=(
            SearchFacts(top_k=50, num_queries=440, num_empty_queries=3, num_fallback_queries=17)
            if searched
            else None
        ),
        k=50 if searched else None,
        num_hits=21_987 if searched else None,
        kept_fraction=0.1364 if searched else None,
        max_rank=9 if searched else None,
        text=figures(),
        general=Compared(num_units=325_302, num_bytes=111_400_000, text=figures(0.375)),
        task=Compared(num_units=440, num_bytes=44_000, text=figures(1.0)),
    )


def score(variant, value, *, seed=1, stage="adapted", init="random"):
    return Score(variant=variant, init=init, seed=seed, stage=stage, metrics={"accuracy": value})


def results(*, report_split="dev", name="quickstart", seeds=(1, 2), trains_classifier=True):
    students = [
        score(variant, value + seed / 100, seed=seed)
        for variant, value in (("alone", 0.30), ("random", 0.40), ("contextualized", 0.45))
        for seed in seeds
    ]
    point = CurvePoint(step=3, epoch=1, losses={"total": 0.5}, metrics={"accuracy": 0.4})
    return Results(
        run=name,
        recipe=f"name: {name}",
        versions={"raykd": "0.1.0", "torch": "2.13.0"},
        digests={"general corpus": "3c4d857a"},
        task=TaskFacts(
            name=name,
            labels=["a", "b"],
            regression=False,
            metrics=["accuracy"],
            num_rows={"train": 440, "dev": 1000, "test": 1000},
            report_split=report_split,
            sources={"train": f"/data/{name}.parquet"},
        ),
        corpora=[
            CorpusFacts(
                card=card("contextualized"),
                samples=[UnitSample(text=name, task_sentence=name, rank=1)],
            ),
            CorpusFacts(card=card("random"), samples=[UnitSample(text=name)]),
        ],
        injection=PhaseFacts(objective="minilmv2", trains_classifier=trains_classifier),
        adaptation=PhaseFacts(objective="fine_tune", trains_classifier=True),
        scores=[
            score("majority", 0.1, seed=None, stage="baseline", init=None),
            score("tfidf", 0.2, seed=None, stage="baseline", init=None),
            score("teacher", 0.6, stage="teacher", init=None),
            *students,
        ],
        curves=[
            Curve(variant=name, init="random", seed=1, phase="adaptation", points=[point]),
        ],
        curve_split="dev",
        times_s={"retrieve": 61.0, "teacher": 3.25},
        models=[
            ModelFacts(variant="random", init="random", seed=1, folder=name, num_parameters=587_403)
        ],
    )


class Page(HTMLParser):
    """The visible text, the tags, and the content of each script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.words = [], [], []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        (self.scripts if self._in_script else self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split()).replace("\u2013", "-")
