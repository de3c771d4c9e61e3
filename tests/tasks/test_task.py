import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raykd.errors import InputError
from raykd.storage.schemas import EXAMPLES
from raykd.tasks.config import TaskConfig
from raykd.tasks.glue import GLUE
from raykd.tasks.task import load_task


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.fixture
def sentences(tmp_path):
    """Write a train and a dev file of single sentences with labels by name."""
    train = {"text": ["a cat", "a dog", "a cow"], "kind": ["cat", "dog", "cow"]}
    dev = {"text": ["one cat", "one cow"], "kind": ["cat", "cow"]}
    return {
        "name": "animals",
        "train": write(tmp_path / "train.parquet", **train),
        "dev": write(tmp_path / "dev.parquet", **dev),
        "sentence_columns": ["text"],
        "label_column": "kind",
    }


def load(values):
    return load_task(TaskConfig.parse(values, "recipe"))


def test_the_eight_glue_tasks_have_their_main_metrics():
    assert {name: task.metrics[0] for name, task in GLUE.items()} == {
        "cola": "matthews",
        "sst2": "accuracy",
        "mrpc": "f1",
        "stsb": "pearson",
        "qqp": "f1",
        "mnli": "accuracy",
        "qnli": "accuracy",
        "rte": "accuracy",
    }


def test_labels_are_those_of_the_train_split_in_alphabetical_order(sentences):
    task = load(sentences)
    assert task.labels == ("cat", "cow", "dog")
    assert task.train.schema == EXAMPLES
    assert task.train["label"].to_pylist() == [0.0, 2.0, 1.0]
    assert task.train["sentence2"].null_count == 3
    assert task.train["row_id"].to_pylist() == [0, 1, 2]
    assert (task.metrics, task.main_metric, task.num_labels) == (("accuracy",), "accuracy", 3)


def test_listed_labels_set_the_order_of_the_classes(sentences):
    task = load({**sentences, "labels": ["dog", "cat", "cow"]})
    assert task.train["label"].to_pylist() == [1.0, 0.0, 2.0]


def test_classes_of_numeric_labels_are_named_by_their_numbers(tmp_path):
    files = {
        split: write(tmp_path / f"{split}.parquet", text=["x", "y", "z"], label=[3, 1, 2])
        for split in ("train", "dev")
    }
    task = load({"name": "stars", "sentence_columns": ["text"], **files})
    assert task.labels == ("1", "2", "3")
    assert task.dev["label"].to_pylist() == [2.0, 0.0, 1.0]


def test_glue_classes_may_be_indices_or_names(tmp_path):
    columns = {"sentence1": ["x", "y"], "sentence2": ["u", "v"]}
    task = load(
        {
            "name": "rte",
            "train": write(tmp_path / "a.parquet", **columns, label=[1, 0]),
            "dev": write(tmp_path / "b.parquet", **columns, label=["not_entailment", "entailment"]),
        }
    )
    assert task.train["label"].to_pylist() == task.dev["label"].to_pylist() == [1.0, 0.0]
    assert task.train["sentence2"].to_pylist() == ["u", "v"]


def test_glue_columns_may_have_the_names_of_the_hub(tmp_path):
    path = write(tmp_path / "a.parquet", question=["q"], sentence=["s"], label=[0])
    task = load({"name": "qnli", "train": path, "dev": path})
    assert (task.dev["sentence1"][0].as_py(), task.dev["sentence2"][0].as_py()) == ("q", "s")


def test_tsv_files_in_glues_format_are_read(tmp_path):
    path = tmp_path / "dev.tsv"
    path.write_text('sentence\tlabel\nthe "quoted film\t1\ndull\t0\n')
    task = load({"name": "sst2", "train": str(path), "dev": str(path)})
    assert task.dev["sentence1"].to_pylist() == ['the "quoted film', "dull"]
    assert task.dev["label"].to_pylist() == [1.0, 0.0]


def test_regression_labels_stay_scores(tmp_path):
    path = write(tmp_path / "a.parquet", sentence1=["x"], sentence2=["y"], label=[3.25])
    task = load({"name": "stsb", "train": path, "dev": path})
    assert task.regression
    assert task.labels == ()
    assert task.num_labels == 1
    assert task.dev["label"].to_pylist() == [3.25]


def test_the_test_split_is_reported_if_it_exists(sentences):
    assert load(sentences).report_split == "dev"
    task = load({**sentences, "test": sentences["dev"]})
    assert task.report_split == "test"
    assert task.reported is task.test
    assert [split.num_rows for split in task.evaluation_splits()] == [2, 2]


