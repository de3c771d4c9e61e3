"""Order in which a training reports its events, and what it writes before."""

from event_handlers import calling
from killed_training import job_in

from raykd.training.logging.metrics_writer import CURVE_FILE, STEPS_FILE
from raykd.training.phase.run import run_phase
from raykd.training.trainers import Worker


def test_a_phase_reports_its_start_each_step_and_each_record_in_order(tmp_path):
    job = job_in(tmp_path, "fine_tune")
    events = []
    run_phase(
        job,
        Worker(),
        events=calling(
            on_start=lambda step, position: events.append(("start", step, dict(position))),
            on_step=lambda step: events.append(("step", step)),
            on_step_records=lambda records: events.extend(("log", r.step) for r in records),
            on_record=lambda record, is_last: events.append(("record", record.step, is_last)),
        ),
    )

    assert events[0] == ("start", 0, {})
    assert [event for event in events if event[0] == "record"] == [
        ("record", 15, False),
        ("record", 30, False),
        ("record", 45, True),
    ]
    for kind in ("step", "log"):
        assert [step for name, step, *_ in events if name == kind] == list(range(1, 46))
    # The records of an epoch's steps come before the epoch's own record.
    assert (
        events.index(("step", 15)) < events.index(("log", 15)) < events.index(("record", 15, False))
    )


def test_records_are_in_the_metrics_files_when_a_handler_gets_them(tmp_path):
    job = job_in(tmp_path, "fine_tune")
    num_lines = []

    def count(name: str) -> int:
        return len((job.unfinished / name).read_text().splitlines())

    run_phase(
        job,
        Worker(),
        events=calling(
            on_step_records=lambda records: num_lines.append((count(STEPS_FILE), records[-1].step)),
            on_record=lambda record, _: num_lines.append((count(CURVE_FILE), record.step // 15)),
        ),
    )

    assert len(num_lines) == 9
    assert all(written == expected for written, expected in num_lines)
