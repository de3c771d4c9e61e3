"""Page of a tuning study in a browser (Chromium): charts, filters, a trial's recipe."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tune_studies import OBJECTIVE, RATE, study_of, trials_of, with_costs

from raykd.report.tune.page import render
from raykd.report.tune.targets import front

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page in the browser, with its console errors and requests."""

    def __init__(self, browser, path: Path, *, width: int = 1400, scheme: str = "light") -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def shown(self) -> list[int]:
        rows = self.page.locator("#trials tbody tr:not([hidden])")
        return [
            int(number) for number in rows.evaluate_all("rows => rows.map(r => r.dataset.trial)")
        ]


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "tune.html"
    path.write_text(render(study_of(trials_of(40)), "0.1.0"))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_all_charts_are_drawn_without_an_error_a_request_or_overflow(browser, path, width, scheme):
    opened = Opened(browser, path, width=width, scheme=scheme)
    for place in ("history", "parallel", "slices", "curves"):
        assert opened.page.locator(f"#{place} svg").count() >= 1
    assert opened.page.locator("#slices svg").count() == 4
    assert opened.page.locator("#history circle").count() == 37
    assert opened.page.locator("#parallel path.line").count() == 37
    assert opened.page.locator("#curves path.stopped").count() == 12
    wider = opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0
    assert opened.problems == []
    assert opened.requests == [opened.url]


def test_a_click_shows_a_trial_with_its_recipe(browser, path):
    opened = Opened(browser, path)
    page, trials = opened.page, trials_of(40)
    page.click('#trials tr[data-trial="3"]')
    assert page.text_content("#trial-title") == f"trial 3: {trials[3].score:.4f}"
    recipe = page.text_content("#trial-recipe")
    assert recipe.splitlines()[2] == f"  learning_rate: {trials[3].values[RATE]}"
    assert recipe.splitlines()[1:4:2] == ["adaptation:", "  epochs: 3"]
    page.keyboard.press("Escape")
    page.click('#trials tr[data-trial="5"]')
    assert "out of memory" in page.text_content("#trial-values")
    page.keyboard.press("Escape")
    page.locator('#history circle[data-trial="7"]').dispatch_event("click")
    assert "trial 7" in page.text_content("#trial-title")
    assert opened.problems == []


def test_the_winners_recipe_is_copied(browser, path):
    page = Opened(browser, path).page
    page.click("#copy-winner")
    playwright.expect(page.locator("#copy-winner")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    best = max((t for t in trials_of(40) if t.whole), key=lambda t: t.score or 0)
    assert copied == (
        f"name: cola\nadaptation:\n  learning_rate: {best.values[RATE]}\n  epochs: 3\nseeds:\n"
    )


def has_low_rate_and_cilda(trial) -> bool:
    return trial.values[RATE] < 1e-4 and trial.values[OBJECTIVE] == "cilda"


@pytest.mark.parametrize(
    ("text", "state", "expected"),
    [
        ("", "failed", lambda t: t.failed),
        ("score>=0.75", "", lambda t: not t.failed and t.score >= 0.75),
        ("learning_rate<1e-4 name=cilda", "", has_low_rate_and_cilda),
        ("memory", "", lambda t: t.failed),
        ("no-such-word", "", lambda t: False),
    ],
)
def test_the_table_is_filtered_by_words_conditions_and_state(browser, path, text, state, expected):
    opened = Opened(browser, path)
    opened.page.fill("#filter", text)
    opened.page.select_option("#state-filter", state)
    numbers = sorted(trial.number for trial in trials_of(40) if expected(trial))
    assert sorted(opened.shown()) == numbers
    assert opened.page.text_content("#shown") == f"{len(numbers)} of 40 trials shown"
    opened.page.click("#clear")
    assert len(opened.shown()) == 40


def test_a_brush_on_an_axis_filters_lines_and_table(browser, path):
    opened = Opened(browser, path)
    page = opened.page
    handle = page.locator('rect.handle[data-axis="score"]')
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 3, steps=4)
    page.mouse.up()
    scores = {t.number: t.score for t in trials_of(40) if not t.failed}
    shown = opened.shown()
    assert 0 < len(shown) < len(scores)
    assert min(scores[n] for n in shown) > max(scores[n] for n in scores.keys() - set(shown))
    assert page.locator("#parallel path.off").count() == len(scores) - len(shown)
    page.mouse.click(x, box["y"] + 5)
    assert len(opened.shown()) == 40


