"""`raykd corpus` again after kills at any moment: the same corpora, and nothing done twice."""

import random
import time
from itertools import pairwise
from pathlib import Path

import pytest
from chaos import Command, Finished
from test_corpora import made_in, recipe_values, write_inputs, write_recipe

from raykd.cli.app import _exit_code as raykd

NUM_KILLS = 6
MANIFESTS = "**/manifest.json"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(1200)
def test_kills_of_the_driver_at_random_moments_change_no_corpus(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    # Four shards: what is done for each of them, and after them, is killed about as often.
    corpus = recipe_values()["corpus"] | {"shard_bytes": 10_000}
    command = ["corpus", str(write_recipe(tmp_path, corpus=corpus)), "--out"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    out.mkdir()
    with Finished(whole, MANIFESTS) as finished:
        assert raykd([*command, str(whole)]) == 0
    rng = random.Random(3)
    bounds = [len(finished.seen) * number // NUM_KILLS for number in range(NUM_KILLS + 1)]
    moments = [rng.randrange(*pair) for pair in pairwise(bounds)]
    with Finished(out, MANIFESTS) as finished:
        for moment in moments:
            running = Command(tmp_path, ["-m", "raykd", *command, str(out)])
            # What stands for a moment only is not always seen, so that the last one may not come.
            if not running.wait_until(lambda at=moment: len(finished.seen) >= at):
                break
            time.sleep(rng.random() / 10)
            running.kill()
        assert Command(tmp_path, ["-m", "raykd", *command, str(out)]).process.wait() == 0, (
            tmp_path / "errors.txt"
        ).read_text()
    assert finished.done_again() == []
    assert made_in(out) == made_in(whole)
    assert sorted(path.name for path in out.rglob(".*")) == []
