"""Run of variants with several injections on named corpora, with tiny models."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.report.results import Results

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.slow]

THINGS = ("film", "book", "plot", "actor", "scene", "story", "ending", "music")
GOOD, BAD = ("good", "fine", "great", "bright"), ("bad", "poor", "awful", "dull")


def lines(texts: list[str]) -> str:
    return "\n".join(json.dumps({"text": text}) for text in texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    save_tiny_model(folder / "teacher")
    words = [(word, "praise") for word in GOOD] + [(word, "blame") for word in BAD]
    for split, things in (("train", THINGS[:4]), ("dev", THINGS[4:6])):
        rows = [{"text": f"the {t} was {w}", "label": label} for t in things for w, label in words]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, verb in (("web", "is very"), ("news", "was not")):
        texts = [f"a {t} {verb} {w} and a {o}" for t in THINGS for w, _ in words for o in THINGS]
        (folder / f"{name}.jsonl").write_text(lines(texts))
    phase = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "max_length": 20}
    minilm = {"name": "minilmv2", "relation_heads": 4}
    values = {
        "name": "variants",
        "variants": ["general", "general+contextualized@news", "codir", "random@web"],
        "task": {
            "name": "reviews",
            "train": "train.jsonl",
            "dev": "dev.jsonl",
            "sentence_columns": ["text"],
        },
        "corpora": {
            name: {"paths": [f"{name}.jsonl"], "units": {"policy": "line", "min_words": 1}}
            for name in ("web", "news")
        },
        "retrieval": {"top_k": 3},
        "contextualize": {"max_units": 30},
        "teacher": {"model": "teacher", **phase, "epochs": 10, "learning_rate": 5e-3},
        "student": {"num_layers": 1},
        "injection": {"objective": minilm | {"cached_teacher": True}, **phase},
        "injections": {
            "general": {
                "text": "random",
                "corpus": "web",
                "num_units": 40,
                "teacher": "pretrained",
            },
            "codir": {
                "text": "random",
                "corpus": "web",
                "num_units": 40,
                "teacher": "pretrained",
                "objective": {"name": "codir_pretraining", "num_negatives": 64},
            },
        },
        "adaptation": {"objective": {"name": "fine_tune"}, **phase},
        "tune": {
            "num_trials": 2,
            "variant": "general",
            "space": {"injections.general.learning_rate": {"choice": [1e-4, 1e-3]}},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_shared_first_injections_on_named_corpora_are_trained_once(folder, capsys):
    recipe, out = str(folder / "recipe.yaml"), folder / "out"

    assert raykd(["run", recipe, "--out", str(out)]) == 0

    injected = {path.parent.name for path in out.glob("students/*/injected")}
    chains = ["general", "general+contextualized@news", "codir", "random@web"]
    assert injected == {f"{name}-random-seed1" for name in chains}
    assert {path.name for path in (out / "texts").iterdir()} == {
        *("random-40@web", "contextualized@web", "random@web", "contextualized@news")
    }
    assert {path.name for path in out.glob("hits*")} == {"hits@news", "hits@web"}
    # A pretrained teacher has no logits to be cached.
    cached = {path.name for path in (out / "teacher_outputs" / "general").glob("*.npy")}
    assert cached == {"relations-paper.npy"}
    results = Results.model_validate_json((out / "results.json").read_text())
    assert {corpus.name for corpus in results.corpora} == {
        *("random-40@web", "contextualized@web", "random@web", "contextualized@news")
    }
    steps = {variant.variant: variant.steps for variant in results.variants}
    assert [step.teacher for step in steps["general+contextualized@news"]] == [
        str(folder / "teacher"),
        None,
    ]
    page = (out / "report.html").read_text()
    assert "contextualized@news" in page
    assert "codir_pretraining" in page
    before = {path: path.stat().st_mtime_ns for path in out.rglob("manifest.json")}
    assert raykd(["run", recipe, "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("manifest.json")} == before

    capsys.readouterr()
    assert raykd(["corpus", recipe, "--out", str(out)]) == 0
    assert "reviews@news" in capsys.readouterr().out
    assert raykd(["tune", recipe, "--out", str(out)]) == 0
    study = json.loads((out / "tune" / "result" / "trials.json").read_text())
    assert study["variant"] == "general"
    assert len(study["trials"]) == 2
