"""Repeatedly killed trainings equal uninterrupted ones bit for bit."""

import random

import pytest
from killed_training import NUM_STEPS, KilledTraining, job_in, killed

from raykd.objectives import OBJECTIVES
from raykd.training.logging.metrics_writer import CURVE_FILE, STEPS_FILE
from raykd.training.phase.job import MODEL_FOLDER

# Every objective is killed twice with one worker and twice with two: 52 times in all.
_NUM_KILLS = 2
_EVERY_DAY = ("vanilla_kd", "codir")


def marks_of(objective: str) -> list[pytest.MarkDecorator]:
    return [] if objective in _EVERY_DAY else [pytest.mark.exhaustive]


@pytest.mark.parametrize(
    ("objective", "num_workers"),
    [pytest.param(name, number, marks=marks_of(name)) for name in OBJECTIVES for number in (1, 2)],
)
def test_a_killed_training_equals_an_uninterrupted_one(tmp_path, objective, num_workers):
    chance = random.Random(f"{objective} {num_workers}")
    job = job_in(tmp_path, objective)
    KilledTraining(job, num_workers).run_to_the_end()

    training = KilledTraining(killed(job), num_workers)
    for _ in range(_NUM_KILLS):
        logged_step = training.run_and_kill(
            chance.randint(1, NUM_STEPS - 10), chance.uniform(0, 0.05)
        )
        assert logged_step < NUM_STEPS, "it was not killed in time"
    training.run_to_the_end()

    for name in (STEPS_FILE, CURVE_FILE, f"{MODEL_FOLDER}/model.safetensors"):
        assert (training.job.out / name).read_bytes() == (job.out / name).read_bytes()
    assert not training.job.unfinished.exists()
