"""`raykd init`: detection of columns and labels, refusals, and a recipe that runs."""

import csv
import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from jsonschema import Draft202012Validator
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.crossval.folds import open_crossval
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.reference.json_schema import recipe_schema
from raykd.workflow.run import open_run

THINGS = ("film", "book", "plot", "scene")
TEACHER = ("--teacher", "teacher")


def rows(num_rows: int, seed: int, praise: float = 0.5) -> list[dict[str, object]]:
    """Make reviews of six words with an id and a label."""
    chance = random.Random(seed)
    reviews = []
    for number in range(num_rows):
        is_good = chance.random() < praise
        word = "good" if is_good else "bad"
        text = f"the {chance.choice(THINGS)} of {chance.randrange(1000)} was {word}"
        reviews.append({"id": number, "review": text, "mood": "praise" if is_good else "blame"})
    return reviews


def write(name: str, table: list[dict[str, object]]) -> None:
    """Write a CSV file with a header line."""
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Working directory with a teacher, a task and a corpus."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "teacher")
    write("train.csv", rows(60, 1))
    write("dev.csv", rows(30, 2))
    write("tickets.csv", [{"review": row["review"]} for row in rows(90, 4)])
    Path("corpus.txt").write_text("\n".join(str(row["review"]) for row in rows(300, 3)))
    return tmp_path


def init(*options: str, name: str = "reviews", dev: str | None = "dev.csv") -> int:
    """Run `raykd init` and return its exit code."""
    dev_options = [] if dev is None else ["--dev", dev]
    return raykd(["init", name, "--train", "train.csv", *dev_options, *TEACHER, *options])


def test_columns_labels_metric_and_student_are_detected(folder):
    assert init() == 0
    values = yaml.safe_load(Path("reviews.yaml").read_text())
    assert values["task"] == {
        "name": "reviews",
        "train": "train.csv",
        "dev": "dev.csv",
        "sentence_columns": ["review"],
        "label_column": "mood",
        "labels": ["blame", "praise"],
        "metrics": ["accuracy"],
    }
    assert values["variants"] == ["tfidf", "embeddings", "alone", "direct"]
    assert values["student"] == {"num_layers": 1, "inits": ["skip"]}
    assert values["teacher"]["max_length"] == 32
    assert load_recipe(Path("reviews.yaml")).task.train == str(folder / "train.csv")


def test_the_first_line_names_the_schema_and_the_schema_accepts_the_recipe(folder):
    assert init("--corpus", "corpus.txt") == 0
    text = Path("reviews.yaml").read_text()
    line = re.fullmatch(r"# yaml-language-server: \$schema=file://(\S+)", text.splitlines()[0])
    assert line is not None
    assert json.loads(Path(line[1]).read_text()) == recipe_schema()
    assert not list(Draft202012Validator(recipe_schema()).iter_errors(yaml.safe_load(text)))


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--corpus", "corpus.txt"),
        ("--unlabeled", "tickets.csv"),
        ("--unlabeled", "tickets.csv", "--corpus", "corpus.txt"),
    ],
)
def test_the_recipe_passes_the_checks_before_a_run(folder, options):
    assert init(*options) == 0
    lines = check_models(open_run(Path("reviews.yaml"), None))
    assert any("vanilla_kd" in line for line in lines)


def test_unlabeled_texts_are_a_corpus_of_their_own_and_all_of_it_is_taken(folder):
    assert init("--unlabeled", "tickets.csv") == 0
    recipe = load_recipe(Path("reviews.yaml"))
    assert recipe.corpora["unlabeled"].text_column == "review"
    assert recipe.corpora["unlabeled"].units.policy == "line"
    assert recipe.variants[-1] == "all_unlabeled"
    assert recipe.retrieval is None
    [text] = recipe.corpus_texts
    assert (text.kind, text.corpus) == ("random", "unlabeled")


def test_unlabeled_texts_of_a_task_of_pairs_are_refused(folder, capsys):
    table = [{**row, "other": f"{row['review']} too"} for row in rows(60, 1)]
    write("pairs.csv", table)
    options = ("--text-columns", "review", "other", "--unlabeled", "tickets.csv")
    assert raykd(["init", "pairs", "--train", "pairs.csv", *options, *TEACHER]) == 2
    assert "this task has pairs; leave the option out" in capsys.readouterr().err


