"""Cells of a table, from the results of its runs."""

import report_pages
from test_table import written

from raykd.cli.app import _exit_code as raykd
from raykd.report.reproduced import markdown
from raykd.report.results import Results, Score
from raykd.storage.locations import location_of
from raykd.storage.manifest import write_once
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import write_task
from raykd.workflow.reproduce import reproduction
from raykd.workflow.reproduce.cells import runs_of, selected
from raykd.workflow.reproduce.results_table import (
    Done,
    row_differences,
    shown_table,
    with_same_rows,
)
from raykd.workflow.reproduce.table import load_table

EXPECTED = {
    "small": {
        "date": "2026-11-01",
        "commit": "abc",
        "device": "CPU",
        "num_seeds": 2,
        "tolerance": 1.0,
        "values": {"kd": {"reviews": 60.0}, "teacher": {"reviews": 80.0}},
    }
}


def results_of(scores: list[tuple[str, int | None, float]]) -> Results:
    return report_pages.results().model_copy(
        update={
            "scores": [
                Score(
                    variant=variant,
                    init=None if seed is None else "bottom",
                    seed=seed,
                    stage="teacher" if seed is None else "adapted",
                    metrics={"accuracy": value},
                )
                for variant, seed, value in scores
            ]
        }
    )


def shown(tmp_path, scores, *, num_seeds):
    path = written(tmp_path, expected=EXPECTED)
    table = load_table(path)
    cells = selected(table, "small", ["kd", "teacher"], "t")
    runs = runs_of(table, "small", cells, path, num_seeds)
    results = results_of(scores)
    done = {(run.name, run.column): Done(run, tmp_path / run.folder, results) for run in runs}
    return shown_table(table, "small", cells, done)


def test_a_mean_over_other_seeds_than_the_earlier_value_is_not_compared_with_it(tmp_path):
    scores = [("teacher", None, 0.8), ("direct", 1, 0.7), ("direct", 2, 0.5)]
    one = shown(tmp_path, scores, num_seeds=1)
    # A teacher has no seeds.
    assert [row.cells[0].state for row in one.rows] == ["OK", "other seeds"]
    assert (one.missed, one.num_of_other_seeds) == ([], 1)
    text = markdown(one)
    assert "| KD | 70.0 (81.5) | " in text
    assert "Scores not compared, because they are of another number of seeds: 1." in text

    both = shown(tmp_path, scores, num_seeds=2)
    assert [row.cells[0].state for row in both.rows] == ["OK", "OK"]
    assert both.num_of_other_seeds == 0


def test_a_check_of_other_seeds_than_expected_is_refused_before_any_run(tmp_path, capsys):
    path = written(tmp_path, expected=EXPECTED)
    assert raykd(["reproduce", str(path), "--seeds", "1", "--check"]) == 2
    assert "--seeds 1: --check compares with means over 2 seeds" in capsys.readouterr().err


def test_a_time_is_shown_only_if_those_of_all_seeds_are_known(tmp_path):
    scores = [("direct", 1, 0.7), ("direct", 2, 0.5)]
    students = tmp_path / "reviews" / "kd" / "students"
    write_once(students / "direct-bottom-seed1" / "adapted", "adapt", {}, {}, lambda _: None)
    kd = shown(tmp_path, scores, num_seeds=2).rows[1]
    assert (kd.cells[0].mean, kd.cells[0].training_s) == (60.0, None)
    write_once(students / "direct-bottom-seed2" / "adapted", "adapt", {}, {}, lambda _: None)
    kd = shown(tmp_path, scores, num_seeds=2).rows[1]
    assert kd.cells[0].training_s is not None


def test_removed_predictions_have_no_differences_and_versions_of_all_runs_are_named(tmp_path):
    path = written(tmp_path)
    table = load_table(path)
    cells = [("random", "reviews"), ("kd", "reviews")]
    scores = [("direct", 1, 0.7), ("direct", 2, 0.5)]
    kd = results_of(scores)
    random = kd.model_copy(
        update={"scores": [one.model_copy(update={"init": "random"}) for one in kd.scores]}
    )
    runs = runs_of(table, "small", cells, path)
    kd = kd.model_copy(update={"versions": {"raykd": "0.2.0", "torch": "2.13.0"}})
    done = {
        (run.name, run.column): Done(run, tmp_path / run.folder, found)
        for run, found in zip(runs, (random, kd), strict=True)
    }
    assert row_differences(table, cells, done, tmp_path) == {}
    both = shown_table(table, "small", cells, done)
    assert [row.cells[0].mean for row in both.rows] == [60.0, 60.0]
    assert "Versions: raykd 0.1.0 and 0.2.0, torch 2.13.0." in markdown(both)


def test_a_check_without_expected_scores_is_refused(tmp_path, capsys):
    assert raykd(["reproduce", str(written(tmp_path)), "--show", "--check"]) == 2
    assert "has no expected scores of the profile 'small'" in capsys.readouterr().err


def test_a_run_that_is_scored_on_other_rows_is_not_shown_next_to_the_first(tmp_path):
    path = written(tmp_path)
    table = load_table(path)
    cells = [("random", "reviews"), ("kd", "reviews")]
    scores = [("direct", 1, 0.7), ("direct", 2, 0.5)]
    done = {}
    for number, run in enumerate(runs_of(table, "small", cells, path)):
        rows = ["text,label", *(f"text {n},{'ab'[n % 2]}" for n in range(8 + number))]
        (tmp_path / f"{number}.csv").write_text("\n".join(rows))
        (tmp_path / "train.csv").write_text("\n".join(["text,label", "x,a", "y,b"]))
        config = TaskConfig(
            name="reviews",
            train=str(tmp_path / "train.csv"),
            dev=str(tmp_path / f"{number}.csv"),
            sentence_columns=("text",),
        )
        write_task(config, location_of, tmp_path / run.folder / "task")
        done[run.name, run.column] = Done(run, tmp_path / run.folder, results_of(scores))
    checked = with_same_rows(done)
    assert checked["plain", "reviews"] is done["plain", "reviews"]
    text = markdown(shown_table(table, "small", cells, checked))
    assert (
        "Failed: KD, reviews: its evaluation rows or classes are not those of the run 'plain'"
        in text
    )


def test_an_unforeseen_error_of_a_run_is_a_failed_cell_and_the_others_are_made(
    tmp_path, monkeypatch, capsys
):
    started = []

    def fail(run, last):
        started.append(run.recipe.name)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(reproduction, "run_stages", fail)
    assert raykd(["reproduce", str(written(tmp_path)), "--out", str(tmp_path / "out")]) == 1
    assert len(started) == 2
    printed = capsys.readouterr().out
    assert printed.count("internal error: RuntimeError: out of memory") == 3  # each row's reason
