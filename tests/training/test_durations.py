"""Duration of a training in its manifest."""

import time

import pytest
from event_handlers import calling
from killed_training import job_in, killed

from raykd.storage.manifest import read_manifest
from raykd.training.phase.run import run_phase
from raykd.training.trainers import Worker


def test_the_duration_is_that_of_all_steps_also_after_a_resume(tmp_path):
    class StoppedError(Exception):
        pass

    def slowly(step: int) -> None:
        time.sleep(0.02)

    def slowly_to_30(step: int) -> None:
        slowly(step)
        if step == 30:
            raise StoppedError

    whole = job_in(tmp_path, "fine_tune")
    run_phase(whole, Worker(), events=calling(on_step=slowly))
    resumed = killed(whole)
    with pytest.raises(StoppedError):
        run_phase(resumed, Worker(), checkpoint_every_s=0, events=calling(on_step=slowly_to_30))
    run_phase(resumed, Worker(), checkpoint_every_s=0, events=calling(on_step=slowly))

    for job in (whole, resumed):
        manifest = read_manifest(job.out)
        assert manifest.duration_s > 0.02 * manifest.counts["num_steps"] > 0.6
