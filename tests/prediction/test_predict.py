"""`raykd predict` on Ray: formats, order, resume, and what is refused."""

import gzip
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calibrations import CALIBRATION
from tiny_models import save_tiny_classifier

import raykd
from raykd.cli.app import _exit_code as run
from raykd.errors import InputError
from raykd.models.calibration import write_calibration
from raykd.prediction import parts, pipeline
from raykd.storage.manifest import read_manifest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
NAMES = ("good", "bad", "fine", "poor", "film", "book", "plot")


def rows_of(number):
    return [
        {"text": f"{NAMES[i % 7]} {NAMES[i % 5]} " * (1 + i % 9), "id": i} for i in range(number)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_classifier(tmp_path_factory.mktemp("model"))


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(out):
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))])


def bytes_of(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


def test_files_of_all_formats_are_predicted_in_their_order(model, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    rows = rows_of(60)
    pq.write_table(pa.Table.from_pylist(rows[:10]), data / "a.parquet")
    write_jsonl(data / "b.jsonl", rows[10:20])
    (data / "c.csv").write_text(
        "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows[20:30])
    )
    (data / "d.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows[30:40]).encode())
    )
    (data / "e.txt").write_text("".join(row["text"] + "\n\n" for row in rows[40:50]))
    pq.write_table(pa.Table.from_pylist(rows[50:]), data / "f.parquet")
    out = tmp_path / "out"
    assert run(["predict", str(model), "--data", str(data), "--out", str(out)]) == 0
    found = read(out)
    assert found.column_names == ["text", "id", "prediction", "probability", "probabilities"]
    assert found["text"].to_pylist() == [row["text"] for row in rows]
    # A CSV file has strings, and a text file no ids.
    expected = [None if 40 <= i < 50 else str(i) for i in range(60)]
    assert found["id"].to_pylist() == expected
    assert "60 rows in 1 file" in capsys.readouterr().out
    counts = found["prediction"].value_counts().to_pylist()
    manifest = read_manifest(out)
    assert {e["values"]: e["counts"] for e in counts} == {
        label: number for label, number in pipeline.counts_by_label(manifest).items() if number
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_the_bytes_depend_on_neither_names_nor_earlier_parts(model, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_MIN_ROWS", 100)
    data = write_jsonl(tmp_path / "rows.jsonl", rows_of(1000))
    command = ["predict", str(model), "--data", str(data), "--out"]
    assert run([*command, str(tmp_path / "whole")]) == 0
    assert len(bytes_of(tmp_path / "whole")) == 10

    link, linked = pipeline._link, []

    def fails_after_three(source, target):
        if len(linked) == 3:
            raise KeyboardInterrupt
        linked.append(link(source, target))

    monkeypatch.setattr(pipeline, "_link", fails_after_three)
    assert run([*command, str(tmp_path / "again")]) == 130
    assert not (tmp_path / "again").exists()
    folder = tmp_path / ".again.parts"
    done = sorted(folder.rglob("part.parquet"))
    assert len(done) == 10
    times = [path.stat().st_mtime_ns for path in done[1:]]
    shutil.rmtree(done[0].parent)
    monkeypatch.setattr(pipeline, "_link", link)
    copied = shutil.copy(data, tmp_path / "other name.jsonl")
    kept = [path.stat().st_mtime_ns for path in sorted(folder.rglob("part.parquet"))]
    assert kept == times
    assert (
        run(["predict", str(model), "--data", str(copied), "--out", str(tmp_path / "again")]) == 0
    )
    assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "whole")
    assert list(tmp_path.glob(".again*")) == []


def test_a_second_command_changes_nothing(model, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", rows_of(20))
    command = ["predict", str(model), "--data", str(data), "--out", str(tmp_path / "out")]
    assert run(command) == 0
    times = [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()]
    assert run(command) == 0
    assert [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()] == times


def test_unreadable_rows_are_listed_and_too_many_refused(model, tmp_path, capsys):
    rows = [json.dumps(row) for row in rows_of(200)]
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text("\n".join([*rows, '{"text": 7}', '{"text": null, "id": 8}']))
    assert run(["predict", str(model), "--data", str(data), "--out", str(out)]) == 0
    assert pq.read_table(out / "quarantine.parquet")["reason"].to_pylist() == [
        "'text' is not a string but int"
    ]
    assert read(out).num_rows == 201
    printed = capsys.readouterr().out
    assert "unreadable rows: 1" in printed
    assert "without text, not predicted: 1" in printed
    data.write_text("\n".join([*rows, "no json", "no json", "no json"]))
    assert run(["predict", str(model), "--data", str(data), "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert "3 of 203 rows cannot be read" in error
    assert f"{data}, line 201: not JSON" in error
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_predicted_is_refused_before_work(model, tmp_path, capsys):
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"body": "good"}])
    labeled = write_jsonl(tmp_path / "labeled.jsonl", [{"text": "good", "prediction": "x"}])
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    lines = tmp_path / "lines.txt"
    lines.write_text("good\n")
    bare = tmp_path / "bare"
    bare.mkdir()
    for data, options, message in [
        (rows, [], "no key 'text' (keys: 'body')"),
        (labeled, [], "already has a column 'prediction'; choose a beginning"),
        (empty, [], "there are no rows to predict"),
        (lines, ["--text-columns", "body"], "the lines of a text file are its only column"),
        (lines, ["--device", "gpu"], "Ray has no GPU"),
        (lines, ["--threshold", "2"], "the threshold is 2"),
    ]:
        out = tmp_path / "out"
        command = ["predict", str(model), "--data", str(data), "--out", str(out), *options]
        assert run(command) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
    assert run(["predict", str(bare), "--data", str(lines), "--out", str(tmp_path / "out")]) == 2


def test_a_prefix_keeps_two_models_apart_and_pairs_and_embeddings_are_written(model, tmp_path):
    rows = [{"q": "good film", "a": "bad plot", "prediction": "mine"}]
    data, out = write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    found = raykd.predict(
        data, model, out, text_columns=["q", "a"], prefix="student_", with_embeddings=True
    )
    assert found == out
    table = read(out)
    assert table.column_names == [
        *("q", "a", "prediction", "student_prediction", "student_probability"),
        *("student_probabilities", "student_embedding"),
    ]
    assert table["prediction"].to_pylist() == ["mine"]
    assert len(table["student_embedding"][0]) == 24


def test_the_file_for_the_glue_server_has_the_predictions_in_order(tmp_path, capsys):
    labels = ("contradiction", "entailment", "neutral")
    model = save_tiny_classifier(tmp_path / "model", labels=labels)
    rows = [{"premise": row["text"], "hypothesis": "good film"} for row in rows_of(1104)]
    data, out = write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    command = ["predict", str(model), "--data", str(data), "--out", str(out), "--glue"]
    assert run([*command, "ax"]) == 0
    _, *lines = (out / "AX.tsv").read_text().splitlines()
    expected = read(out)["prediction"].to_pylist()
    assert [line.split("\t") for line in lines] == [[str(i), x] for i, x in enumerate(expected)]
    assert run([*command, "rte"]) == 2
    assert "give a model of 'rte'" in capsys.readouterr().err


def test_a_dataset_of_ray_data_gets_the_columns_of_the_command(model, tmp_path):
    import ray

    rows = rows_of(50)
    data, out = write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    raykd.predict(data, model, out)
    dataset = raykd.predict(ray.data.from_items(rows), str(model))
    found = pa.concat_tables([ray.get(ref) for ref in dataset.to_arrow_refs()])
    assert found.sort_by("id").to_pylist() == read(out).to_pylist()
    with pytest.raises(InputError, match="the dataset: column 'id' has type int64, text is"):
        raykd.predict(ray.data.from_items(rows), str(model), text_columns=["id"])


def test_a_wanted_precision_marks_rows_below_its_threshold(tmp_path, capsys):
    model = save_tiny_classifier(tmp_path / "model", labels=CALIBRATION.labels)
    data = write_jsonl(tmp_path / "rows.jsonl", rows_of(30))
    command = ["predict", str(model), "--data", str(data), "--precision", "0.95"]
    assert run([*command, "--out", str(tmp_path / "out")]) == 2
    assert "has no calibration, so the threshold is unknown" in capsys.readouterr().err
    write_calibration(model, CALIBRATION)
    assert run([*command, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "probabilities are calibrated on 120 dev rows: temperature 1.75" in printed.err
    assert "precision 0.95: threshold 0.8; of held-out dev rows it answers" in printed.err
    table = read(tmp_path / "out")
    probabilities = table["probability"].to_pylist()
    uncertain = [value < 0.8 for value in probabilities]
    assert table["is_uncertain"].to_pylist() == uncertain
    assert f"uncertain, below 0.8: {sum(uncertain)} (" in printed.out
    # Without the temperature the same folder is written again, with other probabilities.
    without = ["predict", str(model), "--data", str(data), "--out", str(tmp_path / "out")]
    assert run([*without, "--uncalibrated"]) == 0
    own = read(tmp_path / "out")
    assert own["prediction"].equals(table["prediction"])
    assert own["probability"].to_pylist() != probabilities
    assert run([*command, "--out", str(tmp_path / "out"), "--uncalibrated"]) == 2
    assert "leave out uncalibrated, or give a threshold" in capsys.readouterr().err
