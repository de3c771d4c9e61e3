"""The lock of a run directory, in threads and real processes."""

import subprocess
import sys
import threading

from raykd.storage.outputs import alone_in

HOLDER = """
import sys, time
from pathlib import Path
from raykd.storage.outputs import alone_in
with alone_in(Path(sys.argv[1])):
    print("entered", flush=True)
    time.sleep(60)
"""


def test_a_run_that_another_process_makes_is_waited_for(tmp_path, capsys):
    folder, other = tmp_path / "kd", tmp_path / "plain"
    folder.mkdir()
    other.mkdir()
    entered, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def make() -> None:
        with alone_in(folder):
            entered.set()
            may_end.wait(timeout=20)
            ended.set()

    def make_later(were_ended: list[bool]) -> None:
        with alone_in(folder):
            were_ended.append(ended.is_set())

    were_ended: list[bool] = []
    first = threading.Thread(target=make)
    second = threading.Thread(target=make_later, args=[were_ended])
    first.start()
    assert entered.wait(timeout=20)
    second.start()
    with alone_in(other):  # another run is not
        second.join(timeout=0.3)
    assert second.is_alive()
    may_end.set()
    first.join(timeout=20)
    second.join(timeout=20)
    assert were_ended == [True]
    assert "waiting for another process" in "".join(capsys.readouterr())


def test_a_process_enters_a_run_again_that_it_is_in(tmp_path):
    with alone_in(tmp_path), alone_in(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_the_lock_of_a_killed_process_is_free(tmp_path, capsys):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "entered\n"
    entered = threading.Event()

    def enter() -> None:
        with alone_in(tmp_path):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.wait(timeout=0.3)
    holder.kill()
    assert entered.wait(timeout=20)
    waiting.join()
    holder.wait()
    assert capsys.readouterr().err.count("waiting for another process") == 1


def test_a_folder_without_locks_is_entered(tmp_path):
    (tmp_path / ".lock").mkdir()  # cannot be opened as a file
    with alone_in(tmp_path):
        pass
