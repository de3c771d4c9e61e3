"""Runs of a table whose folders several processes use."""

import threading

from raykd.workflow.reproduce.reproduction import alone_in


def test_a_run_that_another_process_makes_is_waited_for(tmp_path, capsys):
    folder = tmp_path / "reviews" / "kd"
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
    with alone_in(tmp_path / "reviews" / "plain"):  # another run is not
        second.join(timeout=0.3)
    assert second.is_alive()
    may_end.set()
    first.join(timeout=20)
    second.join(timeout=20)
    assert were_ended == [True]
    assert "waiting for another process" in "".join(capsys.readouterr())
