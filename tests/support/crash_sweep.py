"""Sweep over all crash points of a small run: fail at each change, rerun, and compare the outputs.

    python crash_sweep.py FOLDER [STEP ...]

Prints JSON: the number of crash points per step, and a line per difference. The stages run in
forked processes, so that the imports and the warm-up are paid once.
"""

import contextlib
import gc
import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from crash_points import KILLED, CrashPoints, Fault
from serial_tasks import serial_tasks
from tiny_models import save_tiny_model

from raykd.cli.app import app
from raykd.cli.exit_codes import USER_ERROR, exit_code_of
from raykd.storage import working_files
from raykd.workflow.run import open_run
from raykd.workflow.stages import run_stages

NUM_PROCESSES = 2
_RUN = ("task", "ingest", "retrieve", "contextualize", "teacher", "inject", "adapt", "evaluate")
STEPS = ("dedup", *_RUN, "report")
_WORDS = ("good", "bad", "film", "book", "plot", "scene", "story", "music", "voice", "ending")
# Durations and measured costs differ between runs.
_TIMED = ("duration_s", "checksum")
_MEASURED = ("costs.json", "results.json", "report.html", "student/README.md")


def write_inputs(folder: Path) -> None:
    """Write a teacher to fine-tune, a task, a corpus of two shards, and a recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny_model(folder / "teacher")

    def text(number: int) -> str:
        return f"the {_WORDS[number % 10]} {_WORDS[number * 7 % 9]} of number {number % 30}"

    for name, rows in (
        ("train", [{"sentence": text(n), "label": n % 2} for n in range(8)]),
        ("dev", [{"sentence": text(n), "label": n % 2} for n in range(90, 96)]),
        ("corpus", [{"text": text(n)} for n in range(40)]),
        ("duplicates", [{"text": f"{text(n % 9)} {n // 27} " * 4} for n in range(36)]),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    phase = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "max_length": 16}
    distilled = {**phase, "objective": {"name": "vanilla_kd"}}
    recipe = {
        "name": "tiny",
        "seeds": [1],
        "variants": ["contextualized"],
        "task": {
            "name": "reviews",
            "train": "train.jsonl",
            "dev": "dev.jsonl",
            "sentence_columns": ["sentence"],
        },
        "corpus": {"paths": ["corpus.jsonl"], "units": {"policy": "line"}, "shard_bytes": 1000},
        "retrieval": {"top_k": 2},
        "contextualize": {"max_units": 8},
        "teacher": {"model": "teacher", **phase},
        "student": {"num_layers": 1},
        "injection": {**phase, "objective": {"name": "vanilla_kd", "task_weight": 0}},
        "adaptation": distilled,
        "workers": {"use_gpu": False},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def run_step(inputs: Path, step: str, out: Path) -> int:
    """Run one stage, or the command `dedup`; return its exit code."""

    def command() -> object:
        if step == "dedup":
            arguments = ["dedup", str(inputs / "duplicates.jsonl"), "--near", "--out", str(out)]
            return app(arguments, exit_on_error=False, print_error=True)
        return run_stages(open_run(inputs / "recipe.yaml", out), step, first=step)

    return exit_code_of(command)


def contents_of(folder: Path) -> dict[str, object]:
    """Contents of all files below a folder; manifests without durations, measured files without
    their contents."""
    contents: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "times.json":
            continue  # written after a stage; no result depends on it
        if path.is_dir():
            contents[name] = "folder"
        elif name.endswith(_MEASURED):
            contents[name] = "measured"
        elif path.name == "manifest.json":
            values = json.loads(path.read_bytes())
            for output in values["outputs"]:
                if f"{path.parent.name}/{output}".endswith(_MEASURED):
                    values["outputs"][output] = "measured"
            contents[name] = {key: value for key, value in values.items() if key not in _TIMED}
        else:
            contents[name] = path.read_bytes()
    return contents


@dataclass
class Sweep:
    """Sweep of some steps; `folder` gets the inputs, the outputs, and copies around each step."""

    folder: Path
    steps: Sequence[str]
    faults: Sequence[Fault] = get_args(Fault)
    num_processes: int = NUM_PROCESSES

    def prepare(self) -> None:
        """Run the steps undisturbed, in this process, and keep a copy after each one."""
        write_inputs(self.folder / "inputs")
        place = self.place(0)
        place.mkdir()
        last = max(map(STEPS.index, self.steps))
        for step in STEPS[: last + 1]:
            shutil.copytree(place, self.folder / f"before {step}")
            assert run_step(self.folder / "inputs", step, place / "out") == 0, step
            shutil.copytree(place, self.folder / f"after {step}")
            if step == "dedup":
                shutil.rmtree(place)
                place.mkdir()
        shutil.rmtree(place)

    def place(self, process: int) -> Path:
        """Folder that a process of the sweep works in."""
        return self.folder / f"place {process}"

    def run(self, process: int) -> dict[str, Any]:
        """Fail at the points of one of the processes: each `num_processes`-th one."""
        counts: dict[str, int] = {}
        problems: list[str] = []
        for step in self.steps:
            expected = contents_of(self.folder / f"after {step}")
            for fault in self.faults:
                number = 1 + process
                while (point := self._fail(process, step, number, fault)) is not None:
                    label = f"{step}: {fault} at {number} ({point})"
                    differences = self._resume(process, step, expected)
                    problems += [f"{label}: {text}" for text in (*self._messages, *differences)]
                    counts[f"{step} {fault}"] = counts.get(f"{step} {fault}", 0) + 1
                    number += self.num_processes
        return {"counts": counts, "problems": problems}

    def _fail(self, process: int, step: str, number: int, fault: Fault) -> str | None:
        """Run a step that fails at a point; return what failed, or None if it did not fail."""
        place, trace = self.place(process), self.folder / f"trace {process}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / f"before {step}", place)
        trace.unlink(missing_ok=True)
        points = CrashPoints(place, number, fault, trace)

        def failing() -> int:
            with points.installed():
                return run_step(self.folder / "inputs", step, place / "out")

        run = in_child if fault == "kill" else in_this_process
        code, output = run(failing, self.folder / f"log {process}")
        if not trace.exists():
            assert code == 0, output
            return None
        self._messages = []
        if fault == "kill" and code != KILLED:
            self._messages.append(f"exit code {code} after the process was to end: {output}")
        if fault == "error" and (code not in (0, USER_ERROR) or "internal error" in output):
            self._messages.append(f"exit code {code}: {output[-1500:]}")
        return trace.read_text()

    def _resume(self, process: int, step: str, expected: dict[str, object]) -> Iterator[str]:
        """Rerun a failed step undisturbed; describe the differences."""
        place = self.place(process)

        def resuming() -> int:
            with CrashPoints(place).installed(), pytest.MonkeyPatch.context() as patch:
                # The failed command has ended, though this process has not.
                patch.setattr(working_files, "is_alive", lambda process_id: False)
                return run_step(self.folder / "inputs", step, place / "out")

        code, output = in_this_process(resuming, self.folder / f"log {process}")
        if code != 0:
            yield f"the same command ended with {code}: {output[-1500:]}"
            return
        found = contents_of(place)
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                state = "differs" if name in found and name in expected else "is extra"
                yield f"{name} {state if name in found else 'is missing'}"


def in_this_process(function: Callable[[], int], log: Path) -> tuple[int, str]:
    """Call a function, and wait for the threads that it leaves; return its result and output."""
    with log.open("w") as file, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(file))
        stack.enter_context(contextlib.redirect_stderr(file))
        code = function()
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    return code, log.read_text(errors="replace")


def in_child(function: Callable[[], int], log: Path) -> tuple[int, str]:
    """Call a function in a forked process; return its exit code and output."""
    process_id = os.fork()
    if process_id == 0:
        code = 1
        try:
            code = in_this_process(function, log)[0]
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(process_id, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")


def main() -> None:
    """Sweep over a wing in several processes; print the summary."""
    sweep = Sweep(Path(sys.argv[1]).resolve(), sys.argv[2:] or STEPS)
    with serial_tasks():
        with contextlib.redirect_stdout(sys.stderr):
            sweep.prepare()
        gc.freeze()
        results = [sweep.folder / f"result {number}" for number in range(NUM_PROCESSES)]
        process_ids = []
        for number, path in enumerate(results):
            process_ids.append(os.fork())
            if process_ids[-1] == 0:
                code = 1
                try:
                    path.write_text(json.dumps(sweep.run(number)))
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
        codes = [os.waitpid(process_id, 0)[1] for process_id in process_ids]
    assert codes == [0] * NUM_PROCESSES, codes
    parts = [json.loads(path.read_text()) for path in results]
    counts: dict[str, int] = {}
    for part in parts:
        for name, count in part["counts"].items():
            counts[name] = counts.get(name, 0) + count
    problems = [problem for part in parts for problem in part["problems"]]
    sys.stdout.write(json.dumps({"counts": counts, "problems": problems}, indent=1))


if __name__ == "__main__":
    main()
