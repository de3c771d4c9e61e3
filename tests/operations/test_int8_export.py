"""`raykd export --int8`: the gate, the file's description, and predictions from the file."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from tiny_models import save_tiny_classifier

from raykd.cli.app import _exit_code as run
from raykd.errors import InputError
from raykd.evaluation.int8_gate import measure_files
from raykd.models.onnx.session import OnnxClassifier
from raykd.operations import export as export_module
from raykd.operations.export import Exported, export_model, points_lost
from raykd.operations.export_gate import Reduction
from raykd.prediction.classifier import Classifier
from raykd.prediction.config import PredictConfig

WORDS = ("good", "bad", "fine", "poor", "film", "book", "plot", "music")
TEXTS = [" ".join(WORDS[(i + k * i) % 8] for k in range(1 + i % 9)) for i in range(60)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch

    from raykd.models.encoder import load_encoder

    folder = save_tiny_classifier(tmp_path_factory.mktemp("export") / "student")
    encoder = load_encoder(str(folder))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.dim() == 2:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    encoder.save(folder)
    return folder


def predictions_of(reference, texts=TEXTS):
    config = PredictConfig()
    classifier = Classifier.load(str(reference), config)
    return classifier.predicted(pa.table({"text": texts}), config, device="cpu")


@pytest.fixture(scope="module")
def dev(model):
    """Rows whose labels are the model's own predictions: a score of 100."""
    path = model.parent / "dev.csv"
    labels = predictions_of(model)["prediction"].to_pylist()
    assert {"negative", "positive"} == set(labels)
    path.write_text(
        "text,label\n" + "".join(f"{t},{label}\n" for t, label in zip(TEXTS, labels, strict=True))
    )
    return path


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_int8_is_smaller_and_its_loss_is_that_of_its_own_predictions(model, dev, tmp_path, kind):
    out = tmp_path / "student.onnx"
    exported = export_model(str(model), out, Reduction(kind, max_loss=20, dev=dev))
    own, int8 = predictions_of(model), predictions_of(out)
    pairs = zip(own["prediction"].to_pylist(), int8["prediction"].to_pylist(), strict=True)
    agreement = np.mean([a == b for a, b in pairs])
    assert exported.whole.scores["accuracy"] == 1
    assert exported.reduced.scores["accuracy"] == pytest.approx(agreement)
    assert points_lost(exported) == pytest.approx(100 * (1 - agreement))
    assert out.stat().st_size == pytest.approx(exported.reduced.num_bytes, abs=500)
    pairs = zip(own["probabilities"].to_pylist(), int8["probabilities"].to_pylist(), strict=True)
    differences = [abs(a["positive"] - b["positive"]) for a, b in pairs]
    assert 0 < max(differences) < 0.2


def test_the_run_of_a_student_gives_the_rows(model, tmp_path, capsys):
    run_folder = tmp_path / "run"
    (run_folder / "task").mkdir(parents=True)
    (run_folder / "student").symlink_to(model)
    names = predictions_of(model)["prediction"].to_pylist()
    labels = [["negative", "positive"].index(name) for name in names]
    rows = pa.table(
        {
            "row_id": range(len(TEXTS)),
            "sentence1": TEXTS,
            "sentence2": pa.nulls(len(TEXTS), pa.string()),
            "label": pa.array(labels, pa.float64()),
        }
    )
    for split in ("train", "dev"):
        pq.write_table(rows, run_folder / "task" / f"{split}.parquet")
    facts = {"name": "tiny", "labels": ["negative", "positive"], "regression": False}
    facts |= {"metrics": ["f1"], "sources": {}, "remarks": []}
    (run_folder / "task" / "task.json").write_text(json.dumps(facts))
    out = tmp_path / "student.onnx"
    command = ["export", str(run_folder), "--out", str(out), "--int8", "dynamic"]
    assert run([*command, "--max-loss", "20"]) == 0
    printed = capsys.readouterr().out
    assert "f1 x 100     100.00" in printed
    assert "times as fast, one row at a time, one thread" in printed
    facts["labels"] = ["positive", "negative"]
    (run_folder / "task" / "task.json").write_text(json.dumps(facts))
    assert run(command) == 2
    assert "are not those of the run's task" in capsys.readouterr().err