def test_the_commented_corpus_sections_are_valid_once_uncommented(folder):
    assert init() == 0
    text = Path("reviews.yaml").read_text()
    commented = re.compile(
        r"^# (?= |corpus:|retrieval:|contextualize:|injection:|# )", re.MULTILINE
    )
    start = text.index("# corpus:")
    changed = text[:start] + commented.sub("", text[start:])
    changed = changed.replace("[FILE_OR_FOLDER]", "[corpus.txt]")
    changed = changed.replace("alone, direct]", "alone, direct, contextualized]")
    Path("changed.yaml").write_text(changed)
    recipe = load_recipe(Path("changed.yaml"))
    assert recipe.injection is not None
    assert recipe.retrieval is not None
    assert recipe.retrieval.top_k == 834
    check_models(open_run(Path("changed.yaml"), None))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_recipe_runs_to_its_report(folder):
    assert init("--corpus", "corpus.txt", "--unlabeled", "tickets.csv") == 0
    text = Path("reviews.yaml").read_text()
    for old, new in (("[1, 2, 3]", "[1]"), ("num_steps: 2000", "num_steps: 4")):
        assert old in text
        text = text.replace(old, new)
    Path("reviews.yaml").write_text(re.sub(r"epochs: \d+", "epochs: 3", text))
    assert raykd(["run", "reviews.yaml"]) == 0
    results = json.loads(Path("runs/reviews/results.json").read_text())
    adapted = {score["variant"] for score in results["scores"] if score["stage"] == "adapted"}
    assert adapted == {"alone", "direct", "contextualized@general", "all_unlabeled"}


def test_a_file_is_never_overwritten(folder, capsys):
    Path("reviews.yaml").write_text("mine")
    assert init() == 2
    assert "reviews.yaml exists already" in capsys.readouterr().err
    assert Path("reviews.yaml").read_text() == "mine"


def test_without_dev_rows_a_tenth_of_each_class_is_cut_from_train(folder, capsys):
    write("train.csv", rows(200, 1))
    assert init(dev=None) == 0
    printed = capsys.readouterr().out
    recipe = load_recipe(Path("reviews.yaml"))
    assert (recipe.task.dev, recipe.task.dev_fraction, recipe.task.dev_seed) == (None, 0.1, 0)
    assert "180 train, 20 dev" in printed
    assert "20 of the 200 training rows, drawn by class, are dev rows" in printed
    check_models(open_run(Path("reviews.yaml"), None))


@pytest.mark.parametrize(
    ("num_praise", "num_blame", "folds", "batch_size"),
    [(63, 64, 5, 8), (16, 17, 5, 4), (15, 16, 10, 4), (30, 4, 4, 4), (64, 64, None, 8)],
)
def test_few_rows_per_class_get_cross_validation(
    folder, capsys, num_praise, num_blame, folds, batch_size
):
    table = [*rows(num_praise, 1, praise=1.0), *rows(num_blame, 2, praise=0.0)]
    write("train.csv", table)

    assert init("--unlabeled", "tickets.csv", dev=None) == 0

    values = yaml.safe_load(Path("reviews.yaml").read_text())
    assert values["task"].get("folds") == folds
    assert values["task"].get("dev_fraction") == (0.1 if folds is None else None)
    command = "run" if folds is None else "crossval"
    printed = capsys.readouterr().out
    assert f"then: raykd {command} reviews.yaml" in printed
    for section in (values["teacher"], values["adaptation"]):
        assert section.get("keep") == (None if folds is None else "best")
        assert (section["epochs"], section["batch_size"]) == (20, batch_size)
    if folds is not None:
        assert f"{num_praise + num_blame}, in {folds} folds" in printed
        opened = open_crossval(Path("reviews.yaml"), None, None)
        assert opened.num_folds == folds
        check_models(opened.fold_run(1, {}))


def test_the_training_file_as_dev_is_refused(folder, capsys):
    assert init(dev="./train.csv") == 2
    assert "is the file of --train" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sst2", "a b", "../x", "reviews.yaml", ""])
def test_an_invalid_name_is_refused(folder, name):
    assert init(name=name) == 2
    assert not list(folder.glob("**/*.yaml"))


def test_two_text_columns_are_ambiguous_unless_named(folder, capsys):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        table = [{**row, "body": f"{row['review']} and long enough"} for row in rows(60, seed)]
        write(file, table)
    assert init() == 2
    message = capsys.readouterr().err
    assert "2 columns look like text: review, body" in message
    assert "--text-columns" in message
    assert not Path("reviews.yaml").exists()
    assert init("--text-columns", "body") == 0
    assert load_recipe(Path("reviews.yaml")).task.sentence_columns == ("body",)
    assert init("--text-columns", "review", "body", name="pairs") == 0
    assert load_recipe(Path("pairs.yaml")).task.sentence_columns == ("review", "body")


