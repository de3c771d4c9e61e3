"""The two objectives with a generator in the training loop, and with several workers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from event_handlers import calling
from tiny_models import tiny_batch, tiny_encoder, tiny_masked_lm
from torch.nn.parallel import DistributedDataParallel

from raykd.models.tokenization.tokens import TokenizedRows
from raykd.objectives import build
from raykd.objectives.base import STUDENT
from raykd.objectives.cilda import CildaConfig
from raykd.objectives.mate_kd import MateKdConfig
from raykd.objectives.shared import generation
from raykd.objectives.shared.generation import GENERATOR, GeneratorObjective
from raykd.training.logging.records import Record
from raykd.training.loop import train
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

# Without sampling noise and with all words masked, a row has the same loss in every batch.
WITHOUT_NOISE = {
    "cilda": CildaConfig(mask_probability=1.0),
    "mate_kd": MateKdConfig(mask_probability=1.0),
}
PLAYERS = (STUDENT, GENERATOR)
# The second batch has a row only for the first worker; the other takes part with weight 0.
SHARES = {"five": ([0, 2, 4], [1, 3]), "one": ([0], [0])}


def make(config) -> GeneratorObjective:
    student = tiny_encoder(hidden_size=12, seed=1)
    teacher = tiny_encoder(num_layers=3, seed=2)
    torch.manual_seed(4)
    return build(config, student, teacher, tiny_masked_lm()).train()


def terms_for_player(objective: GeneratorObjective, player: str, batch: dict[str, torch.Tensor]):
    objective.take_turn(player, objective.players())
    torch.manual_seed(5)
    return objective(batch)


@pytest.mark.parametrize("config", [CildaConfig, MateKdConfig])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_player_is_trained_in_its_own_steps_only(config, precision):
    objective = make(
        config(generator_steps=1, student_steps=2, task_weight=0, generator_learning_rate=1e-3)
    )
    mine = {
        name: {id(parameter) for parameter in player.parameters}
        for name, player in objective.players().items()
    }
    states: list[dict[int, torch.Tensor]] = []
    records: list[Record] = []

    def remember(_: int = 0) -> None:
        states.append({id(p): p.detach().clone() for p in objective.parameters()})

    remember()
    train(
        objective,
        rows_of(10),
        TrainingConfig(epochs=2, batch_size=4, learning_rate=1e-3, precision=precision),
        pad_id=0,
        regression=False,
        seed=1,
        worker=Worker(),
        events=calling(on_step=remember, on_record=lambda record, _: records.append(record)),
    )

    changed = [
        {key for key, value in after.items() if not torch.equal(value, before[key])}
        for before, after in pairwise(states)
    ]
    turns = [GENERATOR, STUDENT, STUDENT] * 2
    assert len(changed) == len(turns)
    for step, player in zip(changed, turns, strict=True):
        assert step
        assert step <= mine[player]
    assert "generator_aug_logits" in records[0].losses
    assert all(np.isfinite(value) for value in records[1].losses.values())


def rows_of(num_rows: int) -> TokenizedRows:
    """Rows of words only, with the teacher's logits."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 10, num_rows)
    return TokenizedRows(
        input_ids=generator.integers(5, 50, lengths.sum()).astype(np.int32),
        token_type_ids=None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        teacher_logits=generator.normal(size=(num_rows, 3)).astype(np.float32),
    )


@pytest.mark.slow
def test_two_workers_have_the_gradients_of_one_with_the_combined_batch(tmp_path, monkeypatch):
    """Compare for several splits of the batch, with candidates gathered from both workers."""
    torch.multiprocessing.spawn(_worker, args=(str(tmp_path),), nprocs=2)

    monkeypatch.setattr("torch.nn.functional.gumbel_softmax", _without_noise)
    monkeypatch.setattr("raykd.objectives.shared.generation.drawn", _likeliest)
    for name, config in WITHOUT_NOISE.items():
        for player in PLAYERS:
            for size, (first, second) in SHARES.items():
                objective = make(config)
                joined = rows(sorted({*first, *second}))
                terms = terms_for_player(objective, player, joined)
                terms.total.backward()
                expected = gradients(objective)
                for rank in range(2):
                    actual, measures = torch.load(
                        tmp_path / f"{name}-{player}-{size}-{rank}.pt", weights_only=True
                    )
                    assert measures == terms.measures
                    assert actual.keys() == expected.keys()
                    for key, gradient in expected.items():
                        torch.testing.assert_close(
                            actual[key], gradient, msg=f"{name} {player} {size} {key}"
                        )


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.nn.functional.gumbel_softmax = _without_noise
    generation.drawn = _likeliest
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        for name, config in WITHOUT_NOISE.items():
            objective = make(config)
            for player in PLAYERS:
                objective.take_turn(player, objective.players())
                model = DistributedDataParallel(objective)
                for size, shares in SHARES.items():
                    share = shares[rank]
                    # Weighted as in the training loop: one of the two rows is the first worker's.
                    num_rows = len({*shares[0], *shares[1]})
                    weight = 0 if share == shares[0] and rank else len(share) * 2 / num_rows
                    model.zero_grad()
                    terms = model(rows(share))
                    (terms.total * weight).backward()
                    path = Path(folder) / f"{name}-{player}-{size}-{rank}.pt"
                    torch.save((gradients(objective), terms.measures), path)
        # Models must not hold the group's last reference: its destructor waits, with the GIL,
        # for a thread that may wait for the GIL (torch 2.13).
        del model, terms
    finally:
        dist.destroy_process_group()


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(-1)


def rows(numbers: list[int]) -> dict[str, torch.Tensor]:
    return {key: value[numbers] for key, value in tiny_batch(num_rows=5).items()}


def gradients(objective: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


def _without_noise(logits: torch.Tensor, _: float) -> torch.Tensor:
    return logits.softmax(-1)
