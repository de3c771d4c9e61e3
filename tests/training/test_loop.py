"""The training loop: learning, reproducibility, equal results with one worker and two."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from event_handlers import calling
from tiny_models import VOCABULARY_SIZE, tiny_encoder
from torch import distributed

from raykd.models.tokenization.tokens import TokenizedRows
from raykd.objectives import build
from raykd.objectives.fine_tune import FineTuneConfig
from raykd.training.checkpoint import CheckpointFolder
from raykd.training.distributed import shm_allreduce
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker, learning_rate_factor


def rows_of(num_rows: int, *, seed: int = 0) -> TokenizedRows:
    """Rows whose label depends on their second token."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 12, num_rows)
    ids = generator.integers(10, VOCABULARY_SIZE, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    labels = generator.integers(0, 3, num_rows)
    ids[offsets[:-1] + 1] = 5 + labels
    return TokenizedRows(ids, None, offsets, labels=labels.astype(np.float64))


def train_tiny(rows: TokenizedRows, config: TrainingConfig, worker: Worker = Worker()):  # noqa: B008
    student = tiny_encoder()
    losses: list[float] = []
    train(
        build(FineTuneConfig(), student, None),
        rows,
        config,
        pad_id=0,
        regression=False,
        seed=1,
        worker=worker,
        events=calling(on_record=lambda record, _: losses.append(record.losses["total"])),
    )
    return student, losses


def test_the_loss_decreases():
    _, losses = train_tiny(rows_of(60), TrainingConfig(epochs=15, batch_size=8, learning_rate=5e-3))
    assert losses[0] > 0.7
    assert losses[-1] < 0.1


def test_the_loss_decreases_in_bfloat16_with_float32_weights():
    config = TrainingConfig(epochs=15, batch_size=8, learning_rate=5e-3, precision="bfloat16")
    student, losses = train_tiny(rows_of(60), config)
    assert losses[-1] < 0.1
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


def test_the_loss_decreases_in_float16_with_an_adaptive_scale():
    config = TrainingConfig(epochs=15, batch_size=8, learning_rate=5e-3, precision="float16")
    student, losses = train_tiny(rows_of(60), config)
    assert losses[-1] < 0.1
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


@pytest.mark.parametrize("max_tokens_per_micro_batch", [1, 25, 10_000])
def test_gradient_accumulation_equals_full_batches(max_tokens_per_micro_batch):
    config = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3)
    full, losses = train_tiny(rows_of(20), config)

    cut = config.model_copy(update={"max_tokens_per_micro_batch": max_tokens_per_micro_batch})
    student, accumulated_losses = train_tiny(rows_of(20), cut)

    assert accumulated_losses == pytest.approx(losses, rel=1e-4)
    assert_close_weights(student.state_dict(), full.state_dict())


def assert_close_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        # The gradient of a key bias is 0 up to rounding, which AdamW scales up to full steps.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(one[name], other[name], atol=2e-5, rtol=1e-4)


def test_embeddings_of_unused_tokens_only_decay(monkeypatch):
    config = TrainingConfig(epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.1)
    rows = rows_of(12)
    few = replace(rows, input_ids=np.where(rows.input_ids < 24, rows.input_ids, 10))

    restricted, restricted_losses = train_tiny(few, config)
    monkeypatch.setattr("raykd.training.loop.restrict_to_used_vocabulary", lambda *_: None)
    full, losses = train_tiny(few, config)

    assert restricted_losses == pytest.approx(losses, rel=1e-5)
    for name, tensor in full.state_dict().items():
        torch.testing.assert_close(restricted.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)
    first = tiny_encoder().model.get_input_embeddings().weight
    last = restricted.model.get_input_embeddings().weight
    assert 0.97 < (last[40] / first[40]).mean() < 0.999


