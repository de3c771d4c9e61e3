from raykd.collect import _points
from raykd.training.journal import CURVE_FILE
from raykd.training.records import Record


def test_a_measure_that_is_no_number_is_left_out_of_the_results(tmp_path):
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
    assert [point.measures for point in _points(tmp_path)] == [{"gap": 0.25}, {}]