def test_a_click_on_a_title_sorts_the_table(browser, path):
    opened = Opened(browser, path)
    trials = {trial.number: trial for trial in trials_of(40)}
    order = opened.shown()
    complete = [n for n in order if trials[n].whole]
    assert order[: len(complete)] == complete
    assert complete == sorted(complete, key=lambda n: -trials[n].score)
    opened.page.click(f'#trials th button[title="{RATE}"]')
    rates = [trials[n].values[RATE] for n in opened.shown()]
    assert rates == sorted(rates)
    opened.page.click(f'#trials th button[title="{RATE}"]')
    rates = [trials[n].values[RATE] for n in opened.shown()]
    assert rates == sorted(rates, reverse=True)


def test_a_thousand_trials_are_drawn_and_filtered_in_seconds(browser, tmp_path):
    path = tmp_path / "tune.html"
    path.write_text(render(study_of(trials_of(1000)), "0.1.0"))
    opened = Opened(browser, path)
    assert opened.page.locator("#trials tbody tr").count() == 1000
    milliseconds = opened.page.evaluate(
        "() => { const start = performance.now(); draw(); return performance.now() - start; }"
    )
    assert milliseconds < 5000
    opened.page.fill("#filter", "score>0.79")
    assert 0 < len(opened.shown()) < 200
    assert opened.problems == []


def test_a_study_without_trials_is_shown_without_an_error(browser, tmp_path):
    path = tmp_path / "tune.html"
    path.write_text(render(study_of([], "running", num_planned=8), "0.1.0"))
    assert Opened(browser, path).problems == []


TARGETS = ("accuracy", "latency_ms", "num_parameters")


def several(num_trials: int) -> list:
    """Trials with costs, and with a second number that all of them have."""
    return [
        replace(one, values={**one.values, "adaptation.warmup": one.number % 10 / 10})
        for one in with_costs(trials_of(num_trials))
    ]


@pytest.fixture
def path_of_targets(tmp_path) -> Path:
    path = tmp_path / "targets.html"
    study = study_of(several(60), targets=TARGETS, devices=["A processor"])
    path.write_text(render(study, "0.1.0"))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_front_hypervolume_and_contours_are_drawn(browser, path_of_targets, width, scheme):
    opened = Opened(browser, path_of_targets, width=width, scheme=scheme)
    page = opened.page
    on_front = {str(one.number) for one in front(several(60), TARGETS)}
    assert page.locator("#front svg").count() == 2
    for chart in page.locator("#front svg").all():
        marked = chart.locator("circle.front").evaluate_all("all => all.map(c => c.dataset.trial)")
        assert set(marked) == on_front
    assert page.locator("#front-table tbody tr").count() == len(on_front)
    assert page.locator("#hypervolume circle").count() > 2
    assert page.locator("#contours svg").count() == 3
    assert page.locator("#contours path.iso").count() >= 3
    assert page.locator("#contours rect").count() > 100
    wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0
    assert opened.problems == []
    assert opened.requests == [opened.url]


def test_two_targets_have_the_edge_of_the_front(browser, tmp_path):
    path = tmp_path / "two.html"
    path.write_text(render(study_of(several(60), targets=TARGETS[:2]), "0.1.0"))
    opened = Opened(browser, path)
    edge = opened.page.locator("#front svg path.best").get_attribute("d")
    assert edge.count("H") == len(front(several(60), TARGETS[:2])) - 1
    assert opened.problems == []


def test_a_click_on_the_front_its_table_or_a_surface_shows_the_trial(browser, path_of_targets):
    opened = Opened(browser, path_of_targets)
    page, number = opened.page, front(several(60), TARGETS)[0].number
    for place in ("#front svg:first-of-type", "#hypervolume", "#contours"):
        drawn = page.locator(f'{place} circle[data-trial="{number}"]')
        if place == "#hypervolume" and not drawn.count():
            continue
        drawn.first.dispatch_event("click")
        assert page.text_content("#trial-title").startswith(f"trial {number}: ")
        page.keyboard.press("Escape")
    page.click(f'#front-table tr[data-trial="{number}"]')
    assert page.text_content("#trial-title").startswith(f"trial {number}: ")
    assert "latency_ms" in page.text_content("#trial-values")
    assert opened.problems == []


def test_costs_are_columns_conditions_and_axes(browser, path_of_targets):
    opened = Opened(browser, path_of_targets)
    opened.page.fill("#filter", "latency_ms<=4")
    expected = {t.number for t in several(60) if t.costs.get("latency_ms", 9) <= 4}
    assert set(opened.shown()) == expected
    assert opened.page.locator('rect.handle[data-axis="latency_ms"]').count() == 1
    assert opened.problems == []


def test_a_thousand_trials_of_several_targets_are_drawn_in_seconds(browser, tmp_path):
    path = tmp_path / "tune.html"
    path.write_text(render(study_of(several(1000), targets=TARGETS), "0.1.0"))
    opened = Opened(browser, path)
    milliseconds = opened.page.evaluate(
        "() => { const start = performance.now(); draw(); return performance.now() - start; }"
    )
    assert milliseconds < 5000
    assert opened.problems == []
