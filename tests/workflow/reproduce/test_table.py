"""Tables: their settings, the recipes of their runs, and how they are shown."""

from pathlib import Path

import pytest
import yaml
from test_reproduction import table_values

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.report.reproduced import (
    Cell,
    Difference,
    ReproducedTable,
    TableColumn,
    TableRow,
    difference_text,
    markdown,
    page,
    state_of,
)
from raykd.workflow.reproduce.cells import runs_of, selected
from raykd.workflow.reproduce.results_table import shown_table
from raykd.workflow.reproduce.row_scores import metric_of
from raykd.workflow.reproduce.table import find_table, load_table

TABLES = Path(__file__).resolve().parents[3] / "experiments" / "expected" / "tables"


def written(tmp_path: Path, **changes) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(table_values() | changes, sort_keys=False))
    return path


def test_a_row_of_an_unknown_run_is_refused(tmp_path):
    rows = table_values()["rows"]
    rows["kd"]["run"] = "kdd"
    with pytest.raises(InputError, match=r"rows.kd.run: there is no 'kdd'; known: plain, kd"):
        load_table(written(tmp_path, rows=rows))


def test_a_paper_value_of_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"paper_values.kd: there is no 'mrcp'; known: reviews"):
        load_table(written(tmp_path, paper_values={"kd": {"mrcp": 88.0}}))


def test_a_profile_does_not_set_seeds_in_its_recipe(tmp_path):
    profiles = table_values()["profiles"]
    profiles["small"]["recipe"]["seeds"] = [1]
    with pytest.raises(InputError, match=r"profiles.small.recipe: the table itself sets seeds"):
        load_table(written(tmp_path, profiles=profiles))


def test_an_unknown_table_names_those_there_are(tmp_path):
    written(tmp_path)
    with pytest.raises(InputError, match="tables here: tiny"):
        find_table("tinny", tmp_path)
    assert find_table("tiny", tmp_path) == tmp_path / "tiny.yaml"


def test_only_selects_rows_columns_and_single_cells(tmp_path):
    table = load_table(written(tmp_path))
    assert selected(table, "small", ["kd"], "t") == [("kd", "reviews")]
    assert selected(table, "small", ["random/reviews"], "t") == [("random", "reviews")]
    assert len(selected(table, "small", ["reviews"], "t")) == 3
    with pytest.raises(InputError, match=r"--only 'KD': no such row or column"):
        selected(table, "small", ["KD"], "t")
    with pytest.raises(InputError, match=r"no profile 'full'; it has small"):
        selected(table, "full", [], "t")


def test_a_check_of_single_cells_misses_no_others(tmp_path):
    columns = table_values()["columns"] | {"films": {"title": "Films"}}
    profiles = table_values()["profiles"]
    profiles["small"]["columns"]["films"] = {}
    table = load_table(written(tmp_path, columns=columns, profiles=profiles))
    cells = selected(table, "small", ["kd/films", "random/reviews"], "t")
    shown = shown_table(table, "small", cells, {})
    assert [[cell.state for cell in row.cells] for row in shown.rows] == [
        ["not run", "not asked"],
        ["not asked", "not run"],
    ]
    assert shown.num_not_run == 2


def test_a_column_of_an_evaluation_set_shows_the_runs_of_its_task(tmp_path):
    columns = table_values()["columns"] | {
        "hard": {"title": "Hard rows", "of": "reviews", "set": "hard", "metric": "f1"}
    }
    profiles = table_values()["profiles"]
    sets = [{"name": "hard", "path": "hard.jsonl", "metrics": ["accuracy", "f1"]}]
    profiles["small"]["recipe"]["evaluation"] = {"sets": sets}
    path = written(tmp_path, columns=columns, profiles=profiles)
    table = load_table(path)
    cells = selected(table, "small", ["kd"], "t")
    assert cells == [("kd", "reviews"), ("kd", "hard")]
    [run] = runs_of(table, "small", cells, path)
    assert (run.name, run.column) == ("kd", "reviews")
    assert run.recipe.evaluation.sets[0].path == str(tmp_path / "hard.jsonl")
    assert metric_of(table.columns["hard"], run.recipe) == "f1"
    assert metric_of(table.columns["reviews"], run.recipe) == "accuracy"

    columns["hard"]["set"] = "hrad"
    path = written(tmp_path, columns=columns, profiles=profiles)
    with pytest.raises(InputError, match=r"columns.hard.set 'hrad': not in .*known: hard"):
        runs_of(load_table(path), "small", cells, path)


def test_an_unknown_init_and_no_seeds_are_refused_before_any_run(tmp_path, capsys):
    rows = table_values()["rows"]
    rows["kd"]["init"] = "botom"
    path = written(tmp_path, rows=rows)
    with pytest.raises(InputError, match=r"column 'reviews': key 'student.inits.0'.*botom"):
        runs_of(load_table(path), "small", [("kd", "reviews")], path)
    assert raykd(["reproduce", str(path), "--seeds", "0"]) == 2
    assert "--seeds 0: give at least 1" in capsys.readouterr().err


