"""Pins of the dependencies: with hashes, and equal in both files."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HASHED = (ROOT / "requirements-hashed.txt").read_text()
REMEDY = "run .ci/lock"


def pins_in(text: str) -> dict[str, str]:
    return {
        normalized(name): version
        for name, version in re.findall(r"^([\w.\-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pin_of_the_constraints_is_hashed_at_the_same_version():
    hashed = pins_in(HASHED)
    pins = pins_in((ROOT / "constraints.txt").read_text())
    assert len(pins) > 150
    different = {name for name, version in pins.items() if hashed.get(name) != version}
    assert not different, REMEDY


def test_every_dependency_is_hashed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(text for extra in extras for text in extra)]
    names = {normalized(re.match(r"[\w.\-]+", text)[0]) for text in named}
    assert len(names) > 40
    assert names <= pins_in(HASHED).keys(), REMEDY


def test_every_requirement_has_a_hash_and_no_other_source():
    blocks = re.split(r"^(?=\S)", re.sub(r"^ *#.*\n", "", HASHED, flags=re.MULTILINE), flags=re.M)
    blocks = [block for block in blocks if block.strip()]
    assert len(blocks) == len(pins_in(HASHED))
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in HASHED
    assert "--index" not in HASHED
