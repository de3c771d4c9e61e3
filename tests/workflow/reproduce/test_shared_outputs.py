"""Runs of a table whose folders several processes use."""

from test_table import written

from raykd.storage.manifest import Draft, write_once
from raykd.storage.working_files import files_below
from raykd.workflow.reproduce import shared_outputs
from raykd.workflow.reproduce.cells import runs_of
from raykd.workflow.reproduce.shared_outputs import take_over
from raykd.workflow.reproduce.table import load_table


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
