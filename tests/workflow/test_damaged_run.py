"""Changed and missing bytes in the directory of a completed run, repaired by the same command."""

import json
import random
import shutil
from pathlib import Path

import pytest
import yaml
from test_flow import recipe_values, sentences
from tiny_models import save_tiny_model

from raykd.cli.app import _exit_code as raykd

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# Each run writes these from the others; times.json is informative and dropped if damaged.
_LOCK = ".lock"  # empty
_OF_EACH_RUN = {"plan.json", "recipe.yaml", "results.json", "report.html", "times.json"}


@pytest.fixture(scope="module")
def completed_run(tmp_path_factory, ray_cluster) -> tuple[Path, Path]:
    """Recipe and directory of its completed run."""
    folder = tmp_path_factory.mktemp("damaged")
    save_tiny_model(folder / "teacher")
    for split, num_rows, seed in (("train", 32, 1), ("dev", 20, 2), ("test", 20, 4)):
        lines = [
            json.dumps({"sentence": text, "label": label})
            for text, label in sentences(num_rows, seed)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    corpus = [json.dumps({"text": text}) for text, _ in sentences(120, 3)]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    values = recipe_values() | {"variants": ["contextualized"], "seeds": [1]}
    values["teacher"] |= {"epochs": 2}
    del values["tune"]
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values))
    assert raykd(["run", str(recipe), "--out", str(folder / "out")]) == 0
    return recipe, folder / "out"


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_every_file_of_a_run_is_checked_by_a_manifest_or_written_by_each_run(completed_run):
    _, out = completed_run
    checked = set(_OF_EACH_RUN)
    for path in out.rglob("manifest.json"):
        folder = path.parent.relative_to(out)
        checked.add(str(folder / path.name))
        checked |= {str(folder / name) for name in json.loads(path.read_text())["outputs"]}
    assert set(files_of(out)) == checked | {_LOCK}


def _damaged(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    if chance.random() < 0.3:
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def without_times(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files without durations: costs are measured again, and are in the report."""
    durations = ("manifest.json", "costs.json", "results.json", "report.html", "times.json")
    return {
        name: content
        for name, content in files.items()
        if not name.endswith((*durations, "student/README.md"))
    }


def run_damaged(
    completed_run: tuple[Path, Path], names: list[str], tmp_path: Path, seed: int
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Damage files and rerun the command; return all files before and after."""
    recipe, out = completed_run
    chance = random.Random(seed)
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    for name in names:
        path = copy / name
        path.write_bytes(_damaged(path.read_bytes(), chance))
    assert raykd(["run", str(recipe), "--out", str(copy)]) == 0
    return without_times(files_of(out)), without_times(files_of(copy))


def is_kept(name: str) -> bool:
    """Return true for a file kept for later searches, which make it again."""
    return name.startswith("kept/")


def test_damaged_results_for_later_searches_are_removed(completed_run, tmp_path, capsys):
    names = ["kept/answered/hits.parquet"]
    names += sorted(n for n in files_of(completed_run[1]) if n.startswith("kept/statistics/"))[:1]
    before, after = run_damaged(completed_run, names, tmp_path, seed=1)
    folders = tuple(f"{Path(name).parent}/" for name in names)
    assert after == {name: b for name, b in before.items() if not name.startswith(folders)}
    assert raykd(["check", str(tmp_path / "out")]) == 0


@pytest.mark.slow
def test_damage_to_many_files_is_repaired_by_the_same_command(completed_run, tmp_path, capsys):
    chance = random.Random(1)
    names = sorted(_OF_EACH_RUN)
    others = [
        n for n in files_of(completed_run[1]) if n not in _OF_EACH_RUN | {_LOCK} and not is_kept(n)
    ]
    names += chance.sample(sorted(name for name in others if not is_kept(name)), 12)
    before, after = run_damaged(completed_run, names, tmp_path, seed=1)
    assert after == before
    assert "times.json: damaged, or of an older version; removed" in capsys.readouterr().err


def test_check_finds_damage_to_any_one_file_and_changes_nothing(completed_run, tmp_path, capsys):
    chance = random.Random(2)
    copy = tmp_path / "out"
    shutil.copytree(completed_run[1], copy)
    assert raykd(["check", str(copy), "--json"]) == 0
    before = files_of(copy)
    for name in sorted(set(before) - _OF_EACH_RUN - {_LOCK}):
        (copy / name).write_bytes(_damaged(before[name], chance))
        damaged = files_of(copy)
        capsys.readouterr()
        assert raykd(["check", str(copy), "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert [damage["path"] for damage in report["damages"]] == [name]
        [redone] = report["redone"]
        # A shard is redone alone: its stage is that of the units.
        assert any(name.startswith(f"{output}/") for output in redone["outputs"])
        assert files_of(copy) == damaged
        (copy / name).write_bytes(before[name])
    assert raykd(["check", str(copy)]) == 0


@pytest.mark.exhaustive
def test_damage_to_any_one_file_is_repaired_by_the_same_command(completed_run, tmp_path):
    for number, name in enumerate(files_of(completed_run[1])):
        if is_kept(name):
            continue
        before, after = run_damaged(completed_run, [name], tmp_path / str(number), seed=number)
        assert after == before, name
        shutil.rmtree(tmp_path / str(number))
