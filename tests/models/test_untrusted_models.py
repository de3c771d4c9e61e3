"""Models from others run no code: neither pickled weights nor files in their folder."""

import json
import os
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_encoder

from raykd.errors import InputError
from raykd.models.encoder import load_encoder


class _Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    tiny_encoder("bert", num_labels=2).save(path)
    return path


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save({"weight": _Attack(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        load_encoder(str(folder))
    assert not (tmp_path / "mark").exists()


def test_code_in_the_folder_of_a_model_is_not_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "unheard_of"
    config["auto_map"] = {
        name: f"code.{name}" for name in ("AutoConfig", "AutoModel", "AutoModelForMaskedLM")
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\n")
    with pytest.raises(InputError):
        load_encoder(str(folder))
    assert not (tmp_path / "mark").exists()