def test_weights_that_lose_too_much_are_not_written(model, dev, tmp_path, monkeypatch, capsys):
    measure = export_module.measure_files

    def loses(files, *arguments, **settings):
        full, small = measure(files, *arguments, **settings)
        return [full, small._replace(scores={"accuracy": 0.99})]

    monkeypatch.setattr(export_module, "measure_files", loses)
    out = tmp_path / "student.onnx"
    command = ["export", str(model), "--out", str(out), "--int8", "dynamic", "--dev", str(dev)]
    assert run(command) == 2
    error = capsys.readouterr().err
    assert "the int8 file loses 1.00 points of accuracy on the dev rows, more than 0.5" in error
    assert "--int8 static" in error
    assert not out.exists()
    assert run([*command, "--max-loss", "1"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-loss", "1"], "--max-loss: use with --int8 or --prune-vocabulary"),
        (["--int8", "dynamic"], "give the run directory of the model, or --dev FILE"),
        (["--int8", "dynamic", "--label-column", "y"], "--label-column: use with --dev FILE"),
        (["--int8", "dynamic", "--dev", "DEV", "--metric", "pearson"], "unknown metric 'pearson'"),
        (
            ["--int8", "dynamic", "--dev", "DEV", "--text-columns", "b"],
            "expected in b",
        ),
    ],
)
def test_misused_options_are_refused(model, dev, tmp_path, capsys, options, message):
    options = [str(dev) if option == "DEV" else option for option in options]
    assert run(["export", str(model), "--out", str(tmp_path / "x.onnx"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
@pytest.mark.parametrize(
    "int8",
    [
        pytest.param((), marks=pytest.mark.slow, id="float32"),
        pytest.param(("--int8", "dynamic"), id="int8"),
    ],
)
def test_a_pruned_file_is_smaller_and_answers_as_before(
    model, dev, tmp_path, capsys, ray_cluster, int8
):
    texts, out = tmp_path / "texts.csv", tmp_path / "pruned.onnx"
    texts.write_text("text\n" + "\n".join(TEXTS))
    command = ["export", str(model), "--out", str(out), "--dev", str(dev), "--max-loss", "20"]
    command += [*int8, "--prune-vocabulary", str(texts)]
    assert run(command) == 0
    printed = capsys.readouterr().out
    # Of 50 tokens, 5 special ones, 8 words and "a" are kept.
    assert "tokens         50          14  0.28 times" in printed
    whole = tmp_path / "whole.onnx"
    export_model(str(model), whole, Reduction("dynamic", max_loss=20, dev=dev) if int8 else None)
    assert out.stat().st_size < whole.stat().st_size
    ours, its = (predictions_of(file)["probabilities"].to_pylist() for file in (out, whole))
    of_class = [[row["positive"] for row in rows] for rows in (ours, its)]
    np.testing.assert_allclose(*of_class, atol=0.08 if int8 else 1e-6)
    title = "pruned int8" if int8 else "pruned"
    assert list(OnnxClassifier(out).description.scores) == ["float32", title]


@pytest.mark.ray
def test_a_vocabulary_of_files_without_text_is_refused(model, dev, tmp_path, capsys, ray_cluster):
    (tmp_path / "rows.csv").write_text("text,label\n,good\n")
    command = ["export", str(model), "--out", str(tmp_path / "x.onnx"), "--dev", str(dev)]
    assert run([*command, "--prune-vocabulary", str(tmp_path / "rows.csv")]) == 2
    assert "there is no text in the column 'text'" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


# What the documentation shows, in a process where neither torch nor transformers can be imported.
_WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = sys.modules["transformers"] = sys.modules["raykd"] = None
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
about = json.loads(metadata["raykd"])
tokenizer = Tokenizer.from_str(metadata["tokenizer"])
tokenizer.enable_truncation(about["max_length"], direction=about["truncation_side"])
tokenizer.enable_padding(pad_id=about["pad_id"])
rows = tokenizer.encode_batch(json.loads(sys.argv[2]))
columns = {
    "input_ids": [row.ids for row in rows],
    "attention_mask": [row.attention_mask for row in rows],
    "token_type_ids": [row.type_ids for row in rows],
}
inputs = {i.name: np.array(columns[i.name], np.int64) for i in session.get_inputs()}
(logits,) = session.run(["logits"], inputs)
print(json.dumps([about["labels"][place] for place in logits.argmax(axis=1)]))
"""


def test_a_file_is_used_without_torch_and_by_predict(model, tmp_path):
    out = tmp_path / "student.onnx"
    assert export_model(str(model), out).reduced is None
    expected = predictions_of(model)
    command = [sys.executable, "-c", _WITHOUT_TORCH, str(out), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected["prediction"].to_pylist()
    found = predictions_of(out)
    assert found["prediction"].equals(expected["prediction"])
    assert found["probability"].to_pylist() == pytest.approx(
        expected["probability"].to_pylist(), abs=1e-5
    )


def test_a_file_cuts_rows_on_the_side_of_its_tokenizer(model, tmp_path):
    left = shutil.copytree(model, tmp_path / "left")
    settings = json.loads((left / "tokenizer_config.json").read_text())
    settings["truncation_side"] = "left"
    (left / "tokenizer_config.json").write_text(json.dumps(settings))
    export_model(str(left), tmp_path / "left.onnx")
    texts = ["bad " * 50 + "good film " * 10, "good film " * 10]
    own, found, right = (
        [row["positive"] for row in predictions_of(one, texts)["probabilities"].to_pylist()]
        for one in (left, tmp_path / "left.onnx", model)
    )
    assert found == pytest.approx(own, abs=1e-5)
    assert abs(own[0] - right[0]) > 0.01


def test_what_a_file_cannot_do_is_refused(model, tmp_path):
    out = tmp_path / "student.onnx"
    export_model(str(model), out)
    with pytest.raises(InputError, match="computes no embeddings"):
        Classifier.load(str(out), PredictConfig(with_embeddings=True))
    with pytest.raises(InputError, match="reads at most .* tokens"):
        Classifier.load(str(out), PredictConfig(max_length=10_000))
    with pytest.raises(InputError, match="2 tokens of a row are special ones"):
        Classifier.load(str(out), PredictConfig(max_length=2))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(out.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged.onnx: cannot be loaded"):
        Classifier.load(str(damaged), PredictConfig())


def test_points_are_not_lost_by_rounding():
    exported = Exported((), 0.0, "accuracy", _measures(0.9), _measures(0.3 * 3))
    assert points_lost(exported) == 0


def _measures(score):
    from raykd.evaluation.int8_gate import FileMeasures

    return FileMeasures({"accuracy": score}, 1, 1.0)


def test_a_file_with_nan_logits_is_refused_and_not_scored(model, tmp_path):
    file = tmp_path / "broken.onnx"
    export_model(str(model), file)
    content = onnx.load(file)
    initializers = content.graph.initializer
    [weight] = [one for one in initializers if one.name.endswith("classifier.weight")]
    broken = np.full(weight.dims, np.nan, np.float32)
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    onnx.save(content, file)
    rows = pa.table(
        {
            "sentence1": ["good film"],
            "sentence2": pa.nulls(1, pa.string()),
            "label": pa.array([1.0]),
        }
    )
    with pytest.raises(InputError, match="its logits are NaN in 1 of 1 rows of the dev rows"):
        measure_files([file], rows, ["accuracy"], max_length=16)
