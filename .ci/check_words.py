"""Check text files against the word list of `.ci/words`.

Without arguments, check every tracked text file except those below a path in `.ci/words_pending`.
With paths (files or folders), check those, pending or not.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".html", ".txt", ""}
# These define or quote the words that are not to be used.
EXEMPT_FILES = {".ci/words", "LICENSE"}
EXEMPT_LINE = "word list: ok"


def read_rules(path: Path) -> list[tuple[re.Pattern[str], str]]:
    """Read pairs of a pattern and the wording to use instead."""
    rules = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        if len(parts) != 2:
            raise SystemExit(f"{path}:{number}: no replacement after two spaces: {line!r}")
        rules.append((re.compile(parts[0], re.IGNORECASE if _has_prose(parts[0]) else 0), parts[1]))
    return rules


def _has_prose(pattern: str) -> bool:
    """Distinguish prose rules (which ignore case) from those for identifiers and docstrings."""
    return pattern.startswith(r"\b")


def findings(path: Path, rules: list[tuple[re.Pattern[str], str]]) -> list[str]:
    """Describe each line of a file that breaks a rule."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if EXEMPT_LINE in line:
            continue
        for pattern, replacement in rules:
            if match := pattern.search(line):
                place = f"{path.relative_to(ROOT)}:{number}"
                found.append(f"{place}: {match.group(0)!r}: write {replacement}")
    return found


def tracked_files(paths: list[str]) -> list[Path]:
    """List the text files that git tracks below the given paths."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name and name not in EXEMPT_FILES]
    files = [ROOT / name for name in names if Path(name).suffix in SUFFIXES]
    return [path for path in files if path.is_file()]


def pending() -> list[str]:
    """List the paths that were not revised yet."""
    lines = (ROOT / ".ci" / "words_pending").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def main(arguments: list[str]) -> int:
    """Print all findings; return 1 where there are some."""
    paths = arguments or [".", *(f":(exclude){path}" for path in pending())]
    rules = read_rules(ROOT / ".ci" / "words")
    found = [line for path in tracked_files(paths) for line in findings(path, rules)]
    print("\n".join(found) or "word list: no findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