def test_equal_seeds_give_bitwise_equal_weights():
    config = TrainingConfig(epochs=2, batch_size=8)
    first, second = (train_tiny(rows_of(30), config)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_step_is_reported():
    steps = []
    train(
        build(FineTuneConfig(), tiny_encoder(), None),
        rows_of(20),
        TrainingConfig(epochs=3, batch_size=8),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        events=calling(on_step=steps.append),
    )
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_learning_rate_warms_up_and_decays_to_zero():
    rates = []
    train(
        build(FineTuneConfig(), tiny_encoder(), None),
        rows_of(40),
        TrainingConfig(epochs=10, batch_size=8, learning_rate=1e-3, warmup_fraction=0.2),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        events=calling(on_record=lambda record, _: rates.append(record.learning_rate)),
    )
    assert rates[1] == pytest.approx(1e-3)
    assert rates[5] == pytest.approx(1e-3 * 21 / 40)
    assert rates[-1] == pytest.approx(1e-3 * 1 / 40)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_schedules_warm_up_and_decay_as_defined(schedule, factors):
    config = TrainingConfig(schedule=schedule, warmup_fraction=1 / 3)
    learning_rates = [learning_rate_factor(config, turn, 6) for turn in range(6)]
    assert learning_rates == pytest.approx(factors, abs=1e-6)


def test_every_step_is_logged_once_and_records_have_the_means_of_their_steps():
    steps, records = [], []
    train(
        build(FineTuneConfig(), tiny_encoder(), None),
        rows_of(90),
        TrainingConfig(epochs=2, batch_size=8),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        events=calling(
            on_step_records=steps.extend,
            on_record=lambda record, is_last: records.append((record, is_last)),
        ),
    )
    assert [record.step for record in steps] == list(range(1, 25))
    assert [record.epoch for record in steps] == [1] * 12 + [2] * 12
    assert all(record.gradient_norm > 0 for record in steps)
    (first, first_is_last), (second, second_is_last) = records
    assert (first_is_last, second_is_last) == (False, True)
    assert (first.epoch, second.epoch) == (1.0, 2.0)
    assert first.losses["total"] == pytest.approx(
        sum(record.losses["total"] for record in steps[:12]) / 12
    )


def test_a_non_finite_loss_stops_the_training_with_step_and_rows():
    student = tiny_encoder()
    with torch.no_grad():
        student.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"step 1 \(epoch 1\).*rows \[.*lower learning"):
        train(
            build(FineTuneConfig(), student, None),
            rows_of(8),
            TrainingConfig(epochs=1, batch_size=4),
            pad_id=0,
            regression=False,
            seed=1,
            worker=Worker(),
        )


def _train_as_worker(
    rank: int, port: int, folder: str, max_tokens: int | None, shares_memory: bool
) -> None:
    if not shares_memory:
        shm_allreduce._FOLDER = Path("/dev/null")
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    config = TrainingConfig(
        epochs=3, batch_size=8, learning_rate=1e-3, max_tokens_per_micro_batch=max_tokens
    )
    calls = []
    average = shm_allreduce.ShmAllreduce.average

    def counted(self, numbers):
        calls.append(numbers)
        average(self, numbers)

    shm_allreduce.ShmAllreduce.average = counted
    # 17 rows: the last batch of an epoch has one row for two workers.
    student, losses = train_tiny(rows_of(17), config, Worker(rank, 2))
    # Once per step, with all gradients.
    assert len(calls) == (9 if shares_memory else 0)
    torch.save((student.state_dict(), losses), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


# With small micro-batches, the workers of a step have different numbers of them.
@pytest.mark.parametrize(
    ("max_tokens", "shares_memory"),
    [
        pytest.param(None, True, marks=pytest.mark.slow),
        (15, True),
        pytest.param(15, False, marks=pytest.mark.slow),
    ],
)
def test_two_workers_have_the_weights_and_losses_of_one(
    tmp_path, unused_port, max_tokens, shares_memory
):
    config = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3)
    student, losses = train_tiny(rows_of(17), config)
    one = student.state_dict()
    torch.multiprocessing.spawn(
        _train_as_worker, (unused_port, str(tmp_path), max_tokens, shares_memory), nprocs=2
    )
    for rank in (0, 1):
        weights_of_both, losses_of_both = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close_weights(weights_of_both, one)
        assert losses_of_both == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("num_rows", [8, 20, 200])
def test_num_steps_does_not_depend_on_the_number_of_rows(num_rows):
    steps = []
    train(
        build(FineTuneConfig(), tiny_encoder(), None),
        rows_of(num_rows),
        TrainingConfig(num_steps=7, batch_size=8),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        events=calling(on_step=steps.append),
    )
    assert len(steps) == 7


def test_a_preemption_notice_gives_one_checkpoint_at_the_next_flush(tmp_path):
    polled: list[bool] = []
    written: list[int] = []

    def has_notice() -> bool:
        polled.append(len(polled) == 1)
        return polled[-1]

    train(
        build(FineTuneConfig(), tiny_encoder(), None),
        rows_of(8),
        TrainingConfig(num_steps=45, batch_size=1, score_every=45),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        checkpoints=CheckpointFolder(tmp_path / "out", "adapt", {}, {}, every_s=3600),
        events=calling(
            has_notice=has_notice, on_step_records=lambda records: written.append(records[-1].step)
        ),
    )

    assert written[1] < 45
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"step-{written[1]:09d}"]
