"""Runs of tiny models on a real Ray, from a corpus to a report."""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file
from tiny_models import save_tiny_model
from transformers import AutoTokenizer, pipeline

from raykd.cli.app import _exit_code as raykd
from raykd.evaluation.baselines import BASELINES
from raykd.operations.run_state import read_state
from raykd.report.results import ModelFacts, Results
from raykd.storage.schemas import TRAINING_TEXT
from raykd.workflow.recipe.recipe_file import load_recipe

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

GOOD, BAD = ("good", "fine", "great", "bright"), ("bad", "poor", "awful", "dull")
THINGS = ("film", "book", "plot", "actor", "scene", "story", "ending", "music", "voice", "sound")


def sentences(num_rows: int, seed: int) -> list[tuple[str, str]]:
    """Make sentences of five to nine words with a label."""
    chance = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        label = chance.choice(["praise", "blame"])
        word = chance.choice(GOOD if label == "praise" else BAD)
        things = " and ".join(chance.sample(THINGS, chance.randint(1, 3)))
        rows.append((f"the {chance.choice(THINGS)} was very {word} with {things}", label))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a teacher to fine-tune, a task, a general corpus and a recipe."""
    folder = tmp_path_factory.mktemp("flow")
    save_tiny_model(folder / "teacher")
    for split, num_rows, seed in (("train", 48, 1), ("dev", 30, 2), ("test", 30, 4)):
        lines = [
            json.dumps({"sentence": text, "label": label})
            for text, label in sentences(num_rows, seed)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    renamed = {"praise": "pos", "blame": "neg"}
    lines = [f"{text}\t{renamed[label]}\n" for text, label in sentences(20, 5)]
    (folder / "imdb.tsv").write_text("".join(lines))
    corpus = [json.dumps({"text": text}) for text, _ in sentences(400, 3)]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    write_recipe(folder / "recipe.yaml", **evaluated_values())
    return folder


def recipe_values() -> dict:
    phase = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "max_length": 24}
    return {
        "name": "tiny",
        "seeds": [1, 2],
        "variants": ["tfidf", "alone", "direct", "task", "random", "contextualized"],
        "task": {
            "name": "reviews",
            "train": "train.jsonl",
            "dev": "dev.jsonl",
            "test": "test.jsonl",
            "sentence_columns": ["sentence"],
        },
        "corpus": {"paths": ["corpus.jsonl"], "units": {"policy": "line"}},
        "retrieval": {"top_k": 4},
        "contextualize": {"max_units": 60},
        "teacher": {"model": "teacher", **phase, "epochs": 30, "learning_rate": 5e-3},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "vanilla_kd", "task_weight": 0}, **phase},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase},
        "workers": {"models_at_once": 2},
        "tune": {
            "num_trials": 3,
            "space": {
                "adaptation.learning_rate": {"float": [1e-4, 1e-2], "log": True},
                "adaptation.objective.temperature": {"choice": [1.0, 2.0]},
            },
        },
    }


def evaluated_values() -> dict:
    """Make the values of a recipe with an evaluation set and all linear baselines."""
    values = recipe_values()
    students = [variant for variant in values["variants"] if variant not in BASELINES]
    sets = [
        {
            "name": "imdb",
            "path": "imdb.tsv",
            "columns": ["text", "class"],
            "sentence_columns": ["text"],
            "label_column": "class",
            "labels": ["neg", "pos"],
            "label_map": {"blame": "neg", "praise": "pos"},
            "metrics": ["accuracy", "f1"],
        }
    ]
    return values | {"variants": [*BASELINES, *students], "evaluation": {"sets": sets}}


def write_recipe(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(recipe_values() | changes))
    return path


def files_of(out: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in out.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def completed_out(folder, ray_cluster) -> Path:
    out = folder / "out"
    assert raykd(["run", str(folder / "recipe.yaml"), "--out", str(out)]) == 0
    return out


def test_a_run_scores_every_variant_before_and_after_adaptation(completed_out):
    results = Results.model_validate_json((completed_out / "results.json").read_text())
    students = {(score.variant, score.stage, score.seed) for score in results.scores}
    injected = ("task", "random", "contextualized")
    expected = {(name, "baseline", None) for name in ("majority", *BASELINES)}
    expected |= {("teacher", "teacher", None)}
    expected |= {(variant, "injected", seed) for variant in injected for seed in (1, 2)}
    expected |= {
        (variant, "adapted", seed) for variant in ("alone", "direct", *injected) for seed in (1, 2)
    }
    assert students == expected
    teacher = next(score for score in results.scores if score.variant == "teacher")
    assert teacher.metrics["accuracy"] > 0.9
    assert all(curve.points[-1].metrics for curve in results.curves if curve.phase != "injection")


def test_a_run_scores_every_model_on_an_evaluation_set(completed_out):
    results = Results.model_validate_json((completed_out / "results.json").read_text())
    assert len(results.scores) == 7 + 6 + 10
    assert {tuple(score.sets["imdb"]) for score in results.scores} == {("accuracy", "f1")}
    teacher = next(score for score in results.scores if score.variant == "teacher")
    assert teacher.sets["imdb"]["accuracy"] > 0.9
    assert "imdb: accuracy | imdb: F1" in (completed_out / "student" / "README.md").read_text()


def test_corpora_have_equal_size_and_contain_no_evaluation_sentence(completed_out):
    texts = {
        variant: pq.read_table(completed_out / "texts" / variant / "text.parquet")[
            "text"
        ].to_pylist()
        for variant in ("random", "contextualized")
    }
    assert len(texts["random"]) == len(texts["contextualized"]) == 60
    for split in ("dev", "test"):
        table = pq.read_table(completed_out / "task" / f"{split}.parquet")
        unseen = set(table["sentence1"].to_pylist())
        assert not unseen & {text for variant in texts.values() for text in variant}


def test_the_student_is_loaded_by_transformers(completed_out):
    student = completed_out / "student"
    assert (student / "model.safetensors").is_file()
    card = (student / "README.md").read_text()
    assert "tiny: student `contextualized`, initialized at random" in card
    assert AutoTokenizer.from_pretrained(student).model_max_length == 24  # as in its training
    classify = pipeline("text-classification", model=str(student), device="cpu")
    assert classify("the film was very good")[0]["label"] in ("praise", "blame")


def test_every_adapted_student_is_compared_with_the_teacher(completed_out):
    results = Results.model_validate_json((completed_out / "results.json").read_text())
    variants = ("alone", "direct", "task", "random", "contextualized")
    analyses = {(a.variant, a.init, a.seed): a for a in results.analyses}
    assert set(analyses) == {(variant, "random", seed) for variant in variants for seed in (1, 2)}
    assert {
        (completed_out / "analysis" / f"{variant}-{init}-seed{seed}" / "analysis.json").is_file()
        for variant, init, seed in analyses
    } == {True}
    for analysis in analyses.values():
        assert analysis.divergence.mean > 0
        assert sum(analysis.divergence.counts) == analysis.layers.num_rows == 30
        assert (len(analysis.layers.values), len(analysis.layers.values[0])) == (1, 2)
        assert analysis.layers.measure == "cosine"


def test_differences_are_those_of_the_means_over_seeds(completed_out):
    results = Results.model_validate_json((completed_out / "results.json").read_text())
    means = {
        (
            summary.variant,
            summary.init,
            summary.metric,
            summary.stage == "injected",
        ): summary.mean
        for summary in results.summaries
    }
    others = {}
    for found in results.differences:
        own = means[found.variant, found.init, found.metric, False]
        other = means[found.other, found.other_init, found.metric, found.other_is_injected]
        assert found.difference == pytest.approx(own - other)
        assert found.low <= found.high
        others.setdefault(found.variant, set()).add(found.other)
    assert {"direct", "random", "contextualized"} <= others["contextualized"]
    assert any({"majority", "tfidf", "teacher"} <= names for names in others.values())
    assert "<h2>Comparisons</h2>" in (completed_out / "report.html").read_text()


def test_teacher_and_students_have_a_cost_and_equal_shapes_share_it(completed_out):
    results = Results.model_validate_json((completed_out / "results.json").read_text())
    baselines = [model for model in results.models if model.variant in BASELINES]
    assert [model.variant for model in baselines] == list(BASELINES)
    assert all(model.cost and model.cost.weights_bytes > 0 for model in baselines)
    teacher, *students = trained(results.models)
    assert {model.variant for model in students} == set(recipe_values()["variants"]) - set(
        BASELINES
    )
    assert len(students) == 10
    assert len({model.cost for model in students}) == 1
    student = students[0]
    weights = completed_out / student.folder / "model.safetensors"
    assert student.cost.weights_bytes == weights.stat().st_size < teacher.cost.weights_bytes
    assert 0 < student.cost.flops_per_token < teacher.cost.flops_per_token
    assert student.cost.device == teacher.cost.device != ""
    assert "| parameters |" in (completed_out / "student" / "README.md").read_text()


def trained(models: list[ModelFacts]) -> list[ModelFacts]:
    return [model for model in models if model.variant not in BASELINES]


def test_the_cost_is_measured_again_only_for_another_shape(completed_out, folder):
    from raykd.workflow.collect import measure_models
    from raykd.workflow.run import open_run

    out = folder / "trained_anew"
    shutil.copytree(completed_out, out)
    run = open_run(folder / "recipe.yaml", out)
    before = files_of(out)
    weights = run.adapted("alone", "random", 1) / "model" / "model.safetensors"
    shutil.copy(run.adapted("task", "random", 1) / "model" / weights.name, weights)
    models = trained(measure_models(run))
    assert files_of(run.costs) == {
        name.removeprefix("costs/"): facts
        for name, facts in before.items()
        if name.startswith("costs/")
    }
    (weights.parent / "config.json").write_text(
        (weights.parent / "config.json").read_text().replace("}", "\n}")
    )
    remeasured = trained(measure_models(run))
    assert len({model.cost for model in remeasured}) == 3
    assert remeasured[0].cost.latency_ms != models[0].cost.latency_ms


def test_the_report_is_a_self_contained_page(completed_out):
    page = (completed_out / "report.html").read_text()
    assert page.count("</html>") == 1
    assert "contextualized" in page
    assert "Students compared with the teacher" in page


def test_a_second_run_changes_nothing(completed_out, folder):
    before = files_of(completed_out)
    assert raykd(["run", str(folder / "recipe.yaml"), "--out", str(completed_out)]) == 0
    assert files_of(completed_out) == before


def test_status_and_check_of_a_completed_run_need_no_torch_and_change_nothing(completed_out):
    before = files_of(completed_out)
    code = (
        "import sys; from raykd.cli.app import _exit_code; "
        "print(_exit_code(sys.argv[1:]), 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    for command, expected in (("status", "done         report"), ("check", "nothing is damaged")):
        words = [sys.executable, "-c", code, command, str(completed_out)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert expected in done.stdout
        assert done.stdout.splitlines()[-1] == "0 False False"
    state = read_state(completed_out)
    assert state.is_done
    assert {stage.name: stage.num_outputs for stage in state.stages} == {
        "task": 2,
        "ingest": 1,
        "retrieve": 2,
        "contextualize": 2,
        "teacher": 1,
        "inject": 6,
        "adapt": 10,
        "evaluate": 23,
        "report": 1,
    }
    assert state.hours is not None
    assert state.hours.cpu_hours > 0
    assert state.runs_on is None
    assert files_of(completed_out) == before


def test_a_changed_adaptation_keeps_corpus_teacher_and_injection(completed_out, folder):
    recipe = evaluated_values()
    recipe["adaptation"]["epochs"] = 1
    path = write_recipe(folder / "changed.yaml", **recipe)
    out = folder / "changed"
    shutil.copytree(completed_out, out)
    before = files_of(out)
    assert raykd(["adapt", str(path), "--out", str(out)]) == 0
    after = files_of(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {Path(name).parts[0] for name in changed} == {"students", "recipe.yaml", "times.json"}
    assert all("adapted" in name for name in changed if name.startswith("students"))


@pytest.mark.slow
def test_distill_needs_no_corpus_and_tune_tunes_its_student(folder, capsys):
    values = recipe_values() | {"variants": ["direct"], "seeds": [1], "report_to": ["tensorboard"]}
    for section in ("corpus", "retrieval", "injection"):
        del values[section]
    values["adaptation"] |= {
        "objective": {"name": "codir", "cached_teacher": True},
        "keep": "best",
        "score_every": 2,
    }
    path = folder / "direct.yaml"
    path.write_text(yaml.safe_dump(values))
    out = folder / "direct"

    assert raykd(["distill", str(path), "--out", str(out)]) == 0
    stages = re.findall(r"^([a-z]+) +\d+\.\d s$", capsys.readouterr().err, re.MULTILINE)
    assert stages == ["task", "teacher", "adapt", "evaluate"]
    assert raykd(["tune", str(path), "--out", str(out)]) == 0

    assert {student.name for student in (out / "students").iterdir()} == {"direct-random-seed1"}
    assert (out / "predictions" / "students-direct-random-seed1-adapted").exists()
    tensorboard_runs = {folder.name for folder in (out / "tensorboard").iterdir()}
    assert tensorboard_runs == {"teacher", "adapt direct random seed 1"}
    trials = [folder.name for folder in (out / "tune" / "tensorboard").iterdir()]
    assert len(trials) == 3
    assert all(re.fullmatch(r"trial \w+ adapt direct random seed 1", name) for name in trials)
    study = json.loads((out / "tune" / "result" / "trials.json").read_text())
    assert study["variant"] == "direct"
    assert not (out / "units").exists()


@pytest.fixture(scope="module")
def augmented(folder) -> Path:
    """Folder with files as written by `raykd augment`."""
    out: Path = folder / "augmented"
    out.mkdir()
    rows = [
        {"unit_id": f"{row}", "text": text, "rank": 0, "query_id": None}
        for row, (text, _) in enumerate(sentences(20, seed=9))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRAINING_TEXT), out / "text.parquet")
    return out


def counts(folder: Path) -> dict[str, int]:
    row_counts: dict[str, int] = json.loads((folder / "manifest.json").read_text())["counts"]
    return row_counts


@pytest.mark.exhaustive
def test_a_student_can_be_injected_on_augmented_rows(folder, augmented, capsys):
    values = recipe_values() | {"variants": ["task_da"], "seeds": [1], "task_da": "nothing"}
    del values["corpus"], values["retrieval"]
    path = folder / "task_da.yaml"
    path.write_text(yaml.safe_dump(values))
    out = folder / "task_da"

    assert raykd(["distill", str(path), "--out", str(out)]) == 2
    assert "task_da: no text.parquet in" in capsys.readouterr().err
    path.write_text(yaml.safe_dump(values | {"task_da": str(augmented)}))

    assert raykd(["distill", str(path), "--out", str(out)]) == 0
    assert counts(out / "students" / "task_da-random-seed1" / "injected")["num_rows"] == 20


@pytest.mark.slow
def test_a_student_can_be_injected_on_augmented_rows_after_the_contextualized_corpus(
    folder, augmented
):
    values = recipe_values() | {
        "variants": ["contextualized_task_da"],
        "seeds": [1],
        "task_da": str(augmented),
    }
    objective = {"name": "minilmv2", "relation_heads": 4, "cached_teacher": True}
    values["injection"] = values["injection"] | {"objective": objective}
    # A small rate: the weights stay close to the start of the second injection.
    values["task_da_injection"] = values["injection"] | {"learning_rate": 1e-9}
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump(values))
    out = folder / "both"

    assert raykd(["run", str(path), "--out", str(out)]) == 0
    injected = [
        out / "students" / f"{variant}-random-seed1" / "injected"
        for variant in ("contextualized", "contextualized_task_da")
    ]
    first, second = map(counts, injected)
    assert first["num_rows"] == counts(out / "texts" / "contextualized")["num_units"]
    assert second["num_rows"] == 20
    for text in ("contextualized", "+task_da"):
        assert (out / "teacher_outputs" / text / "relations-paper.npy").exists()
    weights = [load_file(model / "model" / "model.safetensors") for model in injected]
    for name, weight in weights[0].items():
        assert weights[1][name] == pytest.approx(weight, abs=1e-6), name
    results = json.loads((out / "results.json").read_text())
    assert {(c["variant"], c["phase"]) for c in results["curves"]} >= {
        ("contextualized", "injection"),
        ("contextualized_task_da", "injection"),
        ("contextualized_task_da", "adaptation"),
    }
    assert (
        "Distilled on the contextualized corpus, then on augmented rows"
        in (out / "report.html").read_text()
    )


@pytest.mark.exhaustive
def test_trials_of_later_settings_share_the_first_injection(folder, augmented):
    values = recipe_values() | {
        "variants": ["contextualized_task_da"],
        "seeds": [1],
        "task_da": str(augmented),
        "tune": {
            "space": {"task_da_injection.learning_rate": {"choice": [1.0e-4, 1.0e-3]}},
            "num_trials": 2,
            # ASHA would stop whichever trial is behind.
            "scheduler": "none",
        },
    }
    values["task_da_injection"] = values["injection"]
    path = folder / "search_both.yaml"
    path.write_text(yaml.safe_dump(values))
    out = folder / "search_both"

    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    study = json.loads((out / "tune" / "result" / "trials.json").read_text())
    assert study["variant"] == "contextualized_task_da"
    assert all(trial["whole"] for trial in study["trials"])
    injected = [folder.parent.name for folder in out.glob("students/*/injected")]
    assert injected == ["contextualized-random-seed1"]


@pytest.mark.exhaustive
def test_the_best_trials_recipe_can_be_run(completed_out, folder, capsys):
    recipe, out = str(folder / "recipe.yaml"), str(completed_out)
    assert raykd(["tune", recipe, "--out", out]) == 0
    before = files_of(completed_out / "tune")
    assert raykd(["tune", recipe, "--out", out]) == 0
    assert files_of(completed_out / "tune") == before
    assert raykd(["best", out]) == 0
    printed = capsys.readouterr().out
    assert "accuracy on dev" in printed
    best = yaml.safe_load((completed_out / "best.yaml").read_text())
    assert Path(best["task"]["train"]) == folder / "train.jsonl"
    assert load_recipe(completed_out / "best.yaml").tune is not None
    trials = json.loads((completed_out / "tune" / "result" / "trials.json").read_text())["trials"]
    assert len(trials) == 3
    winner = max((t for t in trials if t["whole"]), key=lambda t: t["score"])
    assert best["adaptation"]["learning_rate"] == winner["values"]["adaptation.learning_rate"]
    assert (completed_out / "tune" / "study.journal").stat().st_size > 0


@pytest.mark.slow
def test_a_run_can_use_hybrid_retrieval(folder, capsys):
    recipe, out = recipe_values(), folder / "hybrid"
    recipe["retrieval"] = {
        "ranker": "hybrid",
        "top_k": 4,
        "dense": {"model": "teacher", "max_length": 24},
        "fusion": {"candidates": 10},
    }
    path = write_recipe(folder / "hybrid.yaml", **recipe)
    assert raykd(["contextualize", str(path), "--out", str(out)]) == 0
    card = json.loads((out / "texts" / "contextualized" / "card.json").read_text())
    assert card["search"]["ranker"] == "hybrid"
    assert card["search"]["model"] == str(folder / "teacher")
    assert card["num_units"] == 60
    hits = pq.read_table(out / "hits" / "hits.parquet")
    assert max(hits["score"].to_pylist()) <= 2 / 61
    embedded = [path.stat().st_mtime_ns for path in out.glob("embeddings/*/vectors.bin")]
    recipe["retrieval"]["fusion"]["constant"] = 10
    write_recipe(path, **recipe)
    assert raykd(["search", str(path), "--out", str(out)]) == 0
    assert [p.stat().st_mtime_ns for p in out.glob("embeddings/*/vectors.bin")] == embedded != []
    recipe["retrieval"]["dense"]["model"] = "nowhere/at all"
    write_recipe(path, **recipe)
    capsys.readouterr()
    assert raykd(["run", str(path), "--out", str(out)]) == 2
    assert "model nowhere/at all: no such folder" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_test_split_trials_are_scored_on_rows_held_out_of_train(
    folder, ray_cluster, capsys
):
    recipe = recipe_values()
    del recipe["task"]["test"]
    path, out = write_recipe(folder / "held_out.yaml", **recipe), folder / "held_out"
    assert raykd(["tune", str(path), "--out", str(out)]) == 0
    assert raykd(["best", str(out)]) == 0
    assert "accuracy on rows held out of train" in capsys.readouterr().out
    run = out / "tune" / "run"
    held_out = set(pq.read_table(run / "task" / "dev.parquet")["sentence1"].to_pylist())
    text = run / "texts" / "contextualized" / "text.parquet"
    assert held_out
    assert not held_out & set(pq.read_table(text)["text"].to_pylist())
    assert not held_out & set(
        pq.read_table(run / "queries" / "queries.parquet")["text"].to_pylist()
    )
    assert not (out / "teacher").exists()
