from raykd.collect import _points
from raykd.training.loop import EpochRecord
from raykd.training.phases import CURVE_FILE


def test_a_measure_that_is_no_number_is_left_out_of_the_results(tmp_path):
    record = EpochRecord(
        epoch=1, step=4, learning_rate=0.1, losses={"total": 0.5}, measures={"gap": 0.25}
    )
    lost = EpochRecord(
        epoch=2, step=8, learning_rate=0.1, losses={"total": 0.5}, measures={"gap": float("nan")}
    )
    lines = [record.to_json(scores={"accuracy": 0.5}), lost.to_json(scores={})]
    (tmp_path / CURVE_FILE).write_text("\n".join(lines) + "\n")
    assert [point.measures for point in _points(tmp_path)] == [{"gap": 0.25}, {}]
