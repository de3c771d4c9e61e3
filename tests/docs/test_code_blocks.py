"""The documentation's commands, run as a reader runs them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from markdown_blocks import PAGES, ROOT, SHOWN, blocks_of

from raykd.workflow.recipe.recipe import Recipe

# These train several models; the starter recipe alone is run by `tests/workflow/starter`.
EXHAUSTIVE_PAGES = {"own_task.md"}
SLOW_PAGES = {"dedup.md", "python_api.md", "search.md"}


def run_blocks(page: Path, folder: Path, *, with_slow: bool) -> None:
    """Run the blocks of a page in order, on the Ray of the tests."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir()
    for name, command in (("raykd", "-m raykd"), ("python", "")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
    }
    for block in blocks_of(page):
        if block.file is not None:
            (folder / block.file).write_text(block.code, encoding="utf-8")
        if not block.runs or (block.comment == "slow" and not with_slow):
            continue
        shell = ["bash", "-e", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*shell, block.code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:\n{block.code}\n{done.stdout}\n{done.stderr}"


def runs_any(page: Path) -> bool:
    return any(block.runs for block in blocks_of(page))


def long_pages() -> list[Any]:
    return [
        pytest.param(page, marks=pytest.mark.exhaustive if page.name in EXHAUSTIVE_PAGES else ())
        for page in PAGES
        if page.name in EXHAUSTIVE_PAGES | SLOW_PAGES
        or any(b.comment == "slow" for b in blocks_of(page))
    ]


@pytest.mark.ray
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if runs_any(page) and page.name not in EXHAUSTIVE_PAGES | SLOW_PAGES],
    ids=lambda page: page.name,
)
def test_the_commands_of_a_page_work(page, tmp_path, ray_cluster):
    run_blocks(page, tmp_path, with_slow=False)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", long_pages(), ids=lambda page: page.name)
def test_the_commands_of_a_long_page_work(page, tmp_path, ray_cluster):
    run_blocks(page, tmp_path, with_slow=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_runs_or_says_why_not(page):
    for block in blocks_of(page):
        if block.language == "yaml":
            assert yaml.safe_load(block.code), block.code
        elif block.language not in SHOWN:
            says_why = block.comment.startswith("not run: ") and len(block.comment) > 20
            is_test_command = block.comment == "test command"
            assert block.runs or block.file or says_why or is_test_command, block.code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_recipe_on_a_page_is_valid(page):
    for block in blocks_of(page):
        if block.comment == "recipe":
            Recipe.parse(yaml.safe_load(block.code), page.name)