def test_a_row_without_init_is_refused_in_a_run_whose_rows_have_inits(tmp_path):
    rows = table_values()["rows"]
    rows["any"] = {"title": "Any", "run": "kd", "variant": "direct"}
    with pytest.raises(InputError, match=r"rows.any: needs an init, as row 'kd' of the same run"):
        load_table(written(tmp_path, rows=rows))
    rows["any"]["init"] = "skip"
    load_table(written(tmp_path, rows=rows))


def test_a_run_trains_only_the_students_of_its_selected_rows(tmp_path):
    path = written(tmp_path)
    table = load_table(path)
    runs = runs_of(table, "small", selected(table, "small", [], "t"), path)
    assert [(run.name, run.column) for run in runs] == [("plain", "reviews"), ("kd", "reviews")]
    plain, kd = (run.recipe for run in runs)
    assert (plain.adaptation.objective.name, plain.student.inits) == ("fine_tune", ("random",))
    assert (kd.adaptation.objective.name, kd.student.inits) == ("vanilla_kd", ("bottom",))
    assert plain.task.train == str(tmp_path / "train.jsonl")
    only = runs_of(table, "small", [("kd", "reviews")], path, num_seeds=5)
    assert [run.recipe.seeds for run in only] == [(1, 2, 3, 4, 5)]


def test_runs_of_a_column_that_are_scored_on_different_rows_are_refused(tmp_path):
    runs = table_values()["runs"]
    runs["kd"]["task"] = {"dev": "other.jsonl"}
    path = written(tmp_path, runs=runs)
    cells = [("random", "reviews"), ("kd", "reviews")]
    with pytest.raises(InputError, match=r"run 'kd', column 'reviews': .* 'plain' in task.dev,"):
        runs_of(load_table(path), "small", cells, path)
    runs["kd"]["task"] = {"train": "more.jsonl", "max_train_rows": 10}
    path = written(tmp_path, runs=runs)
    assert len(runs_of(load_table(path), "small", cells, path)) == 2
    runs["kd"]["evaluation"] = {"sets": [{"name": "hard", "path": "hard.jsonl"}]}
    # The table shows no scores on it.
    path = written(tmp_path, runs=runs)
    assert len(runs_of(load_table(path), "small", cells, path)) == 2
    runs["plain"]["evaluation"] = {"sets": [{"name": "hard", "path": "easy.jsonl"}]}
    columns = table_values()["columns"]
    columns["hard"] = {"title": "Hard rows", "of": "reviews", "set": "hard"}
    path = written(tmp_path, runs=runs, columns=columns)
    with pytest.raises(InputError, match=r"differs from the run 'plain' in evaluation.sets,"):
        runs_of(load_table(path), "small", cells, path)


def test_a_recipe_that_is_not_valid_is_refused_before_any_run(tmp_path):
    runs = table_values()["runs"]
    runs["kd"] = {"adaptation": {"objective": {"name": "vanila_kd"}}}
    path = written(tmp_path, runs=runs)
    table = load_table(path)
    with pytest.raises(InputError, match=r"run 'kd', column 'reviews': .*vanila_kd"):
        runs_of(table, "small", selected(table, "small", [], "t"), path)


@pytest.mark.parametrize(
    ("mean", "state"), [(71.0, "OK"), (69.0, "OK"), (72.0, "near"), (68.0, "near"), (72.1, "off")]
)
def test_scores_are_ok_within_the_tolerance_and_near_within_twice_of_it(mean, state):
    assert state_of(mean, 70.0, 1.0) == state
    assert state_of(mean, None, 1.0) == "new"


def example() -> ReproducedTable:
    columns = [
        TableColumn(name="cola", title="CoLA", metric="matthews"),
        TableColumn(name="mrpc", title="MRPC", metric="f1"),
    ]
    done = [
        Cell(column="cola", mean=40.0, deviation=1.25, num_seeds=3, paper=42.0, training_s=10.0),
        Cell(column="mrpc", mean=83.0, deviation=0.5, num_seeds=3, paper=88.0, training_s=30.0),
    ]
    failed = Cell(column="cola", state="failed", reason="<b>no loss</b>")
    return ReproducedTable(
        name="example",
        title="Students | all",
        paper="A paper, Table 1",
        paper_url="https://example.org/?a=1&b=2",
        paper_note=None,
        profile="small",
        columns=columns,
        rows=[
            TableRow(name="a", title="A", cells=done),
            TableRow(name="b", title="B|C", cells=[failed, Cell(column="mrpc", mean=80.0)]),
        ],
        expected_source=None,
        versions={"torch": "2.13.0"},
    )


def test_averages_are_those_of_complete_rows():
    whole, part = example().rows
    assert (whole.average, whole.paper_average, whole.training_s) == (61.5, 65.0, 20.0)
    assert (part.average, part.paper_average, part.training_s) == (None, None, None)


