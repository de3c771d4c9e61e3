"""Listing of input files in folders and object stores, with exclusions.

Files and folders whose names begin with `_` or `.` are hidden, as in Spark, Hive and pyarrow (a
folder `_key=value` is a partition). Linked folders are followed; a file or folder that is reached a
second time is skipped.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from raykd.errors import InputError
from raykd.storage.formats import check_is_file
from raykd.storage.locations import (
    Location,
    Remote,
    explained,
    is_directory,
    remote_files_below,
    size_of,
)
from raykd.storage.patterns import NameStates, Pattern, has_magic, is_hidden

# Files that `datasets` also ignores in the folder of a data set.
_DESCRIPTIONS = frozenset(
    ("README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
)
_HIDDEN = "hidden (the name begins with _ or .)"
_DESCRIPTION = "descriptions of a data set"
_EXCLUDED = "excluded"
_READ_ALREADY = "read already, by another path"
# Folders of the transaction logs of Delta Lake and Hudi.
_TABLE_LOGS = ("/_delta_log", "/.hoodie")
_NUM_SHOWN = 5

_Parts = tuple[str, ...]


@dataclass
class Listing:
    """Files to read, each once, in order; and the files that were left out, by reason.

    `folders` maps the real paths of the searched folders to patterns and their states there, or
    None if every file below is read.
    """

    files: list[Location] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    folders: dict[str, set[tuple[Pattern | None, NameStates | None]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Describe the files that were left out, one line per reason."""
        lines = []
        for reason, names in self.left_out.items():
            shown = ", ".join(names[:_NUM_SHOWN])
            more = f" and {len(names) - _NUM_SHOWN:,} more" if len(names) > _NUM_SHOWN else ""
            lines.append(f"left out, {reason}: {shown}{more}")
        return [*lines, *self.notes]

    def holds(self, out: Path) -> bool:
        """Check whether a later search of the same folders would find files in `out`."""
        parts = out.resolve().parts
        return any(
            pattern is None or states is None or pattern.step(states, parts[number])
            for number in range(1, len(parts))
            for pattern, states in self.folders.get(str(Path(*parts[:number])), ())
        )


def list_files(paths: Sequence[Location], exclude: Sequence[str] = ()) -> Listing:
    """List the files of paths, folders and patterns.

    Args:
        paths: files and folders, local or in an object store, and patterns with `*`, `?`, `[abc]`
            and `**` (any number of folders). An existing name is never a pattern.
        exclude: patterns of files and folders to leave out: of a name, or of a path (with `/`)
            relative to the given folder.

    Raises:
        InputError: a path or the target of a link is missing, a pattern matches nothing, a folder
            has no files, or a file is a pipe, a socket or a device.
    """
    search = _Search([Pattern(text if "/" in text else f"**/{text}") for text in exclude])
    for path in paths:
        before = search.num_found
        with explained(path):
            is_pattern = search.add(path)
        if search.num_found == before:
            problem = "no file matches the pattern" if is_pattern else "the directory has no files"
            reasons = "".join(f" ({line})" for line in search.listing.lines())
            raise InputError(f"{path}: {problem}{reasons}; give the files or their folder")
    unused = [
        text for text, pattern in zip(exclude, search.exclude, strict=True) if not pattern.used
    ]
    if unused:
        search.listing.notes.append(f"exclude: nothing matches {', '.join(map(repr, unused))}")
    if not search.listing.files:
        raise InputError(f"{paths[0]}: every file is excluded; correct the patterns of exclude")
    return search.listing


