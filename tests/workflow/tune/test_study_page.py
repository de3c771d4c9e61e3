"""Page of a sweep in the run directory: interval, atomicity, recipes of the trials."""

import json
from pathlib import Path

import pytest
from test_tuning import with_search

from raykd.config import dump_yaml
from raykd.report.tune.study import Study
from raykd.report.tune.trials import Trial
from raykd.workflow.tune import study_page
from raykd.workflow.tune.resources import TrialResources
from raykd.workflow.tune.running import RunningTrials
from raykd.workflow.tune.study_page import StudyPage, edits_of

RATE = "adaptation.learning_rate"
NOTHING_RUNS = RunningTrials(("accuracy",), TrialResources(1.0, 0.0, None))


class Clock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(study_page, "time", clock)
    return clock


def page_at(path: Path, *trials: Trial) -> StudyPage:
    recipe = with_search({RATE: {"float": [1e-5, 1e-3], "log": True}})
    study = Study("mine", "accuracy", "dev", 1, "direct", 8, "running", "", [], list(trials))
    return StudyPage(path, recipe, study)


def trial(number: int) -> Trial:
    return Trial(number, {RATE: 1e-4 * (number + 1)}, 2, 0.5, True)


def data_of(path: Path) -> dict:
    text = path.read_text().partition('<script type="application/json" id="study">')[2]
    return json.loads(text.partition("</script>")[0])


def numbers_on(path: Path) -> list[int]:
    return [one["n"] for one in data_of(path)["trials"]]


def test_the_page_is_written_at_the_end_of_a_trial_at_most_every_30_seconds(tmp_path, clock):
    path = tmp_path / "tune.html"
    page = page_at(path)
    page.write("running")
    clock.now_s += 31
    page.on_end(trial(0), "id")
    assert numbers_on(path) == [0]
    clock.now_s += 29
    page.on_end(trial(1), "id")
    page.on_tick(NOTHING_RUNS)
    assert numbers_on(path) == [0]
    clock.now_s += 1
    page.on_tick(NOTHING_RUNS)
    assert numbers_on(path) == [0, 1]
    page.on_end(trial(2), "id")
    page.write("complete")
    assert numbers_on(path) == [0, 1, 2]
    assert data_of(path)["state"] == "complete"
    assert [file.name for file in tmp_path.iterdir()] == ["tune.html"]


def test_without_a_new_trial_the_page_is_not_written_again(tmp_path, clock):
    path = tmp_path / "tune.html"
    page = page_at(path, trial(0))
    page.write("running")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    clock.now_s += 100
    page.on_tick(NOTHING_RUNS)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_page_that_cannot_be_written_does_not_end_the_sweep(tmp_path, capsys):
    path = tmp_path / "absent" / "tune.html"
    page_at(path, trial(0)).write("running")
    assert "tune.html: not written: No such file" in capsys.readouterr().err


def test_the_changes_of_a_trial_make_its_recipe(tmp_path):
    path = tmp_path / "tune.html"
    page_at(path, trial(0), trial(6)).write("complete")
    data = data_of(path)
    lines = list(data["recipe"])
    for start, count, added in reversed(data["trials"][1]["d"]):
        lines[start : start + count] = added
    recipe = with_search({RATE: {"float": [1e-5, 1e-3], "log": True}})
    expected = dump_yaml(recipe.with_values({RATE: 7e-4}, "test"))
    assert "\n".join(lines) + "\n" == expected
    assert len(data["trials"][1]["d"]) == 1


@pytest.mark.parametrize(
    ("lines", "changed"),
    [("abc", "abc"), ("abc", "axc"), ("abc", ""), ("", "abc"), ("abcdef", "bxcdyzf")],
)
def test_edits_applied_from_the_end_make_the_changed_lines(lines, changed):
    made = list(lines)
    for start, count, added in reversed(edits_of(lines, changed)):
        made[start : start + count] = added
    assert made == list(changed)
