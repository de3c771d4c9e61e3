"""Class weights and label smoothing of gold labels, in every objective and on any workers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from event_handlers import calling
from objective_settings import SETTINGS
from sklearn.utils.class_weight import compute_class_weight
from tiny_models import VOCABULARY_SIZE, tiny_batch, tiny_encoder, tiny_masked_lm
from torch import distributed

from raykd.errors import InputError
from raykd.models.forward import run
from raykd.models.tokenization.tokens import TokenizedRows
from raykd.objectives import OBJECTIVES, build
from raykd.objectives.base import Epoch, Objective
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.objectives.losses.logits import GoldLabels, task_loss
from raykd.training.class_weights import class_weights_of
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

WEIGHTS = torch.tensor([0.5, 4.0, 1.5])
GOLD = GoldLabels(WEIGHTS, 0.2)
WITH_LABELS = sorted(name for name in OBJECTIVES if SETTINGS[name].needs_labels)


def test_weights_and_smoothing_are_those_of_torch():
    logits, labels = (
        torch.randn(6, 3, generator=torch.Generator().manual_seed(0)),
        [0, 1, 2, 1, 1, 0],
    )
    expected = F.cross_entropy(logits, torch.tensor(labels), weight=WEIGHTS, label_smoothing=0.2)
    assert task_loss(logits, torch.tensor(labels), GOLD).item() == expected.item()


def test_the_weighted_loss_by_hand():
    # -log p is log 2 for each of two classes; weights 3 and 1, labels 0, 0, 1.
    logits = torch.zeros(3, 2)
    logits[2] = torch.tensor([np.log(3.0), 0.0])
    gold = GoldLabels(torch.tensor([3.0, 1.0]))
    loss = task_loss(logits, torch.tensor([0, 0, 1]), gold)
    assert loss.item() == pytest.approx((3 * np.log(2) + 3 * np.log(2) + np.log(4)) / 7)


def test_parts_of_a_batch_with_its_scale_sum_to_the_loss_of_the_batch():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([1, 0, 0, 2, 0])
    scale = torch.full((5,), 5 / (4.0 + 0.5 + 0.5 + 1.5 + 0.5))
    parts = [
        (part.stop - part.start) / 5 * task_loss(logits[part], labels[part], GOLD, scale[part])
        for part in (slice(0, 1), slice(1, 5))
    ]
    assert sum(parts).item() == pytest.approx(task_loss(logits, labels, GOLD).item(), rel=1e-6)


def made(name: str) -> Objective:
    student, teacher = tiny_encoder(num_layers=2, seed=1), tiny_encoder(num_layers=4, seed=2)
    config = SETTINGS[name]
    generator = tiny_masked_lm() if config.generator_reference("teacher") else None
    torch.manual_seed(4)
    objective = build(config, student, teacher, generator)
    objective.start_training(4, tiny_batch()["labels"], seed=1)
    objective.start_epoch(Epoch(seed=1, number=1, total=3))
    return objective


@pytest.mark.parametrize("name", WITH_LABELS)
def test_every_objective_weighs_its_gold_labels_and_nothing_else(name):
    batch, plain, weighted = tiny_batch(), made(name), made(name)
    weighted.gold = GOLD

    torch.manual_seed(5)
    expected = plain(batch).parts
    torch.manual_seed(5)
    terms = weighted(batch).parts

    logits = run(weighted.student, batch).logits
    task = F.cross_entropy(logits, batch["labels"], weight=WEIGHTS, label_smoothing=0.2)
    torch.testing.assert_close(terms.pop("task"), task)
    assert abs(task - expected.pop("task")) > 0.01
    assert terms.keys() == expected.keys()
    for term, value in expected.items():
        # AD2's perturbation starts at the logit loss; nothing of a distillation term is weighted.
        torch.testing.assert_close(terms[term], value)


@pytest.mark.parametrize("seed", [0, 1])
def test_balanced_weights_are_those_of_scikit_learn(seed):
    labels = np.random.default_rng(seed).choice(4, size=50, p=[0.6, 0.25, 0.1, 0.05])
    labels[:4] = range(4)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    found = class_weights_of("w", "balanced", ["a", "b", "c", "d"], labels.astype(np.float64))
    assert found == pytest.approx(expected)


def test_weights_by_name_are_in_the_order_of_the_classes():
    found = class_weights_of("w", {"bad": 2.0, "1": 0.5}, ["1", "bad"], np.zeros(0))
    assert found.tolist() == [0.5, 2.0]


def test_wrong_weights_are_refused_with_the_names():
    labels = np.array([0.0, 0.0])
    with pytest.raises(
        InputError,
        match="'worse' is no class of the task, and the task's class "
        "'bad' has no weight; give each of 'good', 'bad' a weight",
    ):
        class_weights_of(
            "adaptation.class_weights", {"good": 1, "worse": 2}, ["good", "bad"], labels
        )
    with pytest.raises(InputError, match="balanced: no training row is of the class 'bad'"):
        class_weights_of("teacher.class_weights", "balanced", ["good", "bad"], labels)


def rows_of(num_rows: int) -> TokenizedRows:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 12, num_rows)
    ids = random.integers(10, VOCABULARY_SIZE, lengths.sum()).astype(np.int32)
    labels = random.choice(3, size=num_rows, p=[0.7, 0.2, 0.1]).astype(np.float64)
    return TokenizedRows(ids, None, np.concatenate([[0], np.cumsum(lengths)]), labels=labels)


def first_step(max_tokens: int | None = None, worker: Worker = Worker()):  # noqa: B008
    """Weights after one step on 7 rows, and its loss."""
    student = tiny_encoder()
    steps = []
    objective = build(FineTuneConfig(), student, None)
    objective.gold = GOLD
    config = TrainingConfig(
        num_steps=1, batch_size=7, learning_rate=1e-3, max_tokens_per_micro_batch=max_tokens
    )
    train(
        objective,
        rows_of(7),
        config,
        pad_id=0,
        regression=False,
        seed=1,
        worker=worker,
        events=calling(on_step_records=steps.extend),
    )
    return student.state_dict(), steps[0]


def expected_loss() -> tuple[float, float]:
    """Loss of the first step, and the norm of its gradient, by torch on the whole batch."""
    rows, student = rows_of(7), tiny_encoder()
    mask = np.arange(rows.lengths.max()) < rows.lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = rows.input_ids
    logits = run(
        student,
        {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask).long()},
    ).logits
    loss = F.cross_entropy(
        logits, torch.from_numpy(rows.labels).long(), weight=WEIGHTS, label_smoothing=0.2
    )
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in student.parameters() if p.grad is not None]).norm()
    return loss.item(), norm.item()


@pytest.mark.parametrize("max_tokens", [None, 1, 20])
def test_any_micro_batches_have_the_loss_of_the_whole_batch(max_tokens):
    loss, norm = expected_loss()
    record = first_step(max_tokens)[1]
    assert record.losses["task"] == pytest.approx(loss, rel=1e-5)
    assert record.gradient_norm == pytest.approx(norm, rel=1e-4)


def _train_as_worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    _, record = first_step(15, Worker(rank, 2))
    torch.save((record.losses["task"], record.gradient_norm), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_with_uneven_shares_have_the_loss_of_the_whole_batch(tmp_path, unused_port):
    torch.multiprocessing.spawn(_train_as_worker, (unused_port, str(tmp_path)), nprocs=2)
    loss, norm = expected_loss()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found == pytest.approx((loss, norm), rel=1e-4)
