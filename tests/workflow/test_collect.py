import pytest

from raykd.report.results import Score
from raykd.training.logging.metrics_writer import CURVE_FILE
from raykd.training.logging.records import Record
from raykd.workflow.collect import curve_points, summarize


def test_a_nan_measure_is_absent_from_the_results(tmp_path):
    record = Record(
        epoch=1,
        step=4,
        learning_rate=0.1,
        losses={"total": 0.5},
        measures={"gap": 0.25},
        scores={"accuracy": 0.5},
    )
    lost = Record(
        epoch=2, step=8, learning_rate=0.1, losses={"total": 0.5}, measures={"gap": float("nan")}
    )
    lines = [record.to_json(), lost.to_json()]
    (tmp_path / CURVE_FILE).write_text("\n".join(lines) + "\n")
    assert [point.measures for point in curve_points(tmp_path)] == [{"gap": 0.25}, {}]


def test_a_metric_is_summarized_over_the_seeds_of_its_variant():
    scores = [
        Score(
            variant="alone", init="random", seed=seed, stage="adapted", metrics={"accuracy": value}
        )
        for seed, value in ((1, 0.25), (2, 0.75), (3, 0.5), (4, 0.9))
    ]
    teacher = Score(
        variant="teacher", init=None, seed=None, stage="teacher", metrics={"accuracy": 0.9}
    )

    first, second = summarize([teacher, *scores])

    assert (first.variant, first.num_seeds, first.mean, first.deviation) == (
        "teacher",
        1,
        0.9,
        None,
    )
    assert (second.variant, second.num_seeds, second.median) == ("alone", 4, 0.625)
    assert second.mean == pytest.approx(0.6)
    assert second.deviation == pytest.approx(0.2857738)
