"""Sweep over top_k and inits: one search, one slice per value, the bytes of a run."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.retrieval import pipeline as retrieval_pipeline
from raykd.training.teacher_cache import OutputsJob
from raykd.workflow.run import open_run
from raykd.workflow.stages import run_stages
from raykd.workflow.tune import tuning

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
TOP_K, INITS = "retrieval.top_k", "student.inits"
WORDS = ("good", "fine", "great", "bright", "bad", "poor", "awful", "dull")
THINGS = ("film", "book", "plot", "actor", "scene", "story", "ending", "music")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    save_tiny_model(folder / "teacher")
    for split, things in (("train", THINGS[:4]), ("dev", THINGS[4:6]), ("test", THINGS[6:])):
        rows = [
            {"text": f"the {thing} was {word}", "label": place // 4}
            for thing in things
            for place, word in enumerate(WORDS)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [f"a {a} is very {w} and a {b}" for a in THINGS for w in WORDS for b in THINGS]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    phase = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "max_length": 20}
    values = {
        "name": "tiny",
        "variants": ["contextualized"],
        "task": {
            "name": "reviews",
            **{split: f"{split}.jsonl" for split in ("train", "dev", "test")},
            "sentence_columns": ["text"],
        },
        "corpus": {"paths": ["corpus.jsonl"], "units": {"policy": "line", "min_words": 1}},
        "retrieval": {"top_k": 2},
        "teacher": {"model": "teacher", **phase, "epochs": 4},
        "student": {"num_layers": 1, "inits": ["skip"]},
        "injection": {
            "objective": {"name": "minilmv2", "relation_heads": 4, "cached_teacher": True},
            **phase,
        },
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase},
        "tune": {
            "sampler": "grid",
            "scheduler": "none",
            "space": {TOP_K: {"int": [1, 3]}, INITS: {"choice": ["skip", "random"]}},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_trials_share_one_search_and_have_the_texts_of_runs(folder, monkeypatch):
    out, kept = folder / "out", folder / "slices"
    searches: list[int] = []
    outputs: list[str] = []
    search, join = retrieval_pipeline.search_corpus, OutputsJob.join_parts
    write_result = tuning.write_result

    def counting_search(shards, query_sets, *args, **kwargs):
        searches.append(query_sets[0].top_k)
        return search(shards, query_sets, *args, **kwargs)

    def counting_join(job):
        outputs.append(job.text.parent.name)
        join(job)

    def keeping_slices(*args):
        shutil.copytree(out / "tune" / "corpora" / "slices", kept)
        return write_result(*args)

    monkeypatch.setattr(retrieval_pipeline, "search_corpus", counting_search)
    monkeypatch.setattr(OutputsJob, "join_parts", counting_join)
    monkeypatch.setattr(tuning, "write_result", keeping_slices)
    assert raykd(["tune", str(folder / "recipe.yaml"), "--out", str(out)]) == 0

    lines = (out / "tune" / "trials.jsonl").read_text().splitlines()
    trials = sorted(map(json.loads, filter(None, lines)), key=lambda trial: trial["number"])
    assert all(trial["error"] is None for trial in trials)
    points = [(trial["values"][TOP_K], trial["values"][INITS]) for trial in trials]
    assert points[0] == (2, "skip")
    assert sorted(points) == [(k, init) for k in (1, 2, 3) for init in ("random", "skip")]
    # One search with the largest k; outputs on its corpus, and on the task's rows.
    assert searches == [3]
    assert outputs == ["contextualized", "task"]
    slices = sorted(path.name for path in kept.iterdir() if path.is_dir())
    assert slices == [f"contextualized-rank-{k}" for k in (1, 2, 3)]
    assert not (out / "hits").exists()
    assert not (out / "tune" / "corpora" / "slices").exists()

    assert raykd(["best", str(out)]) == 0
    assert raykd(["best", str(out), "--rerun"]) == 0
    best = yaml.safe_load((out / "best.yaml").read_text())
    chosen = next(t for t in trials if t["score"] == max(other["score"] for other in trials))
    assert best["retrieval"]["top_k"] == chosen["values"][TOP_K]
    assert best["student"]["inits"] == [chosen["values"][INITS]]

    for k in (1, 2, 3):
        changed = yaml.safe_load((folder / "recipe.yaml").read_text())
        changed["retrieval"]["top_k"] = k
        (folder / f"run{k}.yaml").write_text(yaml.safe_dump(changed))
        run = open_run(folder / f"run{k}.yaml", folder / f"run{k}")
        run_stages(run, "contextualize")
        text = "contextualized/text.parquet"
        sliced = (kept / f"contextualized-rank-{k}" / "text.parquet").read_bytes()
        assert sliced == (run.out / "texts" / text).read_bytes()
