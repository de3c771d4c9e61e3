"""Mistakes of users: one clear message, the right exit code, no traceback."""

import errno
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from test_flow import recipe_values, sentences
from tiny_models import save_tiny_model
from transformers import BertTokenizerFast

from raykd.cli.app import _exit_code as raykd
from raykd.dedup import pipeline as dedup_pipeline
from raykd.storage.manifest import commit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def jsonl(*rows: dict[str, str]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet(texts: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), file)
    return file.getvalue()


TEXTS = [text for text, _ in sentences(400, 3)]
CORPUS = jsonl(*({"text": text} for text in TEXTS))
TRAIN, DEV = (
    jsonl(*({"sentence": text, "label": label} for text, label in sentences(num_rows, seed)))
    for num_rows, seed in ((48, 1), (30, 2))
)


def with_bad_rows(every: int) -> bytes:
    """Return the corpus with a bad row, of one of three kinds, after every `every` rows."""
    bad = (b"{not JSON", b'{"text": " "}', b'{"text": "\xff\xfe"}')
    lines = CORPUS.split(b"\n")
    for number, position in enumerate(range(every, len(lines) + len(lines) // every, every + 1)):
        lines.insert(position, bad[number % 3])
    return b"\n".join(lines)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory) -> Path:
    """Folder of models: a teacher, one with three classes, one with a truncated file."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "teacher")
    save_tiny_model(folder / "three", num_labels=3)
    shutil.copytree(folder / "teacher", folder / "truncated")
    weights = folder / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    shutil.copytree(folder / "teacher", folder / "swapped")
    words = (folder / "swapped" / "vocab.txt").read_text().split()
    words[-1], words[-2] = words[-2], words[-1]
    for file in (folder / "swapped").glob("tokenizer*"):
        file.unlink()
    (folder / "swapped" / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(folder / "swapped" / "vocab.txt")).save_pretrained(
        folder / "swapped"
    )
    return folder


@dataclass(frozen=True)
class Case:
    """Changes to a valid recipe by path, files, and words that the message must contain."""

    id: str
    says: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    out: str = "out"


MINILM = {"name": "minilmv2"}
CASES = [
    Case("misspelt key", ("'adaptation.epoch'", "'epochs'"), {"adaptation.epoch": 3}),
    Case("misspelt section", ("'retreival'", "'retrieval'"), {"retreival": {}}),
    Case(
        "key of another objective",
        ("'injection.objective.temperature'", "known keys of minilmv2: name, ", "relation_heads"),
        {"injection.objective": {**MINILM, "temperature": 2.0}},
    ),
    Case(
        "unknown objective",
        ("'injection.objective.name'", "unknown value 'minilm'", "'minilmv2'"),
        {"injection.objective": {"name": "minilm"}},
    ),
    Case(
        "value of another kind",
        ("'corpus.paths'", "a list", "'corpus.jsonl'"),
        {"corpus.paths": "corpus.jsonl"},
    ),
    Case("missing corpus", ("nowhere.jsonl: no such file",), {"corpus.paths": ["nowhere.jsonl"]}),
    Case("missing train", ("nowhere.csv: no such file",), {"task.train": "nowhere.csv"}),
    Case("empty corpus", ("corpus.jsonl", "empty"), files={"corpus.jsonl": b""}),
    Case(
        "no rows",
        ("c.parquet", "empty"),
        {"corpus.paths": ["c.parquet"]},
        {"c.parquet": parquet([])},
    ),
    Case(
        "truncated Parquet",
        ("c.parquet: damaged or truncated", "again"),
        {"corpus.paths": ["c.parquet"]},
        {"c.parquet": parquet(TEXTS)[:-100]},
    ),
    Case(
        "truncated gzip",
        ("c.jsonl.gz: damaged or truncated", "again"),
        {"corpus.paths": ["c.jsonl.gz"]},
        {"c.jsonl.gz": gzip.compress(CORPUS)[:-200]},
    ),
    Case(
        "too many bad rows",
        ("9 of 409 rows", "max_bad_fraction", "not JSON", "not UTF-8", "quarantine"),
        files={"corpus.jsonl": with_bad_rows(30)},
    ),
    Case(
        "corpus that holds the output",
        ("contains the output", "elsewhere"),
        {"corpus.paths": ["."]},
    ),
    Case("task: not JSON", ("train.jsonl, line 49", "JSON"), files={"train.jsonl": TRAIN + b"\n{"}),
    Case(
        "task: not UTF-8",
        ("train.jsonl, line 49: not UTF-8",),
        files={"train.jsonl": TRAIN + b'\n{"sentence": "\xff"}'},
    ),
    Case(
        "task: no text",
        ("train.jsonl, row 48", "no text", "remove"),
        files={"train.jsonl": TRAIN + b'\n{"sentence": " ", "label": "praise"}'},
    ),
    Case(
        "label of another task",
        ("dev.jsonl, row 30", "'meh'", "blame, praise"),
        files={"dev.jsonl": DEV + b'\n{"sentence": "so so", "label": "meh"}'},
    ),
    Case("no evaluation split", ("no evaluation split", "'dev'"), {"task.dev": None}),
    Case(
        "corpus without words of the task",
        ("has no hits", "shares words"),
        files={"corpus.jsonl": jsonl(*({"text": f"x{n} y{n} z{n} u v"} for n in range(9)))},
    ),
    Case(
        "teacher out of reach",
        ("no-such-teacher", "hub", "local folder"),
        {"teacher.model": "no-such-teacher"},
    ),
    Case("truncated weights", ("truncated", "header"), {"teacher.model": "truncated"}),
    Case("another digest", ("sha256", "weights_sha256"), {"teacher.weights_sha256": "0" * 64}),
    Case(
        "teacher of other classes",
        ("three", "3 outputs", "needs 2"),
        {"teacher.model": "three", "teacher.fine_tuned": True},
    ),
    Case(
        "other tokenizer",
        ("swapped", "different tokenizers"),
        {"student": {"model": "swapped"}, "injection.objective": {"name": "tinybert"}},
    ),
    Case(
        "narrow student of copied layers",
        ("hidden_size 12", "'bottom'", "24"),
        {"student": {"num_layers": 1, "hidden_size": 12, "inits": ["bottom"]}},
    ),
    Case("relation heads", ("48 relation_heads", "24"), {"injection.objective": MINILM}),
    Case(
        "longer than the model",
        ("adaptation.max_length 128", "40"),
        {"adaptation.max_length": 128},
    ),
    Case("no GPU", ("use_gpu", "GPU"), {"workers": {"use_gpu": True}}),
    Case("out is a file", ("--out", "corpus.jsonl", "directory"), out="corpus.jsonl"),
    Case("out holds the user's folder", ("teacher", "not made by raykd"), out="."),
    Case("out cannot be", ("--out /proc/raykd", "choose another"), out="/proc/raykd"),
]


def write(folder: Path, case: Case, teachers: Path) -> list[str]:
    """Write the case's files and recipe; return the command's arguments."""
    files = {"corpus.jsonl": CORPUS, "train.jsonl": TRAIN, "dev.jsonl": DEV, **case.files}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for model in teachers.iterdir():
        (folder / model.name).symlink_to(model)
    values = recipe_values()
    values["task"].pop("test")
    for path, value in case.changes.items():
        *sections, key = path.split(".")
        branch = values
        for section in sections:
            branch = branch[section]
        branch[key] = value
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values))
    return [str(recipe), "--out", str(folder / case.out)]


def assert_one_clear_message(text: str, says: tuple[str, ...]) -> None:
    [message] = [line for line in text.splitlines() if "error" in line]
    assert message.startswith("error: ")
    for part in says:
        assert part in message
    assert "Traceback" not in text
    assert "internal" not in text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_mistake_is_reported_with_a_remedy_before_any_training(case, tmp_path, teachers, capfd):
    assert raykd(["run", *write(tmp_path, case, teachers)]) == 2
    assert_one_clear_message(capfd.readouterr().err, case.says)
    assert not list(tmp_path.rglob("*.partial-*"))
    assert (tmp_path / "teacher" / "model.safetensors").is_file()


def test_valid_rows_are_kept_and_bad_ones_are_listed(tmp_path, teachers):
    case = Case("few bad rows", (), files={"corpus.jsonl": with_bad_rows(120)})
    assert raykd(["ingest", *write(tmp_path, case, teachers)]) == 0
    [shard] = (tmp_path / "out" / "units").glob("shard-*")
    assert pq.read_table(shard / "units-00000.parquet")["text"].to_pylist() == TEXTS
    bad = pq.read_table(shard / "quarantine.parquet").to_pylist()
    assert [row["reason"].split(":")[0] for row in bad] == [
        "not JSON",
        "not UTF-8 at byte 10 of the line",
    ]
    lines = with_bad_rows(120).split(b"\n")
    assert bad[0]["offset"] == sum(len(line) + 1 for line in lines[:120])
    assert {row["source"] for row in bad} == {str(tmp_path / "corpus.jsonl")}


def test_file_names_may_contain_spaces_and_any_letters(tmp_path, teachers):
    folder = tmp_path / "mein rézept 配方"
    folder.mkdir()
    case = Case(
        "unicode",
        (),
        {"task.train": "ü b/trä in.jsonl", "corpus.paths": ["ü b/kör per.jsonl"]},
        {"ü b/trä in.jsonl": TRAIN, "ü b/kör per.jsonl": CORPUS},
        out="aus gäbe",
    )
    assert raykd(["search", *write(folder, case, teachers)]) == 0
    assert (folder / "aus gäbe" / "hits" / "hits.parquet").is_file()


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_a_diverging_training_is_reported_and_not_retried(num_workers, tmp_path, teachers, capfd):
    phase = {"epochs": 1, "batch_size": 16, "max_length": 24}
    changes = {
        "variants": ["alone"],
        "teacher": {"model": "teacher", **phase, "learning_rate": 1e38},
        "workers": {"num_workers": num_workers, "cpus_per_worker": 0.5},
    }
    arguments = write(tmp_path, Case("diverges", (), changes), teachers)
    assert raykd(["teacher", *arguments]) == 2
    says = ("teacher: step", "not finite", "lower learning_rate")
    assert_one_clear_message(capfd.readouterr().err, says)
    assert not (tmp_path / "out" / "teacher").exists()


def test_a_full_disk_is_recognized_in_every_librarys_error(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    rust = Exception("I/O error: No space left on device (os error 28)")
    copying = shutil.Error([("a", "b", str(full))])  # of shutil.copytree
    for error in (full, rust, copying):
        with (
            pytest.raises(OSError, match="No space left") as caught,
            commit(tmp_path / "out", "greet", {}, {}),
        ):
            raise error
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_command_with_one_message(tmp_path, teachers, capfd):
    case = Case(
        "full disk",
        (),
        files={"corpus.jsonl": jsonl(*({"text": os.urandom(99).hex()} for _ in range(9000)))},
    )
    arguments = write(tmp_path, case, teachers)
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path / "out")]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root on Linux only")
    try:
        assert raykd(["ingest", *arguments]) == 2
        assert_one_clear_message(capfd.readouterr().err, ("out/units", "No space left", "--out"))
        assert not list((tmp_path / "out").rglob("*.partial-*"))
    finally:
        subprocess.run(["umount", str(tmp_path / "out")], check=True)


def test_a_folder_without_write_permission_is_reported(tmp_path, teachers, capfd):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    arguments = write(tmp_path, Case("read-only", ()), teachers)
    (tmp_path / "out").mkdir(mode=0o555)
    assert raykd(["task", *arguments]) == 2
    assert_one_clear_message(capfd.readouterr().err, ("out", "Permission denied", "--out"))


@pytest.mark.slow
def test_a_command_resumes_where_a_killed_one_stopped(tmp_path, teachers):
    arguments = write(tmp_path, Case("killed", ()), teachers)
    script = """
import os, signal, sys
from raykd.storage import manifest
replace = manifest._replace
def die(partial, directory, key):
    if directory.name == "hits":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(partial, directory, key)
manifest._replace = die
from raykd.cli.app import _exit_code
_exit_code(["search", *sys.argv[1:]])
"""
    killed = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    out = tmp_path / "out"
    assert not (out / "hits").exists()
    assert list(out.glob(".hits.partial-*"))
    units = (out / "units" / "manifest.json").stat().st_mtime_ns
    assert raykd(["search", *arguments]) == 0
    assert (out / "hits" / "manifest.json").is_file()
    assert not list(out.rglob("*.partial-*"))
    assert (out / "units" / "manifest.json").stat().st_mtime_ns == units


def test_an_interrupted_command_says_how_to_resume(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(dedup_pipeline, "dedup", interrupted)
    assert raykd(["dedup", "corpus", "--out", str(tmp_path / "out")]) == 130
    assert "interrupted; rerun the same command to resume" in capsys.readouterr().err
