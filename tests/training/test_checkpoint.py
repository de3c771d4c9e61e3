"""Checkpoints: found if intact and of the same training, otherwise reported and not used."""

import errno
import os

import pytest
import torch
from torch import Tensor

from raykd.training.checkpoint import Checkpoint, CheckpointFolder

SETTINGS, INPUTS = {"num_layers": 3}, {"train": "digest"}


def folder_in(path, *, settings=SETTINGS, every_s: float = 0) -> CheckpointFolder:
    return CheckpointFolder(path, "adapt", settings, INPUTS, every_s=every_s)


def checkpoint_of_step(step: int) -> Checkpoint:
    tensors: dict[str, Tensor] = {
        "weight": torch.full((2, 3), float(step)),
        "count": torch.ones(()),
    }
    return Checkpoint(step, tensors, {"turns": {"student": step}})


def write(folder: CheckpointFolder, *steps: int) -> None:
    for step in steps:
        folder.write(checkpoint_of_step(step))
        folder.wait()


def test_the_newest_of_the_last_two_is_read_back_unchanged(tmp_path):
    folder = folder_in(tmp_path / "unfinished")
    assert folder.find() == (None, [])

    write(folder, 10, 20, 30)

    assert sorted(path.name for path in folder.folder.iterdir()) == [
        "step-000000020",
        "step-000000030",
    ]
    assert folder.find() == (30, [])
    read = folder.read(30)
    assert read.step == 30
    assert read.state == {"turns": {"student": 30}}
    assert torch.equal(read.tensors["weight"], torch.full((2, 3), 30.0))
    assert read.tensors["count"].shape == ()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no manifest", "no state"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path, damage):
    folder = folder_in(tmp_path / "unfinished")
    write(folder, 10, 20)
    newest = folder.folder / "step-000000020"
    tensors = newest / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    if damage == "truncated":
        tensors.write_bytes(content[:-4])
    elif damage == "flipped":
        content[-1] ^= 1
        tensors.write_bytes(content)
    else:
        (newest / {"no manifest": "manifest.json", "no state": "state.json"}[damage]).unlink()

    assert folder.find() == (10, [f"{newest}: damaged; not used"])


def test_a_checkpoint_of_another_recipe_is_reported_and_not_used(tmp_path):
    write(folder_in(tmp_path / "unfinished"), 10)

    other_folder = folder_in(tmp_path / "unfinished", settings={"num_layers": 4})

    step, (note,) = other_folder.find()
    assert step is None
    assert "step-000000010: made by another recipe, input or version of raykd" in note


def test_checkpoints_after_the_resumed_step_are_removed(tmp_path):
    write(folder_in(tmp_path / "unfinished", settings={"num_layers": 4}), 80, 90)
    folder = folder_in(tmp_path / "unfinished")

    folder.drop_after(0)
    write(folder, 10, 20)

    assert folder.find() == (20, [])


def test_a_checkpoint_is_due_after_its_interval(tmp_path):
    assert folder_in(tmp_path, every_s=0).is_due
    assert not folder_in(tmp_path, every_s=60).is_due


def test_a_checkpoint_that_cannot_be_written_is_an_error_and_leaves_no_files(tmp_path):
    folder = folder_in(tmp_path / "file" / "unfinished")
    (tmp_path / "file").write_text("")

    folder.write(checkpoint_of_step(10))

    with pytest.raises(OSError, match=os.strerror(errno.ENOTDIR)):
        folder.wait()
    assert folder.find() == (None, [])
