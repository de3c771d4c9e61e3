"""CoDIR: loss, refused settings, and equal memories on all workers."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from tiny_models import tiny_batch, tiny_encoder
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from raykd.errors import InputError
from raykd.objectives import build
from raykd.objectives.base import Epoch
from raykd.objectives.codir import Codir, CodirConfig
from raykd.objectives.losses.logits import kd_loss, task_loss
from raykd.objectives.losses.memory_contrastive import infonce_loss

SETTINGS = {
    "bank": CodirConfig(num_negatives=3),
    "nce": CodirConfig(loss="nce", num_negatives=3, pooling="cls", teacher_layers="alternate"),
    "queue": CodirConfig(task_weight=0, num_negatives=5),
    "unlabelled_bank": CodirConfig(task_weight=0, negatives="bank", num_negatives=3),
}
NUM_ROWS = 7
# The last batch has fewer rows than there are workers.
BATCHES = ([4, 0, 2], [1, 6, 5], [3])

every_setting = pytest.mark.parametrize("name", sorted(SETTINGS))


def rows_of(rows: list[int]) -> dict[str, torch.Tensor]:
    return {key: value[rows] for key, value in tiny_batch(num_rows=NUM_ROWS).items()}


def make(config: CodirConfig, *, num_labels: int = 3) -> Codir:
    """Build the objective before its first step; its teacher has five layers."""
    student = tiny_encoder(num_layers=2, hidden_size=12, num_labels=num_labels, seed=1)
    teacher = tiny_encoder(num_layers=5, hidden_size=24, num_labels=num_labels, seed=2)
    torch.manual_seed(3)
    objective = build(config, student, teacher).train()
    labels = rows_of(list(range(NUM_ROWS)))["labels"].double()
    objective.start_training(NUM_ROWS, labels if objective.needs_labels else None, seed=1)
    objective.start_epoch(Epoch(seed=1, number=1, total=2))
    return objective


def step(model: torch.nn.Module, rows: list[int], weight: float = 1.0) -> float:
    """Make a step of gradient descent as in the training loop."""
    model.zero_grad()
    terms = model(rows_of(rows))
    (terms.total * weight).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    return terms.total.item()


def test_the_loss_is_the_weighted_sum_over_the_pooled_layers():
    config = CodirConfig(
        task_weight=0.2, logit_weight=0.3, contrastive_weight=0.5, student_layers=(2,), momentum=0
    )
    objective, batch = make(config), rows_of([0, 3, 5])
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    mask = batch["attention_mask"][..., None].float()
    student = objective.student(*inputs, layers=[2])
    teacher = objective.teacher(*inputs, layers=[1, 2, 3, 4, 5])
    ours, theirs = (
        torch.cat([(output.hidden_states[k] * mask).sum(1) / mask.sum(1) for k in layers], dim=1)
        for output, layers in ((student, [2]), (teacher, [1, 2, 3, 4, 5]))
    )
    ours = normalize(objective.student_projection(ours), dim=1)
    theirs = normalize(objective.teacher_projection(theirs), dim=1)
    drawn = objective.contrast._others.draw(batch["row_ids"])
    negatives = objective.contrast.student.vectors[drawn]
    cosines = torch.cat(
        [(ours * theirs).sum(1)[:, None], (negatives @ theirs[..., None])[..., 0]], 1
    )

    terms = objective(batch)

    kd = kd_loss(student.logits, teacher.logits, 2.0)
    task = task_loss(student.logits, batch["labels"])
    contrastive = infonce_loss(cosines, 0.07)
    expected = {"logits": kd, "contrastive": contrastive, "task": task}
    torch.testing.assert_close(terms.parts, {k: v.detach() for k, v in expected.items()})
    torch.testing.assert_close(terms.total, 0.2 * task + 0.3 * kd + 0.5 * contrastive)
    # Without momentum, a row's vector is its newest one.
    torch.testing.assert_close(objective.contrast.student.vectors[batch["row_ids"]], ours.detach())


def test_alternate_layers_are_the_odd_ones():
    objective = make(
        CodirConfig(pooling="cls", student_layers="alternate", teacher_layers="alternate")
    )

    # Layer 1 of 2, of width 12; layers 1, 3, 5 of 5, of width 24.
    assert objective.student_projection.in_features == 12
    assert objective.teacher_projection.in_features == 3 * 24


@every_setting
def test_a_restored_objective_continues_identically(name):
    objective, restored = make(SETTINGS[name]), make(SETTINGS[name])
    for rows in BATCHES:
        step(objective, rows)
    saved = {key: value.clone() for key, value in objective.state_dict().items()}
    restored.load_state_dict(saved)
    for copy in (objective, restored):
        copy.start_epoch(Epoch(seed=1, number=2, total=2))

    assert [step(objective, rows) for rows in BATCHES] == [step(restored, rows) for rows in BATCHES]
    for key, value in objective.state_dict().items():
        assert torch.equal(value, restored.state_dict()[key]), key


def test_the_initial_memory_depends_on_the_seed():
    first, repeated, other = make(SETTINGS["nce"]), make(SETTINGS["nce"]), make(SETTINGS["nce"])
    other.start_training(NUM_ROWS, rows_of(list(range(NUM_ROWS)))["labels"], seed=2)

    vectors = [objective.contrast.student.vectors for objective in (first, repeated, other)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], first.contrast.teacher.vectors)


@every_setting
def test_the_loss_stays_in_float32_under_autocast(name):
    objective, repeated = make(SETTINGS[name]), make(SETTINGS[name])

    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(rows_of(BATCHES[0]))
    expected = repeated(rows_of(BATCHES[0])).parts["contrastive"]

    assert terms.parts["contrastive"].dtype == torch.float32
    assert terms.parts["contrastive"].item() == pytest.approx(expected.item(), rel=0.1)
    assert {value.dtype for value in objective.contrast.state_dict().values()} <= {
        torch.float32,
        torch.int64,
    }


def test_negatives_default_to_a_bank_for_labeled_text_and_a_queue_for_other_text():
    assert CodirConfig().memory == "bank"
    assert CodirConfig(task_weight=0).memory == "queue"
    assert CodirConfig(negatives="queue").memory == "queue"
    assert CodirConfig(task_weight=0, negatives="bank").memory == "bank"
    assert CodirConfig(task_weight=0, loss="nce").memory == "bank"
    assert CodirConfig().needs_labels
    assert not CodirConfig(task_weight=0).needs_labels


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "nce", "negatives": "queue"}, "set negatives: bank, or loss: infonce"),
        ({"task_weight": 0, "momentum": 0.5}, "momentum belongs to a bank"),
        ({"logit_weight": 0}, "greater than 0"),
        ({"teacher_layers": ()}, "at least 1 item"),
        ({"teacher_layers": (0,)}, "greater than or equal to 1"),
    ],
)
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        CodirConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_layers": (1, 6)}, r"teacher_layers \[1, 6\] of a teacher with 5 layers"),
        ({"student_layers": (2, 2)}, "name each once, from 1 to 2, or set all"),
    ],
)
def test_layers_beyond_the_models_are_refused(settings, message):
    with torch.device("meta"):
        student, teacher = tiny_encoder(num_layers=2), tiny_encoder(num_layers=5)

    with pytest.raises(InputError, match=message):
        Codir.check(CodirConfig(**settings), student, teacher)


def test_a_row_without_negatives_is_reported():
    classes = make(CodirConfig())

    # The labels are 0, 1 and 2.
    with pytest.raises(InputError, match="row 1 .* label is 1, .* label_margin 1; set a smaller"):
        make(CodirConfig(), num_labels=1)
    with pytest.raises(InputError, match="row 0 .* all rows have the label 2; give rows of two"):
        classes.start_training(3, torch.full((3,), 2.0), 1)
    with pytest.raises(InputError, match="the text has one row"):
        make(SETTINGS["unlabelled_bank"]).start_training(1, None, 1)
    assert make(CodirConfig(label_margin=0.9), num_labels=1)


@pytest.mark.slow
def test_two_workers_have_the_state_of_one_with_the_combined_batches(tmp_path):
    torch.multiprocessing.spawn(_worker, args=(str(tmp_path),), nprocs=2)

    for name, config in SETTINGS.items():
        objective = make(config)
        for rows in (*BATCHES, BATCHES[0]):
            step(objective, rows)
        expected = objective.state_dict()
        first, second = (
            torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)
        )
        assert first.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(first[key], second[key]), f"{name} {key}"
            torch.testing.assert_close(first[key], value, msg=f"{name} {key}")


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        for name, config in SETTINGS.items():
            objective = make(config)
            model = DistributedDataParallel(objective, broadcast_buffers=False)
            for rows in (*BATCHES, BATCHES[0]):
                share = rows[rank::2]
                # As in the loop: a worker without rows takes part with a row of weight 0.
                step(model, share or rows[:1], weight=len(share) * 2 / len(rows))
            torch.save(objective.state_dict(), Path(folder) / f"{name}-{rank}.pt")
        # Models must not hold the group's last reference: its destructor waits, with the GIL,
        # for a thread that may wait for the GIL (torch 2.13).
        del model
    finally:
        dist.destroy_process_group()
