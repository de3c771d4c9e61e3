"""Files of a teacher's scores: every form gives the same logits, every mistake one clear error."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raykd.errors import InputError
from raykd.storage.manifest import read_manifest
from raykd.tasks.config import TaskConfig
from raykd.tasks.store import write_task
from raykd.training.scores.config import ScoresConfig
from raykd.training.scores.outputs import Member, ScoresJob, has_outputs, outputs_on
from raykd.training.scores.values import FLOOR, logits_of

TASK = {"name": "mine", "train": "train.csv", "dev": "dev.csv", "sentence_columns": ["text"]}
TRAIN = "id,text,label\n7,a film,good\n8,a book,bad\n9,a plot,good\n"
DEV = "id,text,label\n7,an actor,good\n8,a scene,bad\n"
# Of the three training rows: bad 0.2, 0.75 and 0; good 0.8, 0.25 and 1.
LOG4, LOG3, LOG_FLOOR = np.log(4.0), np.log(3.0), np.log(FLOOR)
LOGITS = np.array(
    [[-LOG4 / 2, LOG4 / 2], [LOG3 / 2, -LOG3 / 2], [LOG_FLOOR / 2, -LOG_FLOOR / 2]], np.float32
)
WIDE = "text,good,bad\na book,0.25,0.75\na plot,1,0\na film,0.8,0.2\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "dev.csv").write_text(DEV)
    return tmp_path


def outputs(
    folder: Path,
    content: str | pa.Table,
    name: str = "scores.csv",
    *,
    order: tuple[str, ...] | None = None,
    task: dict | None = None,
    out: str = "teacher",
    others: tuple[Member, ...] = (),
    **settings,
) -> np.ndarray:
    """Write a file of scores, and return the logits of the training rows."""
    if isinstance(content, str):
        (folder / name).write_text(content)
    else:
        pq.write_table(content, folder / name)
    config = TaskConfig.model_validate(TASK | (task or {}))
    write_task(config, lambda path: folder / path, folder / "task")
    scores = ScoresConfig.model_validate({"paths": [name], **settings})
    members = [Member(scores, [folder / name]), *others]
    ScoresJob(
        members, order, config, folder / "task", lambda path: folder / path, folder / out
    ).run()
    return outputs_on(folder / out, "train")


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def problem_of(folder: Path, content: str | pa.Table, name: str = "scores.csv", **settings) -> str:
    with pytest.raises(InputError) as caught:
        outputs(folder, content, name, **settings)
    assert not (folder / settings.get("out", "teacher")).exists()
    return str(caught.value).replace(f"{folder}/", "")


def test_a_column_per_class_in_any_order_of_rows_and_classes(folder):
    assert outputs(folder, WIDE) == pytest.approx(LOGITS, abs=1e-6)
    assert not has_outputs(folder / "teacher", "dev")


def test_logarithms_of_probabilities_train_as_the_logits_at_every_temperature():
    logits = np.array([[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]])
    logits -= logits.mean(axis=1, keepdims=True)
    powers = np.exp(logits)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    assert logits_of(probabilities) == pytest.approx(logits, abs=1e-12)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_mapping_per_row(folder, as_text):
    scores = [{"bad": 0.75, "good": 0.25}, {"good": 1, "bad": 0}, {"bad": 0.2, "good": 0.8}]
    rows = [
        {"text": text, "probabilities": json.dumps(score) if as_text else score}
        for text, score in zip(("a book", "a plot", "a film"), scores, strict=True)
    ]
    assert outputs(folder, lines(*rows), "scores.jsonl") == pytest.approx(LOGITS, abs=1e-6)


def test_a_list_per_row_in_the_order_that_the_recipe_names(folder):
    rows = lines(
        {"text": "a book", "p": [0.25, 0.75]},
        {"text": "a plot", "p": [1, 0]},
        {"text": "a film", "p": [0.8, 0.2]},
    )
    found = outputs(folder, rows, "scores.jsonl", column="p", order=("good", "bad"))
    assert found == pytest.approx(LOGITS, abs=1e-6)
    message = problem_of(folder, rows, "scores.jsonl", column="p", out="other")
    assert message == (
        "scores.jsonl, row 0 (counted from 0): column 'p': a list, whose order of classes is "
        "not known; name the classes in its order with teacher.labels"
    )


def test_what_predict_writes_is_a_file_of_scores(folder):
    struct = pa.struct([("bad", pa.float32()), ("good", pa.float32())])
    table = pa.table(
        {
            "id": ["a", "b", "c", "d", "e", "f"],
            "text": ["a film", "a book", None, "a plot", "an actor", "a scene"],
            "prediction": ["good", "bad", None, "good", "good", "bad"],
            "probabilities": pa.array(
                [
                    {"bad": 0.2, "good": 0.8},
                    {"bad": 0.75, "good": 0.25},
                    None,
                    {"bad": 0.0, "good": 1.0},
                    {"bad": 0.5, "good": 0.5},
                    {"bad": 0.5, "good": 0.5},
                ],
                struct,
            ),
        }
    )
    assert outputs(folder, table, "part-00000.parquet") == pytest.approx(LOGITS, abs=1e-6)
    assert outputs_on(folder / "teacher", "dev").tolist() == [[0, 0], [0, 0]]


def test_a_directory_of_predictions_is_read_in_all_its_parts(folder):
    out = folder / "predicted"
    out.mkdir()
    for number, row in enumerate(WIDE.splitlines()[1:]):
        text, good, bad = row.split(",")
        score = {"good": float(good), "bad": float(bad)}
        table = pa.table({"text": [text], "probabilities": [score]})
        pq.write_table(table, out / f"part-{number:05d}.parquet")
    pq.write_table(pa.table({"reason": ["not read"]}), out / "quarantine.parquet")
    config = TaskConfig.model_validate(TASK)
    write_task(config, lambda path: folder / path, folder / "task")
    members = [Member(ScoresConfig.model_validate("predicted"), [out])]
    ScoresJob(
        members, None, config, folder / "task", lambda path: folder / path, folder / "teacher"
    ).run()
    assert outputs_on(folder / "teacher", "train") == pytest.approx(LOGITS, abs=1e-6)


def test_rows_are_matched_by_an_id_of_both_files(folder):
    scores = "good,id,bad\n0.25,8,0.75\n1,9,0\n0.8,7,0.2\n"
    assert outputs(folder, scores, id_column="id") == pytest.approx(LOGITS, abs=1e-6)
    # The dev rows have the ids 7 and 8, too, and are others.
    assert not has_outputs(folder / "teacher", "dev")


def test_logits_are_kept_to_the_last_bit(folder):
    logits = np.array([[0.1, 7.25], [-3.3333333, 1e-3], [2.0, -2.0]], np.float32)
    table = pa.table(
        {"text": ["a film", "a book", "a plot"], "bad": logits[:, 0], "good": logits[:, 1]}
    )
    found = outputs(folder, table, "scores.parquet", kind="logits")
    assert np.array_equal(found, logits)
    as_text = lines(
        *(
            {"text": t, "logits": {"bad": float(b), "good": float(g)}}
            for t, (b, g) in zip(table["text"].to_pylist(), logits, strict=True)
        )
    )
    found = outputs(folder, as_text, "scores.jsonl", kind="logits", out="other")
    assert np.array_equal(found, logits)


def test_pairs_of_texts_and_equal_rows(folder):
    (folder / "train.csv").write_text("a,b,label\nx,y,good\nx,z,bad\nx,y,good\n")
    (folder / "dev.csv").write_text("a,b,label\nz,x,good\nz,y,bad\n")
    task = {"sentence_columns": ["a", "b"], "labels": ["bad", "good"]}
    scores = "a,b,bad,good\nx,z,0.5,0.5\nx,y,0.2,0.8\nx,y,0.2,0.8\n"
    found = outputs(folder, scores, task=task)
    assert found == pytest.approx(LOGITS[[0, 0, 0]] * [[1], [0], [1]], abs=1e-6)


def test_scores_of_a_regression_are_taken_as_they_are(folder):
    (folder / "train.csv").write_text("text,label\na film,3.5\na book,1\n")
    (folder / "dev.csv").write_text("text,label\na plot,2\nan actor,4\n")
    scores = "text,prediction\na book,1.25\na film,3\n"
    found = outputs(folder, scores, task={"regression": True})
    assert found.tolist() == [[3.0], [1.25]]
    message = problem_of(
        folder, "text,mine\na book,1\na film,3\n", task={"regression": True}, out="other"
    )
    assert "expected in the column 'prediction'; the columns are mine; name the column" in message


def test_classes_that_are_numbers_match_columns_of_their_names(folder):
    (folder / "train.csv").write_text("text,label\na film,1\na book,0\na plot,1\n")
    (folder / "dev.csv").write_text("text,label\nan actor,1\na scene,0\n")
    scores = WIDE.replace("good,bad", "1,0")
    assert outputs(folder, scores) == pytest.approx(LOGITS, abs=1e-6)


ROW = "scores.csv, row 1 (counted from 0)"


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (
            WIDE.replace("a plot", "A  plot"),
            {},
            "scores.csv: 1 of the 3 training rows have no scores, such as row 2 (counted from 0), "
            "'a plot'; scores.csv, row 1 (counted from 0) differs from it only in case or white "
            "space: texts are compared character by character; score these rows, too, or remove "
            "them from the task's train",
        ),
        (
            WIDE.replace("1,0", "0.9,0.05"),
            {},
            f"{ROW}: the probabilities sum to 0.95, not to 1 (within 0.001); divide each row's by "
            "its sum, write more digits, or, if these are logits, set teacher.scores.kind: logits",
        ),
        (
            WIDE.replace("1,0", "1.5,-0.5"),
            {},
            f"{ROW}: a probability is -0.5, below 0; if these are logits, or logarithms of "
            "probabilities, set teacher.scores.kind: logits",
        ),
        (WIDE.replace("1,0", ",0"), {}, f"{ROW}: the score of 'good' is ''; a finite number is"),
        (WIDE.replace("1,0", "nan,0"), {}, f"{ROW}: the score of 'good' is 'nan'; a finite"),
        (
            WIDE,
            {"kind": "logits"},
            "scores.csv: the logits of every row are from 0 to 1 and sum to 1, as probabilities "
            "do; set teacher.scores.kind: probabilities, or remove the key",
        ),
        (
            WIDE + "a book,0.5,0.5\n",
            {},
            "scores.csv, row 0 (counted from 0), and scores.csv, row 3 (counted from 0): the same "
            "row, 'a book', has two different scores (by up to 0.25); keep one of them, or their",
        ),
        (
            WIDE.replace("good,bad", "good,poor"),
            {},
            "scores.csv: no column 'bad', and the scores of the other classes are in columns with "
            "their names; the columns are good, poor; add it",
        ),
        (
            WIDE.replace("good,bad", "p,q"),
            {},
            "scores.csv: the teacher's scores are expected in one column per class (bad, good), or "
            "the column 'probabilities'; the columns are p, q; name the column with all scores",
        ),
        (
            WIDE.replace("text", "sentence"),
            {},
            "scores.csv: rows of scores are matched by their text, which is expected in text; the "
            "columns are sentence, good, bad; name yours with teacher.scores.text_columns",
        ),
        (WIDE.splitlines()[0] + "\n", {}, "scores.csv: holds no rows; the teacher's scores are"),
        (
            "text,probabilities,good,bad\na film,x,0.2,0.8\n",
            {},
            "scores.csv: has a column per class, and the column 'probabilities'; name the one",
        ),
        (
            "text,probabilities\na film,\"{'bad': 0.2, 'good': 0.8}\"\n",
            {},
            "scores.csv, row 0 (counted from 0): column 'probabilities': \"{'bad': 0.2, "
            "'good': 0.8}\", which is not JSON; write a JSON object or list, or one column per",
        ),
        (
            'text,probabilities\na film,"{""bad"": 0.2, ""fine"": 0.8}"\n',
            {},
            "scores.csv, row 0 (counted from 0): column 'probabilities': a score of 'fine', "
            "which is no class of the task; its classes are bad, good",
        ),
        (
            'text,probabilities\na film,"{""bad"": 1.0}"\n',
            {},
            "scores.csv, row 0 (counted from 0): column 'probabilities': no score of class 'good'; "
            "give every class one, 0 where the probability is 0",
        ),
        (
            'text,probabilities\na film,"[0.1, 0.2, 0.7]"\n',
            {"order": ("good", "bad")},
            "scores.csv, row 0 (counted from 0): column 'probabilities': 3 scores; the task "
            "has 2 classes",
        ),
        (
            WIDE,
            {"order": ("good", "fine")},
            "teacher.labels [good, fine]: the task's classes are bad, good; name each once",
        ),
        (
            WIDE,
            {"id_column": "key"},
            "scores.csv: no column 'key'; the columns are text, good, bad",
        ),
        ("id,good,bad\n7,1,0\n8,1,0\n", {"id_column": "id"}, "1 of the 3 training rows have no"),
    ],
)
def test_a_mistake_is_named_with_file_row_and_remedy(folder, content, settings, message):
    assert message in problem_of(folder, content, **settings)


def test_an_id_that_two_training_rows_have_is_refused(folder):
    (folder / "train.csv").write_text(TRAIN.replace("9,", "7,"))
    message = problem_of(folder, "id,good,bad\n7,1,0\n8,1,0\n", id_column="id")
    assert message.startswith(
        "train.csv, row 2 (counted from 0): the id '7' is that of train.csv, row 0 (counted from "
        "0), too; correct one, or match rows by their text"
    )


def test_changed_scores_are_read_again_and_unchanged_ones_are_not(folder):
    outputs(folder, WIDE)
    written = (folder / "teacher" / "manifest.json").stat().st_mtime_ns
    outputs(folder, WIDE)
    assert (folder / "teacher" / "manifest.json").stat().st_mtime_ns == written
    assert outputs(folder, WIDE.replace("1,0", "0,1"))[2, 0] > 0


def test_an_ensemble_is_the_weighted_mean_of_probabilities(folder):
    # Equal logits are probabilities of 0.5; weights 1 and 2.
    (folder / "other.csv").write_text("text,good,bad\na film,3,3\na book,-1,-1\na plot,0,0\n")
    logits = ScoresConfig.model_validate({"paths": ["other.csv"], "kind": "logits"})
    found = outputs(folder, WIDE, others=(Member(logits, [folder / "other.csv"], 2.0),))
    means = [0.2 / 3 + 1 / 3, 0.75 / 3 + 1 / 3, 1 / 3]  # of class bad
    expected = [[np.log(mean / (1 - mean)) / 2, np.log((1 - mean) / mean) / 2] for mean in means]
    assert found == pytest.approx(np.array(expected), abs=1e-6)


def test_the_mean_of_a_regression_is_that_of_the_scores(folder):
    (folder / "train.csv").write_text("text,label\na film,3.5\na book,1\n")
    (folder / "dev.csv").write_text("text,label\na plot,2\nan actor,4\n")
    (folder / "other.csv").write_text("text,prediction\na film,5\na book,1\nan actor,3\n")
    other = Member(ScoresConfig.model_validate("other.csv"), [folder / "other.csv"], 3.0)
    scores = "text,prediction\na book,3\na film,1\na plot,2\nan actor,2\n"
    assert outputs(folder, scores, task={"regression": True}, others=(other,)).tolist() == [
        [4.0],
        [1.5],
    ]
    # One of the two dev rows has scores of both.
    assert not has_outputs(folder / "teacher", "dev")
    assert read_manifest(folder / "teacher").counts["num_dev_rows"] == 1


def test_a_member_without_a_training_row_is_named(folder):
    (folder / "other.csv").write_text("text,good,bad\na film,1,0\na plot,0,1\n")
    other = Member(ScoresConfig.model_validate("other.csv"), [folder / "other.csv"])
    message = problem_of(folder, WIDE, others=(other,))
    assert message.startswith("other.csv: 1 of the 3 training rows have no scores, such as row 1 ")
