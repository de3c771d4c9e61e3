"""GPUs and CPUs of trainings and trials, on a Ray with two pretended GPUs."""

import subprocess
import sys
import textwrap

import pytest

# A Ray with other resources than that of the tests needs a process of its own.
SCRIPT = """
import ray
from raykd.cluster.connection import any_agent_port
from raykd.cluster.devices import assigned_device
from raykd.training.distributed.config import WorkersConfig
from raykd.training.distributed.placement import uses_gpu
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.tune.resources import TrialResources, trial_resources

with any_agent_port():
    ray.init(
        "local",
        num_cpus=4,
        num_gpus={num_gpus},
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )

def workers(**values):
    return WorkersConfig.parse(values, "workers")

def trials(tune, **workers):
    values = {{
        "name": "field",
        "task": {{
            "name": "field", "train": "train.csv", "dev": "dev.csv", "sentence_columns": ["text"]
        }},
        "teacher": {{"model": "model", "epochs": 1, "learning_rate": 1e-4}},
        "student": {{"num_layers": 1, "inits": ["random"]}},
        "variants": ["direct"],
        "adaptation": {{
            "objective": {{"name": "vanilla_kd"}}, "epochs": 1, "learning_rate": 1e-4
        }},
        "workers": workers,
        "tune": {{"space": {{"adaptation.learning_rate": {{"float": [1e-5, 1e-3]}}}}, **tune}},
    }}
    return trial_resources(Recipe.parse(values, "recipe"))

{checks}
"""


def run_with_gpus(num_gpus: int, checks: str) -> None:
    script = SCRIPT.format(num_gpus=num_gpus, checks=textwrap.dedent(checks))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_trainings_and_trials_take_the_gpus_that_the_cluster_has():
    run_with_gpus(
        2,
        """
        assert uses_gpu(workers())
        assert not uses_gpu(workers(use_gpu=False))
        # Workers that wait for each other need all their GPUs at once.
        assert uses_gpu(workers(num_workers=2))
        assert not uses_gpu(workers(num_workers=2, models_at_once=2))
        # Models with one worker take turns.
        assert uses_gpu(workers(models_at_once=4))

        assert trials({}) == TrialResources(1.0, 1.0, 2)
        assert trials({"gpus_per_trial": 0.5}) == TrialResources(1.0, 0.5, 4)
        assert trials({"gpus_per_trial": 0.4}) == TrialResources(1.0, 0.4, 4)
        assert trials({"gpus_per_trial": 0}) == TrialResources(1.0, 0, 4)
        assert trials({"cpus_per_trial": 2}, use_gpu=False) == TrialResources(2.0, 0.0, 2)
        assert trials({}, use_gpu=False, cpus_per_worker=9) == TrialResources(4.0, 0.0, 1)
        assert trials({"max_concurrent_trials": 3}).num_at_once == 3
        assert trials({"workers_per_trial": 2}) == TrialResources(2.0, 2.0, 1, 2)
        assert trials({"workers_per_trial": 2}).per_worker == {"CPU": 1.0, "GPU": 1.0}

        device = ray.remote(num_gpus=0.5)(assigned_device)
        assert ray.get(device.remote()).type == "cuda"
        assert ray.get(ray.remote(assigned_device).remote()).type == "cpu"
        """,
    )


@pytest.mark.slow
@pytest.mark.ray
def test_without_gpus_everything_runs_on_cpus_or_is_refused():
    run_with_gpus(
        0,
        """
        from raykd.errors import InputError

        assert not uses_gpu(workers())
        assert trials({}) == TrialResources(1.0, 0.0, 4)
        assert trials({"workers_per_trial": 2}) == TrialResources(2.0, 0.0, 2, 2)
        assert trials({"workers_per_trial": 8}).per_worker == {"CPU": 0.5, "GPU": 0.0}
        for keys, problem in (
            ({"gpus_per_trial": 0.5}, "tune.gpus_per_trial: 0.5 GPUs are needed, Ray has 0 here"),
            ({"gpus_per_trial": 3, "workers_per_trial": 2}, "3 GPUs cannot be shared by 2"),
        ):
            try:
                trials(keys)
            except InputError as error:
                assert problem in str(error)
            else:
                raise AssertionError("not refused")
        """,
    )
