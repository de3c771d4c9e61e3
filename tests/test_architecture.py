"""Laws of the layout: data flows down the list of modules, imports point up."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raykd"
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules and folders of raykd/ in the order of the data flow: each imports only from itself and
# from those above it.
FLOW = [
    "errors",
    "config",
    "progress",
    "storage",
    "cluster",
    "text",
    "tasks",
    "corpus",
    "demo",
    "retrieval",
    "dedup",
    "contextualize",
    "models",
    "objectives",
    "training",
    "evaluation",
    "augment",
    "report",
    "prediction",
    "workflow",
    "operations",
    "api",
    "cli",
    "__main__",
]
SEARCH_WING = {"corpus", "retrieval", "dedup", "contextualize"}
DISTILLATION_WING = {"models", "objectives", "training", "evaluation", "augment"}
RAY_FILES = {"pipeline.py", "tuning.py"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def folder(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[str]:
    """List every module that a file imports, also inside functions."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in names if name in MODULES]
            modules += submodules
            if len(submodules) < len(names):
                modules.append(node.module)
    return modules


def imported_folders(path: Path) -> set[str]:
    modules = [m.split(".") for m in imported_modules(path)]
    return {parts[1] for parts in modules if parts[0] == "raykd" and len(parts) > 1}


def test_every_module_is_in_the_flow():
    assert {folder(path) for path in FILES} - {"__init__"} == set(FLOW)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_nothing_below_it_in_the_flow(path):
    if path == PACKAGE / "__init__.py":
        assert imported_folders(path) == {"api"}
        return
    below = FLOW[FLOW.index(folder(path)) + 1 :]
    assert not imported_folders(path) & set(below)


def test_there_are_no_import_cycles():
    remaining = {
        name: {m for m in imported_modules(path) if m in MODULES and m != name}
        for name, path in MODULES.items()
    }
    while leaves := {name for name, imported in remaining.items() if not imported & set(remaining)}:
        remaining = {name: imported for name, imported in remaining.items() if name not in leaves}
    assert not remaining


def test_only_cluster_pipelines_and_tuning_import_ray():
    importing = [
        path for path in FILES if any(m.split(".")[0] == "ray" for m in imported_modules(path))
    ]
    assert importing
    assert not [p for p in importing if folder(p) != "cluster" and p.name not in RAY_FILES]


def test_the_search_wing_never_imports_torch_and_the_wings_meet_only_in_workflow():
    for path in FILES:
        if folder(path) in SEARCH_WING:
            top_level = {module.split(".")[0] for module in imported_modules(path)}
            assert not top_level & {"torch", "transformers"}, path
            assert not imported_folders(path) & DISTILLATION_WING, path
        if folder(path) in DISTILLATION_WING:
            assert not imported_folders(path) & SEARCH_WING, path


def test_the_training_loop_imports_no_objective():
    loop = (PACKAGE / "training" / "loop.py").read_text(encoding="utf-8").lower()
    objectives = [path.stem for path in (PACKAGE / "objectives").glob("*.py")]
    methods = set(objectives) - {"__init__", "base"}
    assert methods
    assert not [name for name in methods if name in loop]


def test_stages_receive_their_own_settings_and_never_the_full_recipe():
    for path in FILES:
        if folder(path) in SEARCH_WING | DISTILLATION_WING:
            assert "workflow" not in imported_folders(path), path


def test_no_module_is_named_utils_or_helpers():
    catch_all = re.compile(r"^(utils?|common|helpers?|misc)\.py$")
    assert not [path for path in FILES if catch_all.match(path.name)]


def test_tests_import_their_helpers_by_name_as_the_command_pytest_finds_them():
    # `python -m pytest` finds `tests.support` too, `pytest` doesn't.
    files = sorted((PACKAGE.parent / "tests").rglob("*.py"))
    assert [
        f.name for f in files if re.search(r"^(from|import) tests\b", f.read_text(), re.M)
    ] == []


def test_the_top_level_has_at_most_six_modules():
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_no_folder_has_more_than_sixteen_files():
    sizes = {path.parent: len(list(path.parent.glob("*.py"))) for path in FILES}
    assert not {str(folder): size for folder, size in sizes.items() if size > 16}


def test_no_file_is_longer_than_four_hundred_lines():
    long = {str(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not long
