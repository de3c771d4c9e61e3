"""Runs of a table whose folders several processes use."""

import threading

from test_table import written

from raykd.storage.manifest import Draft, write_once
from raykd.storage.working_files import files_below
from raykd.workflow.reproduce import shared_outputs
from raykd.workflow.reproduce.cells import runs_of
from raykd.workflow.reproduce.reproduction import alone_in
from raykd.workflow.reproduce.shared_outputs import take_over
from raykd.workflow.reproduce.table import load_table


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


def test_an_output_that_is_replaced_while_it_is_taken_over_is_left_out(tmp_path, monkeypatch):
    def write(draft: Draft) -> None:
        (draft.directory / "train.parquet").write_text("rows")

    path = written(tmp_path)
    [run] = runs_of(load_table(path), "small", [("kd", "reviews")], path)
    other, out = tmp_path / "other", tmp_path / "out"
    write_once(other / "task", "task", {}, {}, write)
    write_once(other / "units", "ingest", {}, {}, write)

    def files_of_before(folder):
        yield from files_below(folder)
        if folder.name == "task":
            yield folder / "dev.parquet"

    monkeypatch.setattr(shared_outputs, "files_below", files_of_before)
    take_over([(other, run.recipe)], out, run.recipe)
    assert [path.name for path in out.iterdir()] == ["units"]
    assert (out / "units" / "train.parquet").samefile(other / "units" / "train.parquet")
