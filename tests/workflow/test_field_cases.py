"""Replay of the cases from the field: inputs that broke similar programs (../shared/cases).

The cases are not part of this repository; the tests are skipped where they are missing. Case 80 (a
Ray job) is in tests/storage/test_outputs.py, 60 and 67 (model families) are in tests/models.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raykd.cli.app import _exit_code as raykd

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.skipif(not CASES.is_dir(), reason="the field cases are missing"),
]

# Per case and command: the exit code, and patterns of the output.
Answers = dict[int, tuple[int, list[str]]]
FAST: dict[str, Answers] = {
    "03-zstd-long": {0: (2, [r"RC\.jsonl\.zst: .* window of 2,048 MiB", "zstd -d --long=31"])},
    "06-mixed-unneeded": {0: (0, ["2 hits of 2 queries in 2 units"])},
    "07-surrogates": {
        0: (0, ["1 hits of 1 queries in 199 units", "unreadable rows: 1$"]),
        1: (2, [r"qbad\.jsonl, line 2: 'text' contains half of a surrogate pair"]),
    },
    "10-null-rows": {0: (0, ["in 95 units", "empty documents skipped: 5"])},
    "11-symlinks": {0: (0, ["9 hits of 1 queries in 9 units"])},
    "12b-latin1-name": {0: (0, ["3 hits of 1 queries in 3 units"])},
    "13-csv-ragged": {0: (0, ["in 399 units", "unreadable rows: 1$"])},
    "14-spark-temporary": {0: (0, ["left out, hidden", "in 150 units"])},
    "14c-hub-snapshot": {0: (0, ["left out, descriptions .*README.md", "in 400 units"])},
    "14d-wikiextractor": {0: (0, ["in 9 units"])},
    "15-msmarco-headerless": {0: (2, [r"queries\.tsv: .* has no header line"])},
    "32-glue-files": {
        0: (2, [r"msr_paraphrase_train\.txt: a table is expected", r"rename .*\.tsv"]),
        1: (2, ["the columns are Quality, #1 ID", "task.sentence_columns"]),
        2: (0, ["train  20 rows: not_equivalent 10", "quotation marks are kept as text"]),
        3: (2, ["looks like data .* has no header line; name its columns"]),
        4: (2, [r"qqp\.tsv, line 59: 4 fields where the first line names 6 columns; correct or"]),
        5: (0, ["train  40 rows"]),
        6: (2, ["no column 'label'; .*task.label_column"]),
        7: (0, ["train  30 rows: scores 0 to 4.5"]),
        8: (2, ["'-' in rows 3, 23, 43"]),
        9: (2, ["'-' in rows 3, 23, 43", "if it is a class, list all of them"]),
        10: (2, [r"rte_test\.parquet: every 'label' is a placeholder \(-1\)"]),
    },
    "33-label-cells": {
        0: (2, ["an empty cell in rows 7, 27, 47, 67"]),
        1: (0, ["train  80 rows: neg 46 .*, pos 34", "'pos ' in rows 7, 47, 67 .*as 'pos'"]),
        2: (2, ["put the labels in 'task.labels' in quotes"]),
        3: (0, ["train  80 rows: 0 46 .*, 1 34"]),
        4: (2, ["null in row 7"]),
        5: (0, ["train  80 rows: 00 46 .*, 01 34"]),
        6: (2, [r"every row has the same 'label' \(1\)"]),
        7: (2, [r"test\.jsonl: no label in 'label': -1 in 34 rows \(6, 7"]),
        8: (0, ["train  80 rows: 0 46 .*, 1 34"]),
        9: (2, ["'task.name': expected text, .* put it in quotes"]),
    },
    "35-text-cells": {
        0: (0, ["train  80 rows"]),
        1: (2, [r"sur\.jsonl, line 6: 'text' contains half of a surrogate pair"]),
        2: (2, [r"num\.jsonl, line 5: 'text' is a whole number \(12345\)"]),
        3: (2, [r"line 1: 'text' is a list .* text is expected"]),
        4: (2, ["row 4 .* no text in text"]),
        5: (0, ["train  80 rows"]),
        6: (0, ["train  80 rows"]),
        7: (2, [r"latin\.csv, line 2: not UTF-8 .* convert the file"]),
        8: (2, [r"utf16\.csv, line 1: not UTF-8 .* convert the file"]),
        9: (0, ["train  80 rows"]),
        10: (0, ["train  80 rows"]),
        11: (0, ["train  80 rows: 0 46 .*, 1 34"]),
    },
    "45-equal-files": {
        0: (2, ["contains the output"]),
        1: (0, [r"b\.jsonl equals .*a\.jsonl", "in 3 units"]),
    },
    # Figures: bytes per unit, duplicates, leaks.
    "70-cjk-units": {0: (0, ["^movies .* 190 +8 +0 "]), 1: (0, ["^movies .* 1,576 +0 +1 "])},
    "71-s3-in-corpora": {
        number: (2, [r"s3://raykd-field-case/corpus: 127\.0\.0\.1:[0-9]+ does not answer"])
        for number in (0, 1)
    },
    "72-corpora-paths": {
        0: (0, ["1 rows that cannot be read", "2 of 204 documents, all pieces too short"]),
        1: (0, ["^movies "]),
        2: (2, [f"{Path.home()}/nowhere-field: no such file"]),
        3: (2, [r"no key 'content' \(keys: 'text'\)"]),
        4: (2, ["the search has no hits"]),
    },
    "73-known-csv": {
        0: (0, ["train  60 rows: ham 37 .*, spam 23"]),
        1: (2, [r"ag\.csv: .* has no header line"]),
        2: (0, ["train  60 rows", r"pandas\.tsv: quotation marks enclose fields"]),
        3: (0, ["train  60 rows"]),
        4: (2, ["an empty cell in row 60"]),
    },
    "74-links-pipes": {
        0: (2, [r"gone\.jsonl: a link to /nowhere/x\.jsonl, which does not exist"]),
        1: (0, ["2 hits of 1 queries in 2 units"]),
        2: (2, [r"pipe\.jsonl: is a pipe"]),
    },
}
SLOW: dict[str, Answers] = {
    "31-label-types": {
        0: (0, ["train  80 rows: False .*, True"]),
        1: (0, ["train  80 rows: 0 .*, 1 "]),
        2: (2, ["give each row one label"]),
        3: (2, [r"NaN in 8 rows \(0, 10"]),
        4: (2, ["-1 in 8 rows", "if it is a class, list all of them"]),
    },
    "50-tune-grace": {0: (2, ["tune.grace_epochs 5: the longest trial has 2 epochs"])},
    "52-tune-bad-choice": {0: (2, ["adaptation.objective.temperature = 'warm'"])},
    "53-tune-nan": {
        0: (0, ["1 of 2 trials ended without a score: .*not finite"]),
        1: (0, ["adaptation.learning_rate=0.001$", "1 of 2 trials ended without a score"]),
    },
    "61-label-order": {0: (2, ["its classes seem to be in another order"])},
    "63-single-class-dev": {0: (0, ["dev: every row is of the class 1", "matthews  teacher"])},
    "75-augment": {
        0: (0, ["num_rows 20"]),
        1: (0, ["num_rows 20"]),
        2: (0, ["num_rows 20"]),
        3: (2, ["an empty cell in row 3"]),
        4: (2, ["no masked-language-model head"]),
    },
    "93-embedding-column": {0: (0, ["275,000 hits of 275,000 queries"])},
}
# Keys of the recipes that have been renamed since.
RENAMED = {r"^arms:": "variants:", r"^search:": "tune:"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny models that the cases name."""
    folder = tmp_path_factory.mktemp("models")
    script = [sys.executable, str(CASES / "make_models.py")]
    subprocess.run(script, cwd=folder, check=True, capture_output=True)
    return folder / "MODELS"