def test_max_rows_keeps_the_first_rows(sentences):
    task = load({**sentences, "max_train_rows": 2, "labels": ["cat", "dog", "cow"]})
    assert task.train["sentence1"].to_pylist() == ["a cat", "a dog"]


def test_paths_are_resolved_by_the_caller(sentences, tmp_path):
    config = TaskConfig.parse({**sentences, "train": "train.parquet"}, "recipe")
    assert load_task(config, lambda path: tmp_path / path).train.num_rows == 3


def fails(values, *words):
    with pytest.raises(InputError) as caught:
        load(values)
    for word in words:
        assert word in str(caught.value)


def test_an_unlisted_label_is_reported_with_its_row(sentences, tmp_path):
    path = write(tmp_path / "bad.parquet", text=["x", "y"], kind=["cat", "horse"])
    fails({**sentences, "dev": path}, path, "row 1", "'horse'", "cat, cow, dog")


def test_an_index_beyond_the_classes_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", sentence=["x", "y"], label=[0, 2])
    fails({"name": "cola", "train": path, "dev": path}, "row 1", "2", "unacceptable")


def test_placeholder_labels_of_a_hidden_test_set_are_refused(sentences, tmp_path):
    path = write(tmp_path / "test.parquet", text=["x", "y"], kind=[-1, -1])
    fails({**sentences, "test": path}, path, "placeholder", "remove this split")


def test_one_placeholder_among_labels_is_reported_with_its_row(tmp_path):
    path = write(tmp_path / "a.parquet", sentence=["x", "y"], label=[0, -1])
    fails({"name": "cola", "train": path, "dev": path}, "row 1", "-1")


def test_a_score_out_of_range_is_reported_with_its_row(tmp_path):
    path = write(tmp_path / "a.parquet", sentence1=["x"] * 2, sentence2=["y"] * 2, label=[5.0, 5.5])
    fails({"name": "stsb", "train": path, "dev": path}, "row 1", "5.5", "from 0 to 5")


def test_a_missing_label_is_reported_with_its_row(sentences, tmp_path):
    path = write(tmp_path / "bad.parquet", text=["x", "y"], kind=["cat", None])
    fails({**sentences, "dev": path}, path, "row 1", "kind")


@pytest.mark.parametrize("text", [None, " \t"])
def test_a_row_without_text_is_reported(sentences, tmp_path, text):
    path = write(tmp_path / "bad.parquet", text=["x", text], kind=["cat", "dog"])
    fails({**sentences, "train": path}, path, "row 1", "text")


def test_a_missing_sentence_column_is_reported_with_the_existing_columns(tmp_path):
    path = write(tmp_path / "a.parquet", premise=["x"], label=[0])
    fails({"name": "rte", "train": path, "dev": path}, path, "sentence1, sentence2", "premise")


def test_a_missing_label_column_is_reported_with_the_existing_columns(sentences):
    fails({**sentences, "label_column": "class"}, "'class'", "text, kind", "task.label_column")


def test_a_file_without_rows_is_refused(sentences, tmp_path):
    path = write(tmp_path / "empty.parquet", text=pa.array([], pa.string()), kind=[])
    fails({**sentences, "dev": path}, path, "no rows")


def test_a_missing_file_is_reported(sentences):
    fails({**sentences, "dev": "/nowhere/dev.parquet"}, "/nowhere/dev.parquet")


def test_numeric_sentences_are_refused(sentences, tmp_path):
    path = write(tmp_path / "bad.parquet", text=[1, 2], kind=["cat", "dog"])
    fails({**sentences, "dev": path}, "'text'", "int64", "task.sentence_columns")


def test_numeric_sentences_of_a_csv_file_are_read_as_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sentence,label\n1984,1\n2001,0\n")
    task = load({"name": "sst2", "train": str(path), "dev": str(path)})
    assert task.train["sentence1"].to_pylist() == ["1984", "2001"]
    assert task.train["label"].to_pylist() == [1.0, 0.0]


def test_fractions_as_classes_are_refused(sentences, tmp_path):
    path = write(tmp_path / "bad.parquet", text=["x", "y"], kind=[0.5, 1.5])
    fails({**sentences, "train": path}, "fractions", "task.regression")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "animals", "train": "a", "sentence_columns": ["text"]}, "no evaluation split"),
        ({"name": "animals", "train": "a", "dev": "b"}, "'sentence_columns'"),
        ({"name": "animals", "dev": "b", "sentence_columns": ["text"]}, "'train'"),
        ({"name": "rte", "labels": ["yes", "no"]}, "GLUE fixes the labels"),
        ({"name": "rte", "metrics": ["pearson"]}, "accuracy, f1, matthews"),
        ({"name": "stsb", "metrics": ["accuracy"]}, "pearson, spearman"),
        ({"name": "rte", "metric": ["f1"]}, "did you mean 'metrics'"),
    ],
)
def test_contradictory_settings_are_refused(values, words):
    with pytest.raises(InputError, match="recipe") as caught:
        TaskConfig.parse(values, "recipe")
    assert words in str(caught.value)


