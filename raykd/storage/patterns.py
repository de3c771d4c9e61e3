"""Path patterns with `*`, `?`, `[abc]` and `**`, matched name by name below a folder."""

import fnmatch
import re
from collections.abc import Sequence

# Positions of the names in a pattern that may match next.
NameStates = frozenset[int]

_MAGIC = re.compile(r"[*?\[]")


def has_magic(name: str) -> bool:
    """Check whether a name may be a pattern."""
    return _MAGIC.search(name) is not None


def is_hidden(name: str) -> bool:
    """Check whether Spark, Hive and pyarrow ignore a file or folder with this name."""
    return (
        name.startswith(".")
        or (name.startswith("_") and "=" not in name)
        or name.endswith("._COPYING_")
    )


class Pattern:
    """Pattern of paths relative to a folder; `**` matches any number of folders.

    A path also matches if one of its parent folders does.
    """

    def __init__(self, text: str) -> None:
        self._names = [name for name in text.strip("/").split("/") if name]
        self._regexes = [
            None if name == "**" else re.compile(fnmatch.translate(name)) for name in self._names
        ]
        self.used = False

    def start(self) -> NameStates:
        """Initial states, in the base folder of the pattern."""
        return self._closed({0})

    def step(self, states: NameStates, name: str) -> NameStates:
        """Advance the states by a name; empty if nothing below it can match."""
        following: set[int] = set()
        for state in states:
            if state == len(self._names) or (regex := self._regexes[state]) is None:
                following.add(state)
            elif regex.match(name):
                following.add(state + 1)
        return self._closed(following)

    def is_match(self, states: NameStates) -> bool:
        """Check whether a path with these states matches."""
        return len(self._names) in states

    def matches(self, parts: Sequence[str]) -> bool:
        """Check whether a path, or one of its parent folders, matches."""
        states = self.start()
        for name in parts:
            states = self.step(states, name)
        return self.is_match(states)

    def excludes(self, parts: Sequence[str]) -> bool:
        """Check whether a path matches, and record in `used` that any path did."""
        is_match = self.matches(parts)
        self.used |= is_match
        return is_match

    def names_hidden(self, states: NameStates, name: str) -> bool:
        """Check whether the pattern has the first character of a hidden name, as `_*.jsonl`."""
        return any(
            state < len(self._names) and self._names[state].startswith(name[0]) for state in states
        )

    def names_any_hidden(self, parts: Sequence[str]) -> bool:
        """Check `names_hidden` for each hidden name of a path."""
        states = self.start()
        for name in parts:
            if is_hidden(name) and not self.names_hidden(states, name):
                return False
            states = self.step(states, name)
        return True

    def _closed(self, states: set[int]) -> NameStates:
        closed = set(states)
        for state in sorted(states):
            while state < len(self._names) and self._regexes[state] is None:
                state += 1
                closed.add(state)
        return frozenset(closed)
