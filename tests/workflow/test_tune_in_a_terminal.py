"""`raykd tune` in a pseudo-terminal: bar and table, Ctrl-C, kill, the same command again."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_flow import sentences
from tiny_models import save_tiny_model

from raykd.config import dump_yaml
from raykd.workflow.recipe.recipe import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]
CTRL_C = b"\x03"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
LIMIT_S = 400


@pytest.fixture
def recipe(tmp_path) -> Path:
    """Recipe of a study with six short trials, one at a time."""
    save_tiny_model(tmp_path / "teacher")
    for split, num_rows, seed in (("train", 48, 1), ("dev", 30, 2), ("test", 30, 4)):
        rows = [{"sentence": text, "label": label} for text, label in sentences(num_rows, seed)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {
        "name": "tiny",
        "variants": ["direct"],
        "task": {
            "name": "reviews",
            **{split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev", "test")},
            "sentence_columns": ["sentence"],
        },
        "teacher": {
            "model": str(tmp_path / "teacher"),
            "epochs": 30,
            "learning_rate": 5e-3,
            "max_length": 24,
        },
        "student": {"num_layers": 1},
        "adaptation": {"epochs": 60, "max_length": 24},
        "tune": {
            "num_trials": 6,
            "max_concurrent_trials": 1,
            "space": {"adaptation.learning_rate": {"float": [1e-4, 1e-2], "log": True}},
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(Recipe.parse(values, "test")))
    return path


def in_a_terminal(
    command: list[str], *, interrupt_at: bytes | None = None, kills: bool = False
) -> tuple[int, str]:
    """Run a command with a terminal as its three streams; return exit code and output.

    Args:
        command: program and arguments.
        interrupt_at: pattern of the output at whose first match Ctrl-C is typed.
        kills: whether the process is killed instead.
    """
    controller, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "RAY_ADDRESS": "local"}
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(terminal)
    output, deadline_s = b"", time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        if select.select([controller], [], [], 1.0)[0]:
            try:
                output += os.read(controller, 65536)
            except OSError:  # the other end is closed
                break
        if interrupt_at and re.search(interrupt_at, output):
            if kills:
                process.kill()
            else:
                os.write(controller, CTRL_C)
            interrupt_at = None
    else:
        os.killpg(process.pid, signal.SIGKILL)
    os.close(controller)
    return process.wait(), output.decode(errors="replace")


def plain(output: str) -> str:
    """The output of a terminal without its control codes."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", output)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C becomes a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def records_in(out: Path) -> list[str]:
    lines = (out / "tune" / "trials.jsonl").read_text().splitlines()
    return [line for line in lines if line]


def test_an_interrupted_and_killed_sweep_is_completed_and_extended_without_repeating_a_trial(
    recipe, tmp_path
):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "raykd", "tune", str(recipe), "--out", str(out)]
    code, output = in_a_terminal(command, interrupt_at=rb"tune\b.*[12]/6")
    assert code == 130, output
    assert "interrupted" in output
    assert "The sweep was interrupted at" in (out / "tune.html").read_text()
    assert output.rindex(SHOW_CURSOR) > output.rindex(HIDE_CURSOR)
    assert re.search(r"trial +epoch +score +best +elapsed +left +values", plain(output))
    assert re.search(r"[012] +\d+ of 60 +\d\.\d{4} +\d\.\d{4} .*learning_rate=", plain(output))
    assert "Traceback" not in output
    assert not (out / "tune" / "result").exists()
    interrupted = records_in(out)
    assert 1 <= len(interrupted) < 4

    code, output = in_a_terminal(command, interrupt_at=rb"tune\b.*[45]/6", kills=True)
    assert code == -signal.SIGKILL, output
    assert "The sweep was running when this page was written" in (out / "tune.html").read_text()
    assert not (out / "tune" / "result").exists()
    ended = records_in(out)
    assert ended[: len(interrupted)] == interrupted
    assert len(interrupted) < len(ended) < 6

    code, output = in_a_terminal(command)
    assert code == 0, output
    assert records_in(out)[: len(ended)] == ended
    trials = json.loads((out / "tune" / "result" / "trials.json").read_text())["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3, 4, 5]
    assert all(trial["score"] is not None for trial in trials)
    assert "The sweep was" not in (out / "tune.html").read_text()
    rates = {trial["values"]["adaptation.learning_rate"] for trial in trials}
    assert len(rates) == 6

    recipe.write_text(recipe.read_text().replace("num_trials: 6", "num_trials: 7"))
    piped = subprocess.run(
        command,
        env=os.environ | {"TERM": "xterm", "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert piped.returncode == 0, piped.stderr
    assert "trial 6 of 7: " in piped.stderr
    assert "\x1b" not in piped.stderr + piped.stdout
    extended = json.loads((out / "tune" / "result" / "trials.json").read_text())["trials"]
    assert extended[:6] == trials
    assert len(extended) == 7
