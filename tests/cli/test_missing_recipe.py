"""A missing recipe fails before the commands import torch and transformers, which takes seconds."""

import subprocess
import sys

import pytest

PROGRAM = (
    "import sys; from raykd.cli import app; app.main\n"
    "from raykd.errors import InputError\n"
    "try: app.app(sys.argv[1:])\n"
    "except InputError as error: print(error)\n"
    "print(sorted({'torch', 'transformers', 'ray'} & set(sys.modules)))"
)


@pytest.mark.parametrize("command", ["run", "tune", "distill", "crossval", "corpus"])
def test_a_missing_recipe_is_refused_without_heavy_imports(command, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, command, "nowhere.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.stdout == "nowhere.yaml: no such file\n[]\n", ended.stderr
