import json

import pytest
from plotly.graph_objects import Figure
from test_page import ATTACK, Page, results

from raykd.evaluation.analysis import Divergence, LayerSimilarity
from raykd.report.charts import curve_figures, score_figure
from raykd.report.diagnostics import (
    divergence_figures,
    divergence_table,
    layer_figures,
    measure_figures,
)
from raykd.report.page import render
from raykd.report.results import Analysis, Curve, CurvePoint, Results

SECTION = "Students compared with the teacher"
TEACHER = "The teacher\N{RIGHT SINGLE QUOTATION MARK}s"


def analysis(variant, seed, mean, *, init="random", measure="cosine", **changes):
    values = {
        "variant": variant,
        "init": init,
        "seed": seed,
        "divergence": Divergence(
            measure="kl",
            mean=mean,
            median=mean / 2,
            percentile_90=2 * mean,
            lower_edges=[0.0, 0.1, 1.0],
            counts=[1, 2, 5],
        ),
        "layers": LayerSimilarity(
            measure=measure, num_rows=1000, values=[[0.5, 0.25, -0.125], [0.0, 0.75, 1.0]]
        ),
    }
    return Analysis(**values | changes)


def curve(variant, seed, *measures, phase="injection"):
    return Curve(
        variant=variant,
        init="random",
        seed=seed,
        phase=phase,
        points=[
            CurvePoint(step=10 * epoch, epoch=epoch, losses={"total": 1.0}, measures=found)
            for epoch, found in enumerate(measures, start=1)
        ],
    )


def learned(*, analyses=(), curves=(), **changes):
    found = {"analyses": list(analyses), "curves": list(curves)} | changes
    return results().model_copy(update=found)


ANALYSES = (
    analysis("alone", 1, 0.5),
    analysis("alone", 2, 0.7),
    analysis("contextualized", 1, 0.1),
    analysis("contextualized", 2, 0.1001),
)
MEASURES = (
    curve("random", 1, {"gap": 0.5, "attention_1_2": 0.25, "attention_1_1": 0.75}, {"gap": 0.25}),
    curve("random", 2, {"gap": 0.75}, {"gap": 0.5}),
    curve("contextualized", 1, {"teacher_layer_1": 2.0}, {"teacher_layer_1": 5.0}),
)


def test_divergences_are_means_over_seeds_with_their_spread():
    (group,) = divergence_table(learned(analyses=ANALYSES))
    assert group["title"] == "initialized at random"
    # The deviation of 0.5 and 0.7 is 0.2 / sqrt(2); that of 0.1 and 0.1001 is below the digits.
    assert [(row["title"], row["values"], row["num_seeds"]) for row in group["rows"]] == [
        ("Student alone", ["0.600 ± 0.141", "0.300 ± 0.071", "1.200 ± 0.283"], 2),
        (
            "Distilled on the contextualized corpus",
            ["0.100 ± <0.001", "0.050 ± <0.001", "0.200 ± <0.001"],
            2,
        ),
    ]


def test_one_seed_has_no_deviation_and_inits_are_separate():
    given = [analysis("alone", 1, 0.0), analysis("alone", 1, 0.25, init="top")]
    first, second = divergence_table(learned(analyses=given))
    assert first["rows"][0]["values"] == ["0.000", "0.000", "0.000"]
    assert (second["title"], second["rows"][0]["values"][0]) == (
        "from the last layers",
        "0.250",
    )
    captions = [caption for caption, _ in divergence_figures(learned(analyses=given))]
    assert captions[0].startswith("Student initialized at random: rows")
    assert captions[1].startswith("Student from the last layers: rows")


def test_shares_of_rows_grow_with_the_divergence():
    ((caption, figure),) = divergence_figures(learned(analyses=ANALYSES))
    assert caption.startswith("Rows")
    # 1 of 8 rows below 0.1, and 2 more below 1
    assert figure["data"][0]["x"] == [0.1, 1.0]
    assert figure["data"][0]["y"] == [12.5, 37.5]
    assert [line["showlegend"] for line in figure["data"]] == [True, False, True, False]


def test_layers_are_drawn_for_the_first_seed_of_each_student():
    given = [*ANALYSES, analysis("random", 1, 0.2, layers=None)]
    figures = layer_figures(learned(analyses=given))
    assert [caption for caption, _ in figures] == [
        "alone, seed 1: cosine",
        "contextualized, seed 1: cosine",
    ]
    (cells,) = figures[0][1]["data"]
    assert cells["z"] == [[0.5, 0.25, -0.125], [0.0, 0.75, 1.0]]
    assert (cells["x"], cells["y"]) == ([1, 2, 3], [1, 2])
    assert (cells["zmin"], cells["zmax"]) == (-0.125, 1.0)


