"""Training steps with one thread per core, on cores that other processes use.

    python experiments/benchmarks/bench_busy_cores.py [--seconds 10] [--busy 0 1 2]

OpenMP's threads wait for each other at the end of every operation: first they spin, then they
sleep. raykd shortens the spinning (GOMP_SPINCOUNT) in the Ray that it starts. Prints JSON:
milliseconds per step (median of the rounds, in which the settings take turns) by setting and number
of busy processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from raykd.cluster.connection import SPIN_COUNT

_SETTINGS = {
    "default": {},
    "raykd": {"GOMP_SPINCOUNT": SPIN_COUNT},
    "no spinning": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def main() -> None:
    """Measure in processes of their own, since OpenMP reads the settings when it is loaded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(step_ms(options.seconds))
        return
    times: dict[int, dict[str, list[float]]] = {
        num_busy: {name: [] for name in _SETTINGS} for num_busy in options.busy
    }
    for _ in range(options.rounds):
        for num_busy, of_settings in times.items():
            for name, measured in of_settings.items():
                measured.append(measure(_SETTINGS[name], num_busy, options.seconds))
    results = {
        f"{num_busy} busy processes": {
            name: round(statistics.median(measured)) for name, measured in of_settings.items()
        }
        for num_busy, of_settings in times.items()
    }
    print(json.dumps({"cores": os.cpu_count(), "ms_per_step": results}, indent=2))


def measure(settings: dict[str, str], num_busy: int, seconds: float) -> float:
    """Milliseconds per step next to `num_busy` processes that compute without a pause."""
    ours = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num_busy)]
    try:
        command = [sys.executable, __file__, "--train", "--seconds", str(seconds)]
        done = subprocess.run(
            command, env=environment | settings, check=True, stdout=subprocess.PIPE
        )
        return float(done.stdout)
    finally:
        for process in busy:
            process.kill()


def step_ms(seconds: float) -> float:
    """Mean milliseconds of a training step of 6 layers of width 384, on 16 rows of 32 tokens."""
    # Imported in the measured process only.
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(os.cpu_count() or 1)
    config = BertConfig(
        vocab_size=3000,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters())
    ids, labels = torch.randint(0, 3000, (16, 32)), torch.zeros(16, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()

    step()
    started, num_steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        num_steps += 1
    return (time.perf_counter() - started) / num_steps * 1000


if __name__ == "__main__":
    main()
