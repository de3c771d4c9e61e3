"""Corpora of a sweep: no sentence of the rows that are reported is in them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from serial_tasks import serial_tasks

from raykd.tasks.store import hold_out, write_folds
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages
from raykd.workflow.tune.trial.setting import Setting, setting_of

THINGS = ("film", "book", "plot", "actor", "scene", "story", "ending", "music", "cast", "sound")
REPORTED = "all friends of mine say that the cinema was good"


def write_rows(path: Path, texts: list[str]) -> str:
    rows = [{"text": text, "label": "ab"[place % 2]} for place, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def setting_in(folder: Path, tune: dict) -> Setting:
    """A sweep's setting, with the rows that trials train on and are scored on written."""
    sentences = [f"all friends of mine say that the {thing} was good" for thing in THINGS * 4]
    corpus = [f"yesterday {text} again" for text in (REPORTED, sentences[0])]
    corpus += [f"a good {thing} for {other}" for thing in THINGS for other in ("all", "friends")]
    values = {
        "name": "reviews",
        "variants": ["contextualized"],
        "task": {
            "name": "reviews",
            "train": write_rows(folder / "train.jsonl", sentences),
            "dev": write_rows(folder / "dev.jsonl", [REPORTED, "another reported row"]),
            "sentence_columns": ["text"],
        },
        "corpus": {
            "paths": [write_rows(folder / "corpus.jsonl", corpus)],
            "units": {"policy": "line", "min_words": 1},
        },
        "retrieval": {"top_k": 20},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "tinybert"}},
        "adaptation": {},
        "tune": {"space": {"adaptation.learning_rate": {"float": [1e-5, 1e-3]}}, **tune},
    }
    run = Run(Recipe.parse(values, "test"), folder / "out", folder / "out" / "units")
    run_stages(run, "ingest")
    setting = setting_of(run)
    if setting.folds:
        write_folds(run.task_folder, 0, [fold.task_folder for fold in setting.folds])
    else:
        hold_out(run.task_folder, 0.2, setting.run.task_folder)
    return setting


@pytest.mark.parametrize("tune", [{}, {"folds": 2}], ids=["held_out_rows", "folds"])
def test_reported_sentences_are_in_no_corpus_of_a_sweep(tmp_path, tune):
    with serial_tasks():
        setting = setting_in(tmp_path, tune)
        for part in setting.parts:
            run_stages(part.run, "contextualize", first="retrieve")
            texts = pq.read_table(part.run.out / "texts" / "contextualized" / "text.parquet")
            assert "a good film for all" in texts["text"].to_pylist()
            assert not any(REPORTED in text for text in texts["text"].to_pylist())