def test_two_label_columns_are_ambiguous_unless_one_is_named(folder, capsys):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        write(file, [{**row, "year": 2000 + row["id"] % 4} for row in rows(60, seed)])
    assert init() == 2
    message = capsys.readouterr().err
    assert "2 columns look like a label: mood, year" in message
    assert "--label-column" in message
    assert init("--label-column", "year") == 0
    assert load_recipe(Path("reviews.yaml")).task.labels == ("2000", "2001", "2002", "2003")


def test_a_column_named_label_is_the_label(folder):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        write(file, [{**row, "label": row["id"] % 3} for row in rows(60, seed)])
    assert init() == 0
    assert load_recipe(Path("reviews.yaml")).task.label_column == "label"


@pytest.mark.parametrize("names", [("sentence1", "sentence2"), ("premise", "hypothesis")])
def test_pairs_are_detected_by_column_names(folder, names):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        table = zip(rows(60, seed), rows(60, seed + 5), strict=True)
        write(
            file, [{names[0]: a["review"], names[1]: b["review"], "y": a["mood"]} for a, b in table]
        )
    assert init() == 0
    assert load_recipe(Path("reviews.yaml")).task.sentence_columns == names


def test_labels_with_fractions_are_scores(folder):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        table = [{"text": row["review"], "label": row["id"] / 7} for row in rows(60, seed)]
        write(file, table)
    assert init() == 0
    task = load_recipe(Path("reviews.yaml")).task
    assert task.regression
    assert task.metrics == ("pearson", "spearman")


def test_a_rare_class_makes_matthews_the_first_metric(folder):
    write("train.csv", rows(100, 1, praise=0.9))
    assert init() == 0
    assert load_recipe(Path("reviews.yaml")).task.metrics == ("matthews", "accuracy")


def test_rows_without_a_label_are_refused_unless_skipped(folder, capsys):
    write("train.csv", [*rows(60, 1), {"id": 60, "review": "nobody said what it was", "mood": ""}])
    assert init() == 2
    assert "--unlabeled-rows" in capsys.readouterr().err
    assert init("--unlabeled-rows", "skip") == 0
    assert load_recipe(Path("reviews.yaml")).task.unlabeled_rows == "skip"
    assert "left out" in capsys.readouterr().out


def test_names_that_yaml_reads_as_something_else_are_quoted(folder):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        table = [
            {"yes: #text": row["review"], "no": "no" if row["mood"] == "blame" else "1e-3"}
            for row in rows(60, seed)
        ]
        write(file, table)
    assert init("--labels", "no", "1e-3") == 0
    task = load_recipe(Path("reviews.yaml")).task
    assert (task.sentence_columns, task.label_column) == (("yes: #text",), "no")
    assert task.labels == ("no", "1e-3")


def test_missing_columns_are_refused_with_the_existing_ones(folder, capsys):
    assert init("--text-columns", "text") == 2
    assert "no column 'text'; the columns are id, review, mood" in capsys.readouterr().err


def test_a_tokenizer_without_the_language_is_reported(folder, capsys):
    for file, seed in (("train.csv", 1), ("dev.csv", 2)):
        table = [
            {"text": str(row["review"]).replace("the", "電影 書本 情節"), "label": row["mood"]}
            for row in rows(60, seed)
        ]
        write(file, table)
    assert init() == 0
    assert "Attention: the tokenizer of this model does not know" in capsys.readouterr().out
    assert "xlm-roberta-base" in Path("reviews.yaml").read_text()


def test_parquet_with_integer_classes_and_nested_columns(folder):
    for file, seed in (("train.parquet", 1), ("dev.parquet", 2)):
        table = rows(60, seed)
        columns = {
            "review": [row["review"] for row in table],
            "classes": [int(row["mood"] == "praise") for row in table],
            "vector": [[0.1, 0.2]] * 60,
        }
        pq.write_table(pa.table(columns), file)
    code = raykd(["init", "p", "--train", "train.parquet", "--dev", "dev.parquet", *TEACHER])
    assert code == 0
    task = load_recipe(Path("p.yaml")).task
    assert (task.label_column, task.labels) == ("classes", ("0", "1"))


def test_a_missing_corpus_is_refused(folder, capsys):
    assert init("--corpus", "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
    assert not Path("reviews.yaml").exists()