def copy_of(case: str, folder: Path) -> Path:
    """Copy a case, restoring the links, the pipe and the name that are not stored as such."""
    copied = folder / case
    shutil.copytree(CASES / case, copied)
    for path in [copied, *copied.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    links = {
        "11-symlinks": {
            "linked_dir": copied / "store/part",
            "train.jsonl": copied / "blobs/abc123",
        },
        "74-links-pipes": {"gone.jsonl": Path("/nowhere/x.jsonl")},
    }
    for name, target in links.get(case, {}).items():
        link = copied / "corpus" / name
        link.unlink()
        link.symlink_to(target)
    if case == "74-links-pipes":
        os.mkfifo(copied / "c3/pipe.jsonl")
    if case == "12b-latin1-name":
        row = '{"doc_id": "d003", "text": "alphaword number3"}\n'
        (copied / "corpus" / os.fsdecode(b"caf\xe9.jsonl")).write_text(row)
    for recipe in copied.glob("*.yaml"):
        text = recipe.read_text()
        for old, new in RENAMED.items():
            text = re.sub(old, new, text, flags=re.MULTILINE)
        recipe.write_text(text)
    return copied


def replay(folder: Path, answers: Answers, capfd: pytest.CaptureFixture[str]) -> None:
    assert sorted(answers) == sorted(int(path.stem[7:]) for path in folder.glob("command*.txt"))
    for number, (code, patterns) in sorted(answers.items()):
        command = (folder / f"command{number}.txt").read_text()
        arguments = [word for word in shlex.split(command) if not word.startswith("RAY_ADDRESS")]
        capfd.readouterr()
        found = raykd(arguments[1:])
        printed = "\n".join(capfd.readouterr())
        assert found == code, (command, printed)
        missing = [p for p in patterns if not re.search(p, printed, re.MULTILINE)]
        assert not missing, (command, missing, printed)


@pytest.mark.parametrize("case", FAST)
def test_commands_of_a_case_answer_as_expected(
    case: str,
    tmp_path: Path,
    unused_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port}")
    folder = copy_of(case, tmp_path)
    monkeypatch.chdir(folder)
    replay(folder, FAST[case], capfd)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", SLOW)
def test_commands_of_a_case_with_models_answer_as_expected(
    case: str,
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = copy_of(case, tmp_path)
    (folder / "MODELS").symlink_to(models)
    monkeypatch.chdir(folder)
    replay(folder, SLOW[case], capfd)


def test_every_case_is_replayed_here_or_elsewhere() -> None:
    elsewhere = {"60-export-families", "67-other-families", "80-job"}
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == {*FAST, *SLOW, *elsewhere}