def test_measures_are_lines_and_those_of_layers_heat_maps():
    figures = measure_figures(learned(curves=MEASURES))
    assert [(phase, caption) for phase, caption, _ in figures] == [
        ("injection", "gap"),
        ("injection", "random text, seed 1: attention in epoch 1"),
        ("injection", "contextualized, seed 1: teacher_layer"),
    ]
    gap, attention, drawn = (figure["data"] for _, _, figure in figures)
    assert [(line["x"], line["y"]) for line in gap] == [
        ([1.0, 2.0], [0.5, 0.25]),
        ([1.0, 2.0], [0.75, 0.5]),
    ]
    assert (attention[0]["x"], attention[0]["y"], attention[0]["z"]) == (
        [1, 2],
        [1],
        [[0.75, 0.25]],
    )
    assert (drawn[0]["x"], drawn[0]["y"], drawn[0]["z"]) == ([1.0, 2.0], [1], [[2.0, 5.0]])
    assert drawn[0]["zmax"] == 5.0


def test_cells_without_room_show_no_number():
    layers = LayerSimilarity(measure="cosine", num_rows=9, values=[[0.5] * 24])
    ((_, figure),) = layer_figures(learned(analyses=[analysis("alone", 1, 0.1, layers=layers)]))
    assert not figure["data"][0]["texttemplate"]
    assert figure["data"][0]["showscale"]
    assert figure["layout"]["xaxis"]["tickvals"] == list(range(1, 25, 2))


@pytest.mark.parametrize("name", [ATTACK, "quickstart"])
def test_every_figure_is_valid_for_plotly(name):
    given = learned(
        analyses=[*ANALYSES, analysis(name, 1, 0.1)],
        curves=[*MEASURES, curve(name, None, {name: 0.5}, phase="adaptation")],
    )
    figures = json.loads(Page(render(given)).scripts[0])
    kinds = {place.partition("-")[0] for place in figures}
    assert kinds == {"scores", "curve", "divergence", "layers", "measure"}
    for figure in figures.values():
        Figure(figure)


def test_every_figure_has_its_place_on_the_page():
    page = Page(render(learned(analyses=ANALYSES, curves=MEASURES)))
    places = {attributes["id"] for tag, attributes in page.tags if "id" in attributes}
    assert set(json.loads(page.scripts[0])) == places - {"figures"}


def test_the_section_explains_its_measures():
    text = Page(render(learned(analyses=ANALYSES, curves=MEASURES))).text
    assert f"{SECTION} {TEACHER} outputs divergence from the teacher, in nats" in text
    assert "Distilled on the contextualized corpus 0.100 ± <0.001 0.050 ± <0.001" in text
    assert "KL(teacher ‖ student)" in text
    assert "on the first 1,000 rows of the dev split" in text
    assert "The cosine is 1 if both have the same direction." in text
    assert "linear CKA" not in text
    assert "Measured in training Injection gap" in text


def test_other_widths_are_compared_by_cka():
    given = learned(analyses=[analysis("alone", 1, 0.1, measure="linear_cka")])
    text = Page(render(given)).text
    assert "alone, seed 1: linear CKA" in text
    assert "The cosine is 1" not in text


def test_a_regression_reports_squared_differences():
    given = learned(analyses=ANALYSES)
    task = given.task.model_copy(update={"regression": True})
    text = Page(render(given.model_copy(update={"task": task}))).text
    assert f"squared difference to {TEACHER.lower()} score, dev split" in text
    assert "KL(" not in text


def test_there_is_no_section_without_analyses_or_measures():
    assert SECTION not in Page(render(results())).text
    only_measures = Page(render(learned(curves=MEASURES))).text
    assert SECTION in only_measures
    assert f"{TEACHER} answers" not in only_measures
    assert f"{TEACHER} layers" not in only_measures


def test_names_of_measures_are_never_markup():
    given = learned(
        analyses=[analysis(ATTACK, 1, 0.1)], curves=[curve(ATTACK, 1, {f"{ATTACK}_1": 0.5})]
    )
    page = render(given)
    assert not any(tag == "img" for tag, _ in Page(page).tags)
    assert ATTACK not in page
    drawn = [
        *(figure for _, figure in divergence_figures(given)),
        *(figure for _, figure in layer_figures(given)),
        *(figure for _, _, figure in measure_figures(given)),
    ]
    assert "<" not in json.dumps(drawn).replace("<br>", "").replace("<extra></extra>", "")


def test_results_with_analyses_survive_their_json():
    given = learned(analyses=ANALYSES, curves=MEASURES)
    assert Results.model_validate_json(given.model_dump_json()) == given
    assert score_figure(given) == score_figure(results())
    assert curve_figures(given)