class _Search:
    def __init__(self, exclude: Sequence[Pattern]) -> None:
        self.exclude = exclude
        self.listing = Listing()
        self.num_found = 0
        self._seen: set[str] = set()

    def add(self, path: Location) -> bool:
        """Add the files of a path; return whether it is a pattern."""
        base, pattern = _split(path)
        if pattern is None and not is_directory(base):
            if isinstance(base, Path):
                check_is_file(base)
            size_of(base)
            self._file(base, (PurePath(str(base)).name,))
            return False
        if isinstance(base, Remote):
            self._walk_remote(base, pattern)
        else:
            states = None if pattern is None else pattern.start()
            self._walk(base, (), pattern, states)
        return pattern is not None

    def _file(self, file: Location, parts: _Parts) -> None:
        if self._is_excluded(file, parts):
            return
        self.num_found += 1
        real = os.path.realpath(file) if isinstance(file, Path) else str(file)
        if real in self._seen:
            self._leave_out(_READ_ALREADY, file)
        else:
            self._seen.add(real)
            self.listing.files.append(file)

    def _walk(
        self, folder: Path, parts: _Parts, pattern: Pattern | None, states: NameStates | None
    ) -> None:
        """Search a folder; `states` is None if the pattern matches it and everything below."""
        if pattern is not None and states is not None and pattern.is_match(states):
            states = None
        walks = self.listing.folders[os.path.realpath(folder)]
        walk = (None if states is None else pattern, states)
        if walk in walks:
            self.num_found += 1
            self._leave_out(_READ_ALREADY, folder)
            return
        walks.add(walk)
        with explained(folder):
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            path, names = folder / entry.name, (*parts, entry.name)
            following = states
            if states is not None and not (following := _present(pattern).step(states, entry.name)):
                continue
            if is_hidden(entry.name) and not (
                states is not None and _present(pattern).names_hidden(states, entry.name)
            ):
                self._leave_out(_HIDDEN, path)
            elif entry.is_dir():
                if not self._is_excluded(path, names):
                    self._walk(path, names, pattern, following)
            elif following is None or _present(pattern).is_match(following):
                self._entry(path, names)

    def _entry(self, path: Path, parts: _Parts) -> None:
        if path.name in _DESCRIPTIONS:
            self._leave_out(_DESCRIPTION, path)
        elif not self._is_excluded(path, parts):
            with explained(path):
                check_is_file(path)
            self._file(path, parts)

    def _walk_remote(self, base: Remote, pattern: Pattern | None) -> None:
        for file, parts in remote_files_below(base):
            if pattern is not None and not pattern.matches(parts):
                continue
            hidden = [n for n, name in enumerate(parts, 1) if is_hidden(name)]
            if hidden and not (pattern is not None and pattern.names_any_hidden(parts)):
                self._leave_out(_HIDDEN, f"{base}/{'/'.join(parts[: hidden[0]])}")
            elif parts[-1] in _DESCRIPTIONS:
                self._leave_out(_DESCRIPTION, file)
            else:
                self._file(file, parts)

    def _is_excluded(self, path: Location, parts: _Parts) -> bool:
        is_excluded = any([pattern.excludes(parts) for pattern in self.exclude])
        if is_excluded:
            self.num_found += 1
            self._leave_out(_EXCLUDED, path)
        return is_excluded

    def _leave_out(self, reason: str, path: Location | str) -> None:
        names = self.listing.left_out[reason]
        if not names or names[-1] != str(path):
            names.append(str(path))
            if names[-1].endswith(_TABLE_LOGS):
                self.listing.notes.append(
                    f"{path}: the log of a table is not read, so rows that the table has deleted "
                    "or replaced are read as well; export its current rows to leave them out"
                )


def _present(pattern: Pattern | None) -> Pattern:
    assert pattern is not None
    return pattern


def _split(path: Location) -> tuple[Location, Pattern | None]:
    """Split a path into a part without special characters, or that exists, and a pattern."""
    if isinstance(path, Remote):
        if not has_magic(path.key) or not _is_missing(path):
            return path, None
        parts = path.key.split("/")
        number = next(n for n, part in enumerate(parts) if has_magic(part))
        if number == 0:
            raise InputError(f"{path}: a bucket is no pattern; name it")
        base = Remote(path.scheme, "/".join(parts[:number]), path.options)
        return base, Pattern("/".join(parts[number:]))
    if not has_magic(str(path)):
        return path, None
    path = path.absolute()
    base_path = Path(path.anchor)
    for number, part in enumerate(path.parts[1:], 1):
        following = base_path / part
        if has_magic(part) and not os.path.lexists(following):
            return base_path, Pattern("/".join(path.parts[number:]))
        base_path = following
    return path, None


def _is_missing(path: Remote) -> bool:
    """Check that an object store has neither an object nor a prefix with this key."""
    if is_directory(path):
        return False
    try:
        size_of(path)
    except FileNotFoundError:
        return True
    return False
