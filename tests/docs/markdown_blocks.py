"""Code blocks of Markdown pages, and what the comment before each says about it.

`<!-- not run: REASON -->` excludes a block. `<!-- file: NAME -->` writes it into a file that later
blocks use. `<!-- recipe -->` is a recipe that is only parsed. A block after `<!-- slow -->` runs in
slow tests only. All other `bash` and `python` blocks of a page run in order, in one folder.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNABLE = ("bash", "python")
# Drawings, and output that is shown to the reader.
SHOWN = ("text", "mermaid", "")
# .ci/run runs the test command.
_DO_NOT_RUN = ("not run: ", "file: ", "test command")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """One fenced block."""

    comment: str
    language: str
    code: str

    @property
    def file(self) -> str | None:
        """The file that the block is written to."""
        return self.comment.removeprefix("file: ") if self.comment.startswith("file: ") else None

    @property
    def runs(self) -> bool:
        """True if the block is executed."""
        return self.language in RUNNABLE and not self.comment.startswith(_DO_NOT_RUN)


def blocks_of(page: Path) -> list[Block]:
    """Read the blocks of a page in order."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(b["comment"] or "", b["language"], b["code"]) for b in found]
