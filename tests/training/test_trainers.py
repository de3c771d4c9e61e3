"""Alternating steps of two players, each with its own parameters; one worker and two."""

from collections.abc import Mapping

import pytest
import torch
import torch.multiprocessing
from event_handlers import calling
from test_loop import rows_of
from tiny_models import tiny_batch, tiny_encoder
from torch import Tensor, distributed, nn

from raykd.errors import InputError
from raykd.models.forward import run
from raykd.objectives.base import (
    STUDENT,
    Epoch,
    LossTerms,
    Models,
    Objective,
    ObjectiveConfig,
    Player,
)
from raykd.objectives.losses.logits import task_loss
from raykd.training.logging.records import Record
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

CONFIG = TrainingConfig(epochs=2, batch_size=8, learning_rate=1e-2, warmup_fraction=0)


class Duel(Objective):
    """Objective whose cycles are one step for the shift of scores and two for the student."""

    trains_classifier = True

    def __init__(self) -> None:
        super().__init__(ObjectiveConfig(name="duel"), Models(tiny_encoder()))
        self.shift = nn.Parameter(torch.zeros(3, 1))
        self.epochs: list[Epoch] = []
        self.rows: tuple[int, list[float], int] | None = None
        self.turns = ""

    def players(self) -> dict[str, Player]:
        return {
            STUDENT: Player(tuple(self.student.parameters())),
            "adversary": Player((self.shift,), learning_rate=0.5, max_grad_norm=1e9),
        }

    def player_of(self, step: int) -> str:
        return "adversary" if step % 3 == 1 else STUDENT

    def start_training(self, num_rows: int, labels: Tensor | None, seed: int) -> None:
        self.rows = num_rows, labels.tolist(), seed

    def start_epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def describe(self) -> dict[str, str]:
        return {"task": "all"}

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        self.turns += self._player[0]
        logits = run(self.student, batch).logits + self.shift.flatten()
        terms = LossTerms.weighted(task=(1.0, task_loss(logits, batch["labels"])))
        return terms.measuring(largest=self.shift.max())


def train_duel(worker: Worker = Worker()) -> tuple[Duel, list[Record]]:  # noqa: B008
    duel, records = Duel(), []
    train(
        duel,
        rows_of(31),
        CONFIG,
        pad_id=0,
        regression=False,
        seed=1,
        worker=worker,
        events=calling(on_record=lambda record, _: records.append(record)),
    )
    return duel, records


def test_players_alternate_over_all_steps_and_epochs_are_announced():
    duel, _ = train_duel()

    assert duel.turns == "assassas"
    assert duel.epochs == [Epoch(1, 1, 2), Epoch(1, 2, 2)]
    assert duel.rows == (31, rows_of(31).labels.tolist(), 1)


def test_a_step_changes_only_its_players_parameters():
    duel = Duel()
    players = duel.players()
    for name, others in (("adversary", "student"), (STUDENT, "shift")):
        duel.zero_grad(set_to_none=True)
        duel.take_turn(name, players)
        duel(tiny_batch()).total.backward()
        with_gradient = {key for key, p in duel.named_parameters() if p.grad is not None}
        assert not any(key.startswith(others) for key in with_gradient)
        assert len(with_gradient) == len(players[name].parameters)


def test_a_training_without_a_student_step_is_refused():
    config = TrainingConfig(num_steps=1, batch_size=8)

    with pytest.raises(InputError, match="none of the 1 steps trains the student"):
        train(Duel(), rows_of(31), config, pad_id=0, regression=False, seed=1, worker=Worker())


def test_losses_and_measures_of_another_player_have_its_name_as_prefix():
    _, records = train_duel()

    assert set(records[0].losses) == {"total", "task", "adversary_total", "adversary_task"}
    assert set(records[0].measures) == {"largest", "adversary_largest"}
    # Adam's first step equals the learning rate: after the first of the adversary's three steps.
    assert records[0].measures["largest"] > 0.3
    assert '"measures": {' in records[0].to_json()


def _train_as_worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    duel, records = train_duel(Worker(rank, 2))
    torch.save((duel.state_dict(), records[-1].losses), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_workers_have_the_weights_of_one_for_both_players(tmp_path, unused_port):
    torch.multiprocessing.spawn(_train_as_worker, (unused_port, str(tmp_path)), nprocs=2)

    duel, records = train_duel()
    for rank in range(2):
        state, losses = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert losses == pytest.approx(records[-1].losses, rel=1e-3)
        torch.testing.assert_close(state["shift"], duel.shift.data, rtol=1e-3, atol=1e-4)