def test_markdown_has_our_score_its_deviation_and_the_papers_value():
    lines = markdown(example()).splitlines()
    assert "| A | 40.0 ± 1.2 (42.0) | 83.0 ± 0.5 (88.0) | 61.5 (65.0) | 20 |" in lines
    assert "| B\\|C | failed | 80.0 | - | - |" in lines
    assert "Failed: B|C, cola: <b>no loss</b>" in lines


def test_a_difference_is_better_or_worse_only_if_its_interval_excludes_0():
    texts = [
        difference_text(Difference(mean=mean, low=low, high=high))
        for mean, low, high in ((1.5, 0.25, 2.0), (-3.0, -4.0, -2.0), (0.5, -1.0, 2.0), (0, 0, 0))
    ]
    assert texts == [
        "+1.5 (+0.2 to +2.0) better",
        "-3.0 (-4.0 to -2.0) worse",
        "+0.5 (-1.0 to +2.0)",
        "0.0 (0.0 to 0.0)",
    ]


def test_rows_are_shown_with_their_difference_to_another_row():
    table = example()
    first, second = table.rows
    gap = Difference(mean=3.0, low=1.0, high=5.0)
    cells = [first.cells[0], first.cells[1].model_copy(update={"differences": {"b": gap}})]
    first = first.model_copy(update={"compared_with": ["b"], "cells": cells})
    table = table.model_copy(update={"rows": [first, second]})
    assert "| A - B\\|C | - | +3.0 (+1.0 to +5.0) better |" in markdown(table).splitlines()
    assert "compared with B|C" in page(table)
    assert "Difference" not in page(example())


def test_a_row_is_not_compared_with_itself_or_an_unknown_row(tmp_path):
    for other, given in (("kd", "kd"), ("kdd", "kdd"), ("kd", ["teacher", "kd"])):
        rows = table_values()["rows"]
        rows["kd"]["compared_with"] = given
        with pytest.raises(InputError, match=rf"kd.compared_with: there is no '{other}'"):
            load_table(written(tmp_path, rows=rows))


def test_the_page_escapes_texts_and_marks_the_best_score_of_each_column():
    text = page(example())
    assert "&lt;b&gt;no loss&lt;/b&gt;" in text
    assert "<b>no loss" not in text
    assert text.count('class="best"') == 2
    assert "paper: 42.0" in text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"variant": "direct"}, "direct has no injection"),
        ({"variant": "random"}, "tinybert does not train the classifier"),
    ],
)
def test_a_score_before_adaptation_that_cannot_exist_is_refused(tmp_path, row, message):
    values = table_values()
    small = values["profiles"]["small"]
    small["recipe"]["injection"] = {"objective": {"name": "tinybert"}}
    small["recipe"] |= {"corpus": {"paths": ["train.jsonl"]}, "retrieval": {"top_k": 1}}
    values["rows"]["kd"] = {"title": "KD", "run": "kd", "stage": "injected", **row}
    path = written(tmp_path, rows=values["rows"], profiles=values["profiles"])
    table = load_table(path)
    with pytest.raises(InputError, match=message):
        runs_of(table, "small", selected(table, "small", ["kd"], "t"), path)


def test_runs_of_equal_settings_are_refused_where_they_share_a_variant(tmp_path):
    runs = table_values()["runs"]
    rows = table_values()["rows"]
    runs["kd"] = runs["plain"]
    rows["kd"]["init"] = "random"
    path = written(tmp_path, runs=runs, rows=rows)
    table = load_table(path)
    with pytest.raises(InputError, match=r"runs 'plain' and 'kd', column 'reviews': the same set"):
        runs_of(table, "small", selected(table, "small", [], "t"), path)
    rows["kd"] = {"title": "TF-IDF", "run": "kd", "variant": "tfidf"}
    path = written(tmp_path, runs=runs, rows=rows)
    table = load_table(path)
    assert len(runs_of(table, "small", selected(table, "small", [], "t"), path)) == 2


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_run_of_the_tables_of_the_project_is_a_valid_recipe(path):
    table = load_table(path)
    assert table.name == path.stem
    for profile in table.profiles:
        cells = selected(table, profile, [], str(path))
        runs = runs_of(table, profile, cells, path)
        assert len(runs) >= len(table.profiles[profile].columns)


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_runs_of_a_column_with_equal_students_differ_by_their_objective_alone(path):
    table = load_table(path)
    for profile in table.profiles:
        runs = runs_of(table, profile, selected(table, profile, [], str(path)), path)
        settings = {}
        for run in runs:
            adaptation = run.recipe.adaptation
            # A generator takes turns with the student, whose steps are as many as the others'.
            assert adaptation.num_steps is None or hasattr(adaptation.objective, "generator")
            values = adaptation.model_dump(mode="json", exclude={"objective", "num_steps"})
            same_student = (run.column, run.recipe.student.num_layers)
            settings.setdefault(same_student, []).append((values, run.recipe.teacher))
        for equal in settings.values():
            assert all(one == equal[0] for one in equal)
