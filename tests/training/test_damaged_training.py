"""Changed and missing bytes in an unfinished training's files: never used, never a crash."""

import random
import shutil
import time
from pathlib import Path

import pytest
from event_handlers import calling
from killed_training import job_in, killed

from raykd.training.logging.metrics_writer import (
    CURVE_FILE,
    STEPS_FILE,
    MetricsWriter,
    damage_before,
)
from raykd.training.logging.records import Record
from raykd.training.phase.job import MODEL_FOLDER, PhaseJob
from raykd.training.phase.run import run_phase
from raykd.training.recovery import report_resume_point
from raykd.training.trainers import Worker

_RESULTS = (STEPS_FILE, CURVE_FILE, f"{MODEL_FOLDER}/model.safetensors")


class StoppedError(Exception):
    """Interruption of a training."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[PhaseJob, PhaseJob, Path]:
    """Completed job, the same job stopped, and its files: two checkpoints, two logs."""
    completed = job_in(tmp_path_factory.mktemp("trained"), "fine_tune")
    run_phase(completed, Worker())
    stopped = killed(completed)
    # After the first epoch, which flushes the log, and ten steps later, when it is full.
    second = stopped.unfinished / "step-000000025"

    def stop_at_30(step: int) -> None:
        if step == 30:
            deadline_s = time.monotonic() + 60
            while not second.is_dir():  # written by a thread
                assert time.monotonic() < deadline_s, f"no {second}"
                time.sleep(0.01)
            raise StoppedError

    with pytest.raises(StoppedError):
        run_phase(stopped, Worker(), checkpoint_every_s=0, events=calling(on_step=stop_at_30))
    files_left = stopped.unfinished.rename(stopped.unfinished.with_name("left"))
    return completed, stopped, files_left


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Change one bit of the content, or cut off its end."""
    at = chance.randrange(len(content))
    if chance.random() < 0.5:
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_do_not_change_the_result_of_a_resumed_training(trained, capsys, seed):
    completed, stopped, files_left = trained
    chance = random.Random(seed)
    names = sorted(path.relative_to(files_left) for path in files_left.rglob("*") if path.is_file())
    assert len(names) == 8, names
    # One file or all: the older checkpoint is used, or none.
    for damaged_names in (names, [chance.choice(names)], [chance.choice(names)]):
        shutil.rmtree(stopped.unfinished, ignore_errors=True)
        shutil.rmtree(stopped.out, ignore_errors=True)
        shutil.copytree(files_left, stopped.unfinished)
        for name in damaged_names:
            content = _damaged((files_left / name).read_bytes(), chance)
            (stopped.unfinished / name).write_bytes(content)

        report_resume_point(stopped, num_threads=1)
        run_phase(stopped, Worker(), checkpoint_every_s=0)

        if damaged_names == names:
            assert "damaged" in capsys.readouterr().err
        for result in _RESULTS:
            assert (stopped.out / result).read_bytes() == (completed.out / result).read_bytes()


@pytest.mark.parametrize("name", [STEPS_FILE, CURVE_FILE])
def test_each_damaged_byte_of_a_log_before_a_checkpoint_is_detected_and_reported(
    trained, tmp_path, name
):
    _, stopped, files_left = trained
    folder = tmp_path / "unfinished"
    shutil.copytree(files_left, folder)
    checkpoints = stopped.checkpoints(0)
    checkpoints.folder = folder
    step, notes = checkpoints.find()
    assert step is not None
    assert notes == []
    position = checkpoints.read_state(step)["journal"]
    content = (folder / name).read_bytes()
    end = position[name]["num_bytes"]
    assert 0 < end <= len(content)
    for at in range(0, end, 7):
        (folder / name).write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        assert damage_before(folder, position) == name
        (folder / name).write_bytes(content[:at])
        assert damage_before(folder, position) == name

    (folder / name).write_bytes(b"?" + content[1:])
    step, (newer, older) = checkpoints.find()
    assert step is None
    assert f"{folder / name}: damaged before step" in newer
    assert f"{folder / name}: damaged before step" in older


def test_log_lines_after_the_resumed_step_are_dropped_unread(tmp_path):
    metrics_writer = MetricsWriter(tmp_path)
    metrics_writer.write(Record(1.0, 10, 0.1, {"total": 2.0}))
    position = metrics_writer.position()
    before = (tmp_path / CURVE_FILE).read_bytes()
    with (tmp_path / CURVE_FILE).open("ab") as file:
        file.write(b"\xff{no JSON\n")

    resumed = MetricsWriter(tmp_path)
    resumed.truncate(10, position)

    assert (tmp_path / CURVE_FILE).read_bytes() == before
    assert resumed.position() == position
