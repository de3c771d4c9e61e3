"""Properties of every objective. Add a new one with a line in `objective_settings`."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from objective_settings import SETTINGS, SPECIAL_TOKENS
from tiny_models import FAMILIES, tiny_batch, tiny_encoder, tiny_masked_lm
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel

from raykd.objectives import OBJECTIVES, build
from raykd.objectives.base import STUDENT, Epoch, LossTerms, Objective

# Objectives with random noise: the loss of a row depends on the draw.
DRAWS_NOISE = {"cilda", "codir_pretraining", "mate_kd"}
# The others have a two-worker test in the objective's own file.
_SPLIT_ALIKE = sorted(
    name for name in OBJECTIVES.keys() - DRAWS_NOISE if not SETTINGS[name].mixes_examples
)

# Objectives that compare features which these families do not have.
REFUSED = {"tinybert": {"deberta", "modernbert"}}

every_objective = pytest.mark.parametrize("name", sorted(OBJECTIVES))
in_every_family = pytest.mark.parametrize(
    ("name", "family"),
    [(name, f) for name in sorted(OBJECTIVES) for f in FAMILIES if f not in REFUSED.get(name, ())],
)


def make(name: str, *, family: str = "bert", num_labels: int = 3) -> Objective:
    """Build an objective before the first step of its first epoch."""
    student = tiny_encoder(family, num_layers=2, hidden_size=12, num_labels=num_labels, seed=1)
    teacher = tiny_encoder(family, num_layers=4, hidden_size=24, num_labels=num_labels, seed=2)
    config = SETTINGS[name]
    generator = tiny_masked_lm(family) if config.generator_reference("teacher") else None
    torch.manual_seed(4)
    objective = build(config, student, teacher, generator, SPECIAL_TOKENS).train()
    labels = tiny_batch(regression=num_labels == 1)["labels"]
    objective.start_training(len(labels), labels if objective.needs_labels else None, seed=1)
    objective.start_epoch(Epoch(seed=1, number=1, total=3))
    return objective


def deterministic_terms(objective: Objective, batch: dict[str, torch.Tensor]) -> LossTerms:
    """Return the loss terms with the same noise at every call."""
    torch.manual_seed(5)
    return objective(batch)


def gradients(objective: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in objective.named_parameters()
        if parameter.grad is not None
    }


def test_every_objective_is_listed_in_alphabetical_order():
    assert list(OBJECTIVES) == sorted(OBJECTIVES)
    assert list(OBJECTIVES) == list(SETTINGS)
    assert all(SETTINGS[name].name == name for name in OBJECTIVES)


@every_objective
def test_padding_changes_nothing(name):
    batch = tiny_batch()
    wide = {
        key: pad(value, (0, 6)) if value.shape == (4, 9) else value for key, value in batch.items()
    }
    for player in make(name).players():
        narrow_terms, wide_terms = (
            deterministic_terms(for_player(make(name), player), shape) for shape in (batch, wide)
        )
        torch.testing.assert_close(wide_terms.total, narrow_terms.total)


def for_player(objective: Objective, player: str) -> Objective:
    """Return the objective in a step of the given player."""
    objective.take_turn(player, objective.players())
    return objective


@pytest.mark.parametrize(
    "name",
    _SPLIT_ALIKE,
)
def test_the_loss_of_a_batch_is_the_mean_of_its_halves(name):
    objective, batch = make(name), tiny_batch()
    halves = [{key: value[part] for key, value in batch.items()} for part in _halves()]

    terms = objective(batch)
    first, second = [objective(half) for half in halves]

    torch.testing.assert_close(terms.total, (first.total + second.total) / 2)
    for term, value in terms.parts.items():
        torch.testing.assert_close(value, (first.parts[term] + second.parts[term]) / 2)


@in_every_family
def test_gradients_reach_exactly_the_trained_parameters(name, family):
    for player in make(name, family=family).players():
        objective = for_player(make(name, family=family), player)
        before = {key: p.detach().clone() for key, p in objective.named_parameters()}

        objective(tiny_batch()).total.backward()

        trained = {key for key, p in objective.named_parameters() if p.requires_grad}
        assert set(gradients(objective)) == trained
        assert not any(key.startswith("teacher.") for key in trained)
        assert all(torch.equal(p, before[key]) for key, p in objective.named_parameters())
        assert any(key.startswith("student.") for key in trained) == (player == STUDENT)
        if player == STUDENT:
            assert any("classifier" in key for key in trained) == objective.trains_classifier


@every_objective
def test_the_regression_loss_is_finite_and_decreases(name):
    objective, batch = make(name, num_labels=1), tiny_batch(regression=True)
    players = objective.players()
    objective = for_player(objective, STUDENT)
    optimizer = torch.optim.Adam(players[STUDENT].parameters, lr=1e-3)
    losses = []
    for _ in range(5):
        terms = deterministic_terms(objective, batch)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(terms.total.item())

    assert all(torch.isfinite(gradient).all() for gradient in gradients(objective).values())
    assert losses[4] < losses[0]


@every_objective
def test_an_objective_reads_only_the_batch_columns_it_declares(name):
    objective, batch = make(name), tiny_batch()
    columns = {"input_ids", "attention_mask", "token_type_ids", "row_ids"}
    columns |= {"labels"} if objective.needs_labels else set()
    columns |= {"teacher_logits"} if "logits" in objective.config.needs_teacher else set()

    terms = deterministic_terms(
        objective, {key: value for key, value in batch.items() if key in columns}
    )

    assert torch.equal(terms.total, deterministic_terms(make(name), batch).total)


@every_objective
def test_exactly_the_terms_of_a_student_step_are_described(name):
    objective = for_player(make(name), STUDENT)

    assert set(objective.describe()) == set(objective(tiny_batch()).parts)


@every_objective
def test_the_teacher_stays_in_evaluation_mode(name):
    objective = make(name).eval().train()

    assert objective.student.training
    assert objective.teacher is None or not any(m.training for m in objective.teacher.modules())


@every_objective
def test_a_second_objective_trains_all_parameters_of_the_same_student(name):
    objective = make(name)

    following = build(SETTINGS["fine_tune"], objective.student)

    assert all(parameter.requires_grad for parameter in following.student.parameters())


@pytest.mark.slow
def test_two_workers_have_the_gradients_of_one_with_the_combined_batch(tmp_path):
    torch.multiprocessing.spawn(_worker, args=(str(tmp_path),), nprocs=2)

    for name in _SPLIT_ALIKE:
        objective = make(name)
        objective(tiny_batch()).total.backward()
        expected = gradients(objective)
        for rank in range(2):
            actual = torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True)
            assert actual.keys() == expected.keys()
            for key, gradient in expected.items():
                torch.testing.assert_close(actual[key], gradient, msg=f"{name} {key}")


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        half = {key: value[_halves()[rank]] for key, value in tiny_batch().items()}
        for name in _SPLIT_ALIKE:
            # A parameter without a gradient on any worker makes this wrapper fail in its next step.
            model = DistributedDataParallel(make(name))
            for _ in range(2):
                model.zero_grad()
                model(half).total.backward()
            torch.save(gradients(model), Path(folder) / f"{name}-{rank}.pt")
        # Models must not hold the group's last reference: its destructor waits, with the GIL,
        # for a thread that may wait for the GIL (torch 2.13).
        del model
    finally:
        dist.destroy_process_group()


def _halves() -> tuple[slice, slice]:
    return slice(0, 2), slice(2, 4)
