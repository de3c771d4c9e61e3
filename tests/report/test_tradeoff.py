"""Chart of scores against speed: points, front, absence."""

import json

from test_costs import STUDENTS, TEACHER, cost, measured, model
from test_page import results

from raykd.report.page import render
from raykd.report.scores import Spread
from raykd.report.tradeoff import Tradeoff, front_of, tradeoff_figure, tradeoffs


def at(rows_per_s, mean, variant="direct"):
    return Tradeoff(variant, "random", Spread.of([mean]), rows_per_s, 1_000_000)


def test_the_front_excludes_models_that_another_one_beats():
    slow_good, fast_bad, dominated = at(10, 90), at(1000, 50), at(9, 89)
    middle, equally_fast = at(100, 70), at(100, 60)
    models = [dominated, equally_fast, fast_bad, middle, slow_good]
    assert front_of(models) == [slow_good, middle, fast_bad]


def test_a_fast_model_with_the_best_score_is_the_whole_front():
    assert front_of([at(10, 80), at(100, 80), at(50, 70)]) == [at(100, 80)]


def test_each_measured_model_is_a_point_with_its_mean_and_deviation():
    found = tradeoffs(measured(TEACHER, *STUDENTS))
    assert [(t.variant, round(t.score.mean, 1), t.rows_per_s) for t in found] == [
        ("teacher", 60.0, 80.0),
        ("alone", 31.5, 1600.0),
        ("random", 41.5, 1600.0),
        ("contextualized", 46.5, 1600.0),
    ]
    figure = tradeoff_figure(measured(TEACHER, *STUDENTS))
    assert figure is not None
    line, *points = figure["data"]
    assert (line["x"], line["y"]) == ([80.0, 1600.0], [60.0, 46.5])
    assert [point["marker"]["symbol"] for point in points] == [
        "circle",
        "circle-open",
        "circle-open",
        "circle",
    ]
    assert points[1]["text"] == ["31.5 ± 0.7, 1,600 rows per second, 2.06 M parameters"]
    json.dumps(figure, allow_nan=False)


def test_models_without_a_final_score_are_left_out():
    assert len(tradeoffs(measured(TEACHER, model("unknown", cost(1.0))))) == 1


def test_the_page_has_the_chart_only_if_speeds_differ():
    assert 'id="tradeoff"' in render(measured(TEACHER, *STUDENTS))
    assert 'id="tradeoff"' not in render(measured(*STUDENTS))
    assert 'id="tradeoff"' not in render(results())