def test_f1_needs_two_classes(sentences):
    fails({**sentences, "metrics": ["f1"]}, "'f1'", "two classes", "there are 3: cat, cow, dog")


def test_an_unreachable_hub_is_reported_with_the_attempt_and_a_remedy(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    fails(
        {"name": "mrpc"},
        "/datasets/nyu-mll/glue",
        str(tmp_path),
        "'mrpc'",
        "train split",
        "'task.train'",
        "Parquet",
    )


@pytest.mark.parametrize(
    ("name", "train", "dev", "num_train", "num_dev"),
    [
        ("cola", "cola_train", "cola_dev", 8551, 1043),
        ("sst2", "sst2_train", "sst2_dev", 67349, 872),
        ("mrpc", "mrpc_train", "mrpc_dev", 3668, 408),
        ("stsb", "stsb_train", "stsb_dev", 5749, 1500),
        ("qqp", "qqp_train_21k", "qqp_dev_7k", 21728, 7599),
        ("mnli", "mnli_train_3k", "mnli_dev_matched_7k", 3000, 7469),
        ("qnli", "qnli_style_train_derived", "qnli_dev", 8074, 5463),
        ("rte", "rte_train", "rte_dev", 2490, 277),
    ],
)
def test_the_real_files_load(glue, name, train, dev, num_train, num_dev):
    task = load(
        {
            "name": name,
            "train": str(glue / f"{train}.parquet"),
            "dev": str(glue / f"{dev}.parquet"),
        }
    )
    assert (task.train.num_rows, task.dev.num_rows) == (num_train, num_dev)
    assert set(task.dev["label"].to_pylist()) == set(range(len(task.labels))) or task.regression


@pytest.fixture
def two_files(sentences, tmp_path):
    """The animals with a second train file, of other rows and a class of its own."""
    more = write(tmp_path / "more.parquet", text=["a fox", "a hen"], kind=["fox", "cat"])
    return {**sentences, "train": [sentences["train"], more]}


def test_several_train_files_are_one_split_in_their_order(two_files):
    task = load(two_files)
    assert task.labels == ("cat", "cow", "dog", "fox")
    assert task.train["sentence1"].to_pylist() == ["a cat", "a dog", "a cow", "a fox", "a hen"]
    assert task.train["label"].to_pylist() == [0.0, 2.0, 1.0, 3.0, 0.0]
    assert task.train["row_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert task.sources["train"] == ", ".join(two_files["train"])
    assert load({**two_files, "max_train_rows": 4}).train.num_rows == 4
    first = load({**two_files, "max_train_rows": 2, "labels": ["cat", "cow", "dog", "fox"]})
    assert first.train["sentence1"].to_pylist() == ["a cat", "a dog"]
    assert first.sources["train"] == two_files["train"][0]


def test_an_error_names_the_train_file_and_its_own_row(two_files, tmp_path):
    write(tmp_path / "more.parquet", text=["a fox", " "], kind=["fox", "cat"])
    with pytest.raises(InputError, match=r"more.parquet, row 1 .*: no text"):
        load(two_files)
    with pytest.raises(InputError, match="'task.train'|train"):
        load({**two_files, "train": []})


def test_row_numbers_count_skipped_rows_of_earlier_files(two_files, tmp_path):
    write(tmp_path / "train.parquet", text=["a cat", "a dog"], kind=["cat", None])
    labels = ["cat", "cow", "fox"]
    task = load({**two_files, "unlabeled_rows": "skip", "labels": labels})
    assert task.train["row_id"].to_pylist() == [0, 2, 3]


def test_the_dev_split_is_cut_from_all_train_files(sentences, tmp_path):
    del sentences["dev"]
    files = [
        write(tmp_path / f"{name}.parquet", text=[f"{name} {i}" for i in range(6)], kind=kinds)
        for name, kinds in (("first", ["cat"] * 6), ("second", ["dog", "cat"] * 3))
    ]
    task = load({**sentences, "train": files, "dev_fraction": 0.4})
    dev = task.dev["sentence1"].to_pylist()
    texts = task.train["sentence1"].to_pylist() + dev
    assert sorted(texts) == [f"{name} {i}" for name in ("first", "second") for i in range(6)]
    assert {text.split()[0] for text in dev} == {"first", "second"}
