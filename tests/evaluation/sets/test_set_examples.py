"""Reading of evaluation sets, in the shapes of published ones."""

import json

import pytest

from raykd.errors import InputError
from raykd.evaluation.config import EvaluationSetConfig
from raykd.evaluation.sets.examples import read_set, write_set
from raykd.storage.locations import location_of
from raykd.tasks.config import TaskConfig

MNLI = ("entailment", "neutral", "contradiction")
TO_TWO = {
    "entailment": "entailment",
    "neutral": "non-entailment",
    "contradiction": "non-entailment",
}
HANS = {"labels": ["entailment", "non-entailment"], "label_map": TO_TWO}


def task_of(name="mnli", **values):
    return TaskConfig.parse({"name": name, **values}, "recipe")


def write(tmp_path, text, *, file="set.tsv", task=None, classes=MNLI, **values):
    (tmp_path / file).write_text(text)
    path = str(tmp_path / file)
    config = EvaluationSetConfig.parse({"name": "hans", "path": path, **values}, "recipe")
    return write_set(config, task or task_of(), classes, location_of, tmp_path / "out")


def read(tmp_path, text, **values):
    manifest = write(tmp_path, text, **values)
    found = read_set(tmp_path / "out")
    assert manifest.counts["num_rows"] == found.table.num_rows
    return found


def columns(found):
    rows = found.table
    return [rows[name].to_pylist() for name in ("sentence1", "sentence2", "label")]


def test_rows_of_hans_with_a_parse_and_other_columns(tmp_path):
    text = (
        "gold_label\tsentence1_binary_parse\tsentence1\tsentence2\tpairID\theuristic\n"
        "non-entailment\t( a b )\tThe doctor saw the actor .\tThe actor saw the doctor .\tex0\tx\n"
        "entailment\t( c d )\tThe judge and the actor slept .\tThe actor slept .\tex1\tx\n"
    )
    found = read(
        tmp_path,
        text,
        sentence_columns=["sentence1", "sentence2"],
        label_column="gold_label",
        **HANS,
    )
    assert columns(found) == [
        ["The doctor saw the actor .", "The judge and the actor slept ."],
        ["The actor saw the doctor .", "The actor slept ."],
        [1.0, 0.0],
    ]
    assert found.classes == (("entailment", "non-entailment"), (0, 1, 1))
    assert found.source == str(tmp_path / "set.tsv")


def test_rows_of_scitail_without_a_header(tmp_path):
    text = "A fly has wings.\tFlies fly.\tneutral\nIce is water.\tIce is made of water.\tentails\n"
    found = read(
        tmp_path,
        text,
        columns=["premise", "hypothesis", "label"],
        labels=["entails", "neutral"],
        label_map={"entailment": "entails", "neutral": "neutral", "contradiction": "neutral"},
    )
    assert columns(found)[2] == [1.0, 0.0]
    assert found.classes.targets == (0, 1, 1)


def test_rows_of_paws_have_the_classes_of_a_paraphrase_task_by_number(tmp_path):
    text = "id\tsentence1\tsentence2\tlabel\n1\tA to B\tB to A\t0\n2\tso it is\tit is so\t1\n"
    found = read(
        tmp_path,
        text,
        task=task_of("qqp"),
        classes=("not_duplicate", "duplicate"),
        sentence_columns=["sentence1", "sentence2"],
    )
    assert columns(found)[2] == [0.0, 1.0]
    assert found.classes == (("not_duplicate", "duplicate"), (0, 1))


def test_rows_of_imdb_are_single_texts_with_names_of_classes_of_their_own(tmp_path):
    text = 'text,label\n"Long, and ""great"".",pos\nDull.,neg\n'
    found = read(
        tmp_path,
        text,
        file="imdb.csv",
        task=task_of("sst2"),
        classes=("negative", "positive"),
        sentence_columns=["text"],
        labels=["neg", "pos"],
        label_map={"positive": "pos", "negative": "neg"},
    )
    assert columns(found) == [['Long, and "great".', "Dull."], [None, None], [1.0, 0.0]]
    assert found.classes.targets == (0, 1)


def test_a_file_of_the_tasks_own_classes_needs_no_labels(tmp_path):
    rows = [
        {"premise": "a", "hypothesis": "b", "label": label}
        for label in ("neutral", "contradiction", "entailment")
    ]
    text = "\n".join(map(json.dumps, rows))
    found = read(tmp_path, text, file="mm.jsonl")
    assert columns(found)[2] == [1.0, 2.0, 0.0]
    assert found.classes == (MNLI, (0, 1, 2))


