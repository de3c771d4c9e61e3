"""Number of text columns against that of the run's task."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny_classifier

from raykd.errors import InputError
from raykd.prediction.classifier import Classifier
from raykd.prediction.config import PredictConfig

ONE, TWO = PredictConfig(("q",)), PredictConfig(("q", "a"))


@pytest.fixture
def run(tmp_path):
    save_tiny_classifier(tmp_path / "run" / "student")
    return tmp_path / "run"


def write_train(folder, second):
    folder.mkdir(parents=True)
    table = pa.table({"sentence1": ["a", "b"], "sentence2": pa.array(second, pa.string())})
    pq.write_table(table, folder / "train.parquet")
    (folder / "task.json").write_text("{}")


@pytest.mark.parametrize("folder", ["task", "final/task"])
def test_one_text_for_a_student_of_pairs_is_refused(run, folder):
    write_train(run / folder, ["c", ""])
    with pytest.raises(InputError, match=r"is a pair of texts, and .* name one text \(q\)"):
        Classifier.load(str(run), ONE)
    assert Classifier.load(str(run), TWO).labels == ("negative", "positive")
    assert Classifier.load(str(run / "student"), ONE).labels == ("negative", "positive")


def test_a_pair_for_a_student_of_single_texts_is_refused(run):
    write_train(run / "task", [None, None])
    with pytest.raises(InputError, match=r"is one text, and .* name a pair of texts \(q, a\)"):
        Classifier.load(str(run), TWO)
    assert Classifier.load(str(run), ONE).labels == ("negative", "positive")


def test_of_a_folder_without_a_task_nothing_is_known(run):
    assert Classifier.load(str(run), TWO).labels == ("negative", "positive")
