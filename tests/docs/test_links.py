"""Links and paths in the documentation lead somewhere."""

import re
from pathlib import Path

import pytest
from markdown_blocks import PAGES, ROOT

READ = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "tests" / "README.md",
    ROOT / "experiments" / "LOG.md",
]
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
# Paths in code spans: `raykd/...`, `tests/...`, `docs/...`, `experiments/...`, `.ci/...`.
_PATH = re.compile(r"`((?:raykd|tests|docs|experiments|\.ci)/[\w./-]*)`")


def anchors_of(page: Path) -> set[str]:
    """Anchors that a Markdown renderer makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor[1:] in anchors_of(path), f"{page.name}: {target}{anchor}"


# The changelog and the log name files as they were.
@pytest.mark.parametrize(
    "page",
    [p for p in READ if p.name not in ("CHANGELOG.md", "LOG.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_paths_in_code_spans_exist(page):
    for path in _PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_test_that_a_page_names_exists():
    named = [
        (page, *match)
        for page in PAGES
        for match in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
    ]
    assert len(named) >= 15
    for page, path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {test}(" in text, f"{page.name}: {path}::{test}"
