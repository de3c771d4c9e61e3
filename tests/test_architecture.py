"""The laws of the layout, read from the imports: data flows down the list, imports point up."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raykd"
FILES = sorted(PACKAGE.rglob("*.py"))

# Rooms in the order of the flow; a room imports from itself and from rooms above it.
FLOW = [
    "errors",
    "outputs",
    "exit_codes",
    "yaml_files",
    "config",
    "schemas",
    "stop_words",
    "progress",
    "checked_json",
    "working_files",
    "manifest",
    "cluster_processes",
    "cluster",
    "board",
    "locations",
    "storage",
    "tables",
    "corpus",
    "retrieval",
    "dedup",
    "text_figures",
    "corpus_card",
    "contextualize",
    "random_corpus",
    "reading_options",
    "models",
    "objectives",
    "training",
    "evaluation",
    "augment",
    "augment_card",
    "search_model",
    "corpora_recipe",
    "corpora",
    "presets",
    "injections",
    "arms",
    "search_space",
    "recipe",
    "recipe_file",
    "run",
    "starts",
    "generators",
    "plan",
    "trait_checks",
    "preflight",
    "results",
    "collect",
    "teacher_check",
    "model_card",
    "report",
    "corpus_stages",
    "training_stages",
    "stages",
    "best",
    "search_checks",
    "tuning",
    "summaries",
    "head_command",
    "augment_command",
    "cli",
    "__main__",
]
SEARCH_WING = {
    "corpus",
    "retrieval",
    "dedup",
    "text_figures",
    "corpus_card",
    "contextualize",
    "random_corpus",
}
DISTILLATION_WING = {"models", "objectives", "training", "evaluation", "augment"}
RAY_FILES = {"pipeline.py", "tuning.py", "cluster.py", "board.py"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[str]:
    """Every module a file imports, wherever the import stands."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            modules.append(node.module)
            if node.module == "raykd":
                modules += [f"raykd.{alias.name}" for alias in node.names]
    return modules


def imported_rooms(path: Path) -> set[str]:
    modules = [m.split(".") for m in imported_modules(path)]
    return {parts[1] for parts in modules if parts[0] == "raykd" and len(parts) > 1}


def test_every_file_stands_in_the_flow():
    assert {room(path) for path in FILES} - {"__init__"} == set(FLOW)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_nothing_below_it_in_the_flow(path):
    if path == PACKAGE / "__init__.py":
        assert imported_rooms(path) == set()
        return
    below = FLOW[FLOW.index(room(path)) + 1 :]
    assert not imported_rooms(path) & set(below)


def test_only_the_edges_import_ray():
    importing = {
        path.name for path in FILES if any(m.split(".")[0] == "ray" for m in imported_modules(path))
    }
    assert importing <= RAY_FILES


def test_the_search_wing_never_imports_torch_and_the_wings_meet_under_the_roof_alone():
    for path in FILES:
        if room(path) in SEARCH_WING:
            top_level = {module.split(".")[0] for module in imported_modules(path)}
            assert not top_level & {"torch", "transformers"}, path
            assert not imported_rooms(path) & DISTILLATION_WING, path
        if room(path) in DISTILLATION_WING:
            assert not imported_rooms(path) & SEARCH_WING, path


def test_the_training_loop_names_no_objective():
    loop = (PACKAGE / "training" / "loop.py").read_text(encoding="utf-8").lower()
    objectives = [path.stem for path in (PACKAGE / "objectives").glob("*.py")]
    methods = set(objectives) - {"__init__", "base", "divergences"}
    assert methods
    assert not [name for name in methods if name in loop]


def test_stages_get_their_own_settings_and_never_the_whole_recipe():
    for path in FILES:
        if room(path) in SEARCH_WING | DISTILLATION_WING:
            assert "recipe" not in imported_rooms(path), path


def test_there_is_no_drawer_for_odds_and_ends():
    drawers = re.compile(r"^(utils?|common|helpers?|misc)\.py$")
    assert not [path for path in FILES if drawers.match(path.name)]


def test_no_file_is_longer_than_four_hundred_lines():
    long = {str(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not long
