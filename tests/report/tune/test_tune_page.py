"""Page of a tuning study: content, escaping, size."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from tune_studies import LAYERS, study_of, trials_of, with_costs

from raykd.report.tune.page import render
from raykd.report.tune.study import Cost, cost_of, keys_of
from raykd.report.tune.targets import front
from raykd.report.tune.trials import Trial, values_text

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.scripts, self.words = [], [], []
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in != "style":
            (self.scripts if self._in == "script" else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> dict:
        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        return json.loads(self.scripts[0], parse_constant=refuse)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(study_of(trials_of(40)), "0.1.0"))


def trial(number: int, score: float | None, **changes) -> Trial:
    return replace(Trial(number, {"student.width": 8}, 1, score, True), **changes)


def test_the_page_names_the_winner_and_its_lead():
    trials = [trial(0, 0.5), trial(1, 0.75), trial(2, 0.625), trial(3, 0.9, whole=False)]
    text = Page(render(study_of(trials, edits={}), "1")).text
    assert "Trial 1 is the best: 0.7500 accuracy on dev, 0.1250 above the second best" in text
    assert "second best, trial 2" in text
    assert "3 complete, 1 stopped early, 0 failed" in text
    assert "trials have this score" not in text


def test_tied_winners_are_counted():
    trials = [trial(0, 0.5), trial(1, 0.75), trial(2, 0.75), trial(3, 0.75, whole=False)]
    text = Page(render(study_of(trials, edits={}), "1")).text
    assert "2 trials have this score; the one that ended first is shown." in text
    assert "0.2500 above the second best, trial 0" in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "The sweep was running when this page was written, at 2026-11-29 12:00 UTC"),
        ("interrupted", "was interrupted at 2026-11-29 12:00 UTC after 40 of 60 trials"),
    ],
)
def test_the_page_of_an_unfinished_sweep_says_so(state, words):
    text = Page(render(study_of(trials_of(40), state, num_planned=60), "1")).text
    assert words in text
    assert "20 left" in text
    assert "is the best so far" in text


def test_the_page_of_a_complete_sweep_has_no_such_note(page):
    assert "interrupted" not in page.text
    assert "running" not in page.text


def test_a_sweep_without_an_ended_trial_has_a_page():
    text = Page(render(study_of([], "running", num_planned=8), "1")).text
    assert "No trial has ended with a score yet." in text
    assert "The cost is not recorded." in text


def test_failed_trials_are_listed_by_their_reason():
    trials = [trial(0, 0.5)]
    trials += [trial(n, None, error=f"loss {n % 2}") for n in range(1, 6)]
    text = Page(render(study_of(trials, edits={}), "1")).text
    assert "3 loss 1 1, 3, 5" in text
    assert "2 loss 0 2, 4" in text


def test_each_trial_has_its_values_curve_and_changes_of_the_recipe(page):
    trials = trials_of(40)
    data = page.data
    assert data["winner"] == max((t for t in trials if t.whole), key=lambda t: t.score or 0).number
    assert data["metrics"] == ["f1"]
    first = data["trials"][0]
    assert first["c"][-1] == [10, round(trials[0].score, 6)]
    assert first["d"][0][:2] == [2, 1]
    assert first["t"] == 36.0
    assert {one["st"] for one in data["trials"]} == {"complete", "stopped", "failed"}


def test_a_key_that_a_trial_does_not_have_is_empty(page):
    place = next(k for k, key in enumerate(page.data["keys"]) if "temperature" in key["name"])
    values = [one["v"][place] for one in page.data["trials"]]
    assert None in values
    assert {value for value in values if value is not None} <= {1, 2, 3, 4, 5}


def test_lists_and_maps_are_categories():
    (key,) = [key for key in keys_of(trials_of(40)) if key.name == LAYERS]
    assert key.categories == ["[2,4,6]", '{"1":4,"2":8}']


def test_numbers_that_are_not_finite_are_no_part_of_the_json():
    nan = float("nan")
    trials = [trial(0, nan), trial(1, 0.5, scores={"f1": nan}, curve=[[1.0, nan], [2.0, 0.5]])]
    data = Page(render(study_of(trials, edits={}), "1")).data
    assert data["trials"][0]["s"] is None
    assert data["trials"][1]["m"] == [None]
    assert data["trials"][1]["c"] == [[2, 0.5]]


def test_names_values_and_reasons_are_never_markup():
    trials = [
        Trial(0, {ATTACK: ATTACK}, 1, 0.5, True),
        Trial(1, {ATTACK: [ATTACK]}, 1, None, False, ATTACK),
    ]
    edits = {0: [(0, 1, [ATTACK])]}
    page = render(study_of(trials, edits=edits, name=ATTACK, variant=ATTACK), "1")
    tree = Page(page)
    assert ATTACK not in page
    assert "<script>alert" not in page
    assert not any(tag == "img" for tag, _ in tree.tags)
    assert len(tree.scripts) == 2
    assert tree.data["trials"][0]["d"] == [[0, 1, [ATTACK]]]


def test_only_the_script_of_the_page_may_run_and_nothing_is_loaded(page):
    html = render(study_of(trials_of(40)), "0.1.0")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    allowed = b64encode(sha256(page.scripts[1].encode()).digest()).decode()
    assert policy.replace("&#39;", "'") == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    )
    loading = {"src", "href", "srcset", "data", "action"}
    assert not [tag for tag, attributes in page.tags if loading & attributes.keys()]


def test_the_page_of_a_thousand_trials_is_below_five_megabytes():
    trials = [
        replace(one, curve=[[epoch, 0.123456789] for epoch in range(1, 501)])
        for one in trials_of(1000)
    ]
    trials = [
        replace(one, values={**one.values, "a": one.number % 9, "b": one.number % 11})
        for one in with_costs(trials)
    ]
    page = render(study_of(trials, targets=TARGETS), "1")
    assert len(page.encode()) < 5_000_000
    assert {len(one["c"]) for one in Page(page).data["trials"]} == {56}


def test_equal_studies_have_equal_pages():
    study = study_of(trials_of(40))
    assert render(study, "1") == render(study, "1")


def test_the_cost_is_time_multiplied_by_resources():
    trials = [
        trial(0, 0.5, seconds=3600.0, num_cpus=2.0, num_gpus=0.5),
        trial(1, 0.4, seconds=1800.0, num_cpus=2.0, num_gpus=0.5, whole=False),
        trial(2, None, seconds=360.0, num_cpus=1.0, num_gpus=1.0, error="loss nan"),
        trial(3, 0.5),
    ]
    assert cost_of(trials) == Cost(3.1, 0.85, failed_core_hours=0.1, stopped_core_hours=1.0)
    text = Page(render(study_of(trials, edits={}), "1")).text
    assert "3.1 core-hours and 0.85 GPU-hours, including 1 core-hours of stopped" in text


def test_values_are_written_as_in_a_recipe():
    values = {"rate": 0.00123456, "layers": {"1": 2}, "name": "skip", "is_on": True, "steps": 3}
    assert values_text(values) == ('rate=0.001235, layers={"1": 2}, name=skip, is_on=true, steps=3')


TARGETS = ("accuracy", "latency_ms", "num_parameters")


def test_the_page_of_several_targets_has_front_winner_volume_and_processors():
    trials = with_costs(trials_of(40))
    study = study_of(trials, targets=TARGETS, devices=["A", "B"])
    page = Page(render(study, "1"))
    best = max((one for one in trials if one.whole), key=lambda one: one.score or 0)
    on_front = front(trials, TARGETS)
    assert f"Trial {best.number} has the highest score: {best.score:.4f} accuracy" in page.text
    assert f"{len(on_front)} of 25 complete trials are on the Pareto front" in page.text
    assert "latency_ms (less is better)" in page.text
    assert "These are different processors" in page.text
    assert page.data["front"] == [one.number for one in on_front]
    assert [one["min"] for one in page.data["targets"]] == [False, True, True]
    assert page.data["trials"][best.number]["x"] == [
        pytest.approx(best.costs["latency_ms"]),
        best.num_parameters,
    ]
    assert page.data["costs"] == ["latency_ms", "flops"]
    shares = [share for _, share in page.data["volumes"]]
    assert shares == sorted(shares)
    assert f"Hypervolume over the trials, now {shares[-1]:.3f}" in page.text


def test_the_page_of_one_target_has_no_front(page):
    assert "Pareto" not in page.text
    assert page.data["front"] == []
    assert page.data["volumes"] == []


def test_the_winner_of_conditions_is_named_with_them_or_the_nearest_trial_is():
    trials = with_costs(trials_of(40))
    study = study_of(trials, targets=TARGETS, pick="latency_ms <= 4")
    page = Page(render(study, "1"))
    best = max((t for t in trials if t.costs.get("latency_ms", 9) <= 4), key=lambda t: t.score or 0)
    assert page.data["winner"] == best.number
    assert f"Trial {best.number} is chosen (latency_ms <= 4):" in page.text
    unmet = Page(render(replace(study, pick="latency_ms <= 1", state="running"), "1"))
    assert "No winner yet: no trial meets 'latency_ms <= 1'; the nearest is trial" in unmet.text
    assert unmet.data["winner"] is None
    one = study_of(trials, pick="num_parameters <= 50000000")
    assert "is the best that meets num_parameters <= 50000000: 0." in Page(render(one, "1")).text


def test_a_sweep_of_several_targets_without_an_ended_trial_has_a_page():
    text = Page(render(study_of([], "running", num_planned=8, targets=TARGETS), "1")).text
    assert "No trial has ended with a value of every target yet." in text


def test_the_page_has_the_score_over_the_pairs_of_important_numbers(page):
    assert page.data["contours"] == []  # one number only is in all trials
    trials = [
        replace(one, values={**one.values, "adaptation.epochs": one.number % 7})
        for one in trials_of(60)
    ]
    page = Page(render(study_of(trials), "1"))
    names = [key["name"] for key in page.data["keys"]]
    pairs = [{names[one["x"]], names[one["y"]]} for one in page.data["contours"]]
    assert {"adaptation.learning_rate", "adaptation.epochs"} in pairs
    assert all(len(one["z"]) == len(one["z"][0]) == 25 for one in page.data["contours"])
    assert "Score by pairs of keys" in page.text
