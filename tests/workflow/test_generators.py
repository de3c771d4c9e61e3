"""Training of masked-LM heads for generators: the stage of a run, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_tiny_model

from raykd.cli import app as cli
from raykd.errors import InputError
from raykd.models.masked_lm import missing_head_weights
from raykd.training.masked_lm_head.report import read_report
from raykd.workflow.checks.tune_checks import check_space
from raykd.workflow.corpus_stages import ingest, load_task
from raykd.workflow.generators import generator_facts, generator_of, train_generators
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run

NOUNS = ("film", "book", "plot", "scene", "story", "ending", "music", "voice", "sound", "actor")
ADJECTIVES = ("good", "bad", "fine", "poor", "great", "awful", "dull", "bright", "slow", "quick")
HEAD = {"num_steps": 150, "batch_size": 8, "learning_rate": 2e-2, "max_length": 16}


@pytest.fixture
def sentences() -> list[str]:
    generator = np.random.default_rng(0)
    return [
        "the {} was {} and the {} is not {}".format(*words)
        for words in zip(
            *(generator.choice(words, 240) for words in (NOUNS, ADJECTIVES) * 2), strict=True
        )
    ]


def write_rows(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make_run(folder: Path, sentences: list[str], generator: object, **changes: object) -> Run:
    """Make a run on labeled sentences, with the same sentences as corpus."""
    labeled = [
        {"sentence": text, "label": ("neg", "pos")[row % 2]} for row, text in enumerate(sentences)
    ]
    values = {
        "name": "tiny",
        "variants": ["direct"],
        "task": {
            "name": "reviews",
            "train": write_rows(folder / "train.jsonl", labeled),
            "dev": write_rows(folder / "dev.jsonl", labeled[:20]),
            "sentence_columns": ["sentence"],
        },
        "corpus": {
            "paths": [write_rows(folder / "corpus.jsonl", [{"text": t} for t in sentences])],
            "units": {"policy": "line"},
        },
        "teacher": {"model": str(save_tiny_model(folder / "teacher"))},
        "student": {"num_layers": 1},
        "adaptation": {
            "max_length": 16,
            "objective": {"name": "cilda", "generator": generator},
        },
        **changes,
    }
    run = Run(Recipe.parse(values, "recipe"), folder / "out", folder / "out" / "units")
    load_task(run)
    return run


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("text", ["task", "corpus"])
def test_a_head_is_trained_once_and_checked_with_the_current_thresholds(tmp_path, sentences, text):
    run = make_run(tmp_path, sentences, {"train_head": {**HEAD, "text": text}})
    if text == "corpus":
        ingest(run)
    train_generators(run)

    folder = run.out / "generator" / "adaptation"
    assert generator_of(run, run.recipe.adaptation) == str(folder)
    assert missing_head_weights(str(folder)) == ()
    report = read_report(folder)
    assert report.perplexity < 0.9 * report.unigram_perplexity
    assert generator_facts(run) == [("adaptation", str(tmp_path / "teacher"), report)]
    [before] = folder.glob("manifest.json")
    written = before.stat().st_mtime_ns

    key = "adaptation.objective.generator.train_head.max_perplexity_ratio"
    strict = replace(run, recipe=run.recipe.with_values({key: 0.1}, "test"))
    with pytest.raises(InputError, match=rf"learned too little: .* {key}|\({key}: at most 0.1\)"):
        train_generators(strict)
    train_generators(run)
    assert before.stat().st_mtime_ns == written


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_train_head_writes_a_masked_language_model_or_refuses(tmp_path, sentences, capsys):
    model, out = save_tiny_model(tmp_path / "model"), tmp_path / "head"
    corpus = write_rows(tmp_path / "corpus.jsonl", [{"text": text} for text in sentences])

    def command(*options: str) -> int:
        settings = [
            f"--{name.replace('_', '-')}={value}"
            for name, value in {**HEAD, "num_steps": 100}.items()
        ]
        arguments = [
            "train-head",
            str(model),
            "--text",
            corpus,
            "--out",
            str(out),
            *settings,
            *options,
        ]
        return cli._exit_code(arguments)

    assert command("--max-perplexity-ratio", "0.01") == 2
    assert "--max-perplexity-ratio: at most 0.01" in capsys.readouterr().err
    assert not out.exists()
    assert command("--max-perplexity-ratio", "2", "--min-accuracy-gain", "-1") == 0

    assert missing_head_weights(str(out)) == ()
    assert read_report(out).num_steps == 100
    assert {path.name for path in tmp_path.iterdir()} == {"model", "corpus.jsonl", "head"}
    # The written model has a head.
    model = out
    out = tmp_path / "again"
    assert command() == 2
    assert "already has a masked-language-model head; use it as is" in capsys.readouterr().err


def test_trials_share_the_generator(tmp_path, sentences):
    for key in ("generator", "generator.model", "generator.train_head.num_steps"):
        search = {"space": {f"adaptation.objective.{key}": {"choice": ["a", "b"]}}}
        generator = {"train_head": {**HEAD, "text": "task"}}
        run = make_run(tmp_path, sentences, generator, tune=search)
        with pytest.raises(InputError, match="cannot change .*(share the generator|other than)"):
            check_space(run.recipe)


def test_a_variant_without_a_generator_needs_none(tmp_path, sentences):
    run = make_run(tmp_path, sentences, None, variants=["alone"])
    assert generator_facts(run) == []
    train_generators(run)
    assert not (run.out / "generator").exists()
