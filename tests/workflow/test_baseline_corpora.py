"""The corpora that a contextualized one is compared with, made by the stages of a run."""

import json

import oracle_dsir
import pyarrow.parquet as pq
import yaml
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model

from raykd.contextualize.card import read_card
from raykd.workflow.run import open_run
from raykd.workflow.stages import run_stages

TASK = ["the river bank", "the bank of the river", "a loan of money", "money of the bank"]


def test_dsir_and_random_corpora_have_as_many_units_or_bytes_as_the_contextualized(tmp_path):
    save_tiny_model(tmp_path / "teacher")
    rows = [{"text": text, "label": str(number % 2)} for number, text in enumerate(TASK)]
    for split in ("train", "dev"):
        texts = rows if split == "train" else [row | {"text": f"{row['text']}!"} for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, texts)))
    words = ("river", "bank", "money", "loan", "tree", "stone", "cloud")
    lines = [f"{a} {b} {n}" for a in words for b in words for n in range(6)]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    recipe = {
        "name": "mine",
        "variants": ["contextualized", "random", "dsir"],
        "task": {
            "name": "mine",
            "train": "train.jsonl",
            "dev": "dev.jsonl",
            "sentence_columns": ["text"],
        },
        "corpus": {"paths": ["corpus.txt"], "units": {"policy": "line", "min_words": 1}},
        "retrieval": {"top_k": 10},
        "contextualize": {"random_seed": 3, "dsir": {"smoothing": 1e-3}},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "minilmv2", "relation_heads": 4}},
        "adaptation": {},
    }
    for unit in ("units", "bytes"):
        recipe["contextualize"]["baseline_size"] = unit
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        run = open_run(tmp_path / "recipe.yaml", tmp_path / "out")
        with serial_tasks():
            run_stages(run, "contextualize")
        texts = {text.kind: run.training_text(text) for text in run.recipe.corpus_texts}
        cards = {kind: read_card(folder) for kind, folder in texts.items()}
        own = cards["contextualized"]
        assert own.num_units > 5
        for kind in ("random", "dsir"):
            assert cards[kind].kind == kind
            assert cards[kind].max_units == (own.num_units if unit == "units" else None)
            assert cards[kind].num_missing == cards[kind].num_missing_bytes == 0
            if unit == "units":
                assert cards[kind].num_units == own.num_units
            else:
                # No unit is longer than 14 bytes ("stone stone 5").
                assert 0 <= cards[kind].num_bytes - own.num_bytes < 14
        if unit == "units":
            paths = (tmp_path / "out" / "units").glob("*/units-*.parquet")
            units = [row for path in paths for row in pq.read_table(path).to_pylist()]
            by_id = {row["unit_id"]: row["text"] for row in units}
            found = pq.read_table(texts["dsir"] / "text.parquet")["unit_id"].to_pylist()
            assert found == oracle_dsir.best(by_id, TASK, own.num_units, 3, 10_000, 1e-3)
    assert not list((tmp_path / "out" / "texts").glob(".*"))