def test_rows_without_a_label_are_left_out_on_request_and_counted(tmp_path):
    text = "premise\thypothesis\tlabel\na\tb\t-\nc\td\tneutral\n"
    with pytest.raises(
        InputError, match=r"no label in 'label': '-' in row 0 .*sets.hans.unlabeled"
    ):
        write(tmp_path, text)
    found = read(tmp_path, text, unlabeled_rows="skip")
    assert columns(found)[0] == ["c"]
    assert found.table["row_id"].to_pylist() == [1]
    assert found.remarks == ("left out '-' in row 0 (counted from 0)",)


def test_a_set_of_a_regression_has_scores_of_any_range(tmp_path):
    text = "sentence1,sentence2,label\na,b,7.5\nc,d,-1\n"
    found = read(tmp_path, text, file="sick.csv", task=task_of("stsb"), classes=())
    assert columns(found)[2] == [7.5, -1.0]
    assert found.classes == ((), ())


@pytest.mark.parametrize(
    ("row", "values", "problem"),
    [
        (
            "a\tb\tmaybe",
            HANS,
            r"set.tsv, row 1 \(counted from 0\): label 'maybe' is none of the set's: entailment, "
            r"non-entailment; correct the rows, or the list 'evaluation.sets.hans.labels'$",
        ),
        (
            "a\tb\tnon-entailment",
            {},
            r"row 1 .*: label 'non-entailment' is none of the task's: entailment, neutral, "
            r"contradiction; .*list them as 'labels', and map the task's to them with 'label_map'",
        ),
        ("  \t \tneutral", {}, r"set.tsv, row 1 .*: no text in premise or hypothesis; remove"),
        (
            "a\tb\tneutral",
            {"label_column": "gold"},
            r"set.tsv: no column 'gold'; the columns are premise, hypothesis, label; name the one "
            r"with the labels with the key 'evaluation.sets.hans.label_column'",
        ),
        (
            "a\tb\tneutral",
            {"sentence_columns": ["text1", "text2"]},
            r"expected in text1, text2; .*with the key 'evaluation.sets.hans.sentence_columns'",
        ),
    ],
)
def test_wrong_rows_are_refused_with_file_row_and_remedy(tmp_path, row, values, problem):
    text = f"premise\thypothesis\tlabel\na\tb\tentailment\n{row}\n"
    with pytest.raises(InputError, match=problem):
        write(tmp_path, text, **values)
    assert not (tmp_path / "out").exists()


def test_classes_found_in_the_train_split_are_compared_with_the_map(tmp_path):
    task = {"train": "a", "dev": "b", "sentence_columns": ["text"]}
    text = "text,label\ngreat,pos\n"
    values = {"file": "set.csv", "task": task_of("reviews", **task), "classes": ("bad", "good")}
    for given, problem in (
        ({"good": "pos"}, "'hans': 'label_map' lacks the task's class 'bad'; map every class"),
        ({"good": "pos", "bad": "neg", "fair": "neg"}, "maps 'fair', no class of the task"),
        ({"good": "pos", "bad": "pos"}, "maps no class of the task to 'neg', so no model can"),
        (None, "'labels' are 'neg', 'pos', and the task's classes 'bad', 'good'; add 'label_map"),
    ):
        with pytest.raises(InputError, match=problem):
            write(tmp_path, text, labels=["neg", "pos"], label_map=given, **values)
    with pytest.raises(InputError, match=r"'f1' is that of .* there are 3; set 'metrics: \[accur"):
        write(tmp_path, text, metrics=["f1"], **(values | {"classes": ("a", "b", "c")}))


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="set.tsv: .*(empty|no rows)"):
        write(tmp_path, "")
    with pytest.raises(InputError, match="set.tsv: holds no rows; the set 'hans' needs some"):
        write(tmp_path, "premise\thypothesis\tlabel\n")


def test_a_set_is_read_again_only_if_its_file_or_classes_change(tmp_path):
    text = "premise\thypothesis\tlabel\na\tb\tentailment\n"
    first = write(tmp_path, text)
    assert write(tmp_path, text, metrics=["accuracy", "matthews"]).key == first.key
    assert write(tmp_path, text, **HANS).key != first.key
    assert write(tmp_path, text + "c\td\tneutral\n").key != first.key


def test_a_set_is_read_again_with_another_separator_of_its_classes(tmp_path):
    text = "text\ttags\none\ta;b\n"
    of_task = {"train": "t", "dev": "d", "sentence_columns": ["text"], "label_column": "tags"}

    def read_with(separator):
        task = task_of("tags", multi_label=True, label_separator=separator, **of_task)
        return read(tmp_path, text, task=task, classes=("a", "b"))

    assert read_with(";").table["label"].to_pylist() == [[1.0, 1.0]]
    with pytest.raises(InputError, match="a;b"):
        read_with(",")
