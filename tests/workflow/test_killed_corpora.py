"""`raykd corpus` after kills at random moments: the same corpora, and no repeated work."""

import random
import time
from itertools import pairwise
from pathlib import Path

import pytest
from chaos import Command, Finished
from test_corpora import contents_of, recipe_values, write_inputs, write_recipe

from raykd.cli.app import _exit_code as raykd

NUM_KILLS = 6
MANIFESTS = "**/manifest.json"


@pytest.mark.exhaustive
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(1200)
def test_kills_of_the_driver_do_not_change_the_corpora(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    # With four shards, kills are about equally frequent in work per shard and after it.
    corpus = recipe_values()["corpus"] | {"shard_bytes": 10_000}
    command = ["corpus", str(write_recipe(tmp_path, corpus=corpus)), "--out"]
    uninterrupted, out = tmp_path / "whole", tmp_path / "out"
    out.mkdir()
    with Finished(uninterrupted, MANIFESTS) as completed:
        assert raykd([*command, str(uninterrupted)]) == 0
    rng = random.Random(3)
    bounds = [len(completed.seen) * number // NUM_KILLS for number in range(NUM_KILLS + 1)]
    moments = [rng.randrange(*pair) for pair in pairwise(bounds)]
    with Finished(out, MANIFESTS) as completed:
        for moment in moments:
            running = Command(tmp_path, ["-m", "raykd", *command, str(out)])
            # Short-lived files are not always seen, so that the last moment may not come.
            if not running.wait_until(lambda at=moment: len(completed.seen) >= at):
                break
            time.sleep(rng.random() / 10)
            running.kill()
        assert Command(tmp_path, ["-m", "raykd", *command, str(out)]).process.wait() == 0, (
            tmp_path / "errors.txt"
        ).read_text()
    assert completed.done_again() == []
    assert contents_of(out) == contents_of(uninterrupted)
    assert sorted(path.name for path in out.rglob(".*")) == []
