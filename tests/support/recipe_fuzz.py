"""Recipes with mistakes that a person, an editor or a program could make, by a seed."""

import copy
import random
from typing import Any

import yaml

# Values of every YAML type, and unusual ones that people and programs write.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(2**70), 10**400, 0.0, 1e-4, -0.5, 1e308, 1e-320,
    float("inf"), float("-inf"), float("nan"), "", " ", "x", "no", "yes", "0", "1e-3", "maybe",
    "a.b",
    "\u00e9\u4e2d\U0001f600", "\x00", "a\x07b", "\ud800", "../..", "~", "~nobody-here/x", "/",
    "s3://",
    "s3://bucket/x", "package:", "package:a/../../b", "docstrings:", "docstrings:x", "C:\\x",
    "a" * 5000,
    "[", "{}", [], [[]], [None], [1, 1], ["a", "a"], [1, "a", None, True], [1e-5, 1e-3], {},
    {"": 1},
    {"name": "x"}, {"name": None}, {"name": ["x"]}, {"float": [1, 0]}, {"choice": []}, {1: 2},
)  # fmt: skip

# YAML text instead of a value: tags, anchors, dates and other special syntax.
SNIPPETS = (
    "!!bool maybe", "!!int abc", "!!int ''", "!!float x", "!!null x", "!!timestamp x",
    "!!binary '%'",
    "!!binary abc", "!!set {a, b}", "!!omap [a: 1]", "!!omap 3", "!!pairs [a: 1]", "!!map 3",
    "!!seq 3",
    "!!str [1]", "!!python/object/apply:os.getcwd []", "!!python/name:os.system", "!unknown 3",
    "2026-11-28", "2026-02-30", "2026-11-28 10:00:00", "12:30:45", "0o17", "0x1G", "0b2",
    "1_000", "1__0",
    "&a [*a]", "&a {b: *a}", "*nowhere", "<<: 3", "{<<: [1]}", "{<<: {a: 1}}", "? x", "- x", "|",
    ">",
    "@x", "`x`", "%x", "'open", '"open', '"\\x00"', '"\\ud800"', '"\\q"', "[1, 2", "{a: 1",
    "a: b: c",
    "\t3", "!!merge x", "=", "{? [a] : 1}", "{1: 2}", "{true: 2}", "{null: 2}", "{2026-11-28: 2}",
    "[" * 60 + "]" * 60, "[" * 3000 + "]" * 3000, "!<tag:yaml.org,2002:bool> 7", "--- x", "...",
    "#",
)  # fmt: skip

KEYS = (
    "",
    "name",
    "epoch",
    "seeds",
    "task",
    "__class__",
    "model_config",
    "a" * 4000,
    "\u4e2d",
    "a.b",
)

_PLACEHOLDER = "put-it-here"


def fuzzed(base: dict[str, Any], seed: int) -> bytes:
    """Return the bytes of a recipe with one to three random changes; it may still be valid."""
    chance = random.Random(seed)
    tree: Any = copy.deepcopy(base)
    snippets = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        holder, key = _place(tree, chance)
        action = chance.random()
        if action < 0.5:
            holder[key] = copy.deepcopy(chance.choice(VALUES))
        elif action < 0.8:
            holder[key] = f"{_PLACEHOLDER}{len(snippets)}"
            snippets.append(chance.choice(SNIPPETS))
        elif action < 0.9 and isinstance(holder, dict):
            holder[chance.choice(KEYS)] = copy.deepcopy(chance.choice(VALUES))
        elif isinstance(holder, dict):
            del holder[key]
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=chance.random() < 0.5)
    for number, snippet in enumerate(snippets):
        text = text.replace(f"{_PLACEHOLDER}{number}", snippet)
    content = text.encode("utf-8", errors="surrogatepass")
    if chance.random() < 0.15:
        content = _damaged(content, chance)
    return content


def _place(tree: Any, chance: random.Random) -> tuple[Any, Any]:
    """Return a list or mapping in the tree, and one of its keys."""
    places = list(_places(tree))
    return chance.choice(places)


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Change a byte, or remove or repeat a part."""
    start = chance.randrange(len(content) or 1)
    end = min(len(content), start + chance.randrange(1, 40))
    damage = chance.randrange(4)
    if damage == 0:
        return content[:start] + bytes([chance.randrange(256)]) + content[start + 1 :]
    if damage == 1:
        return content[:start]
    if damage == 2:
        return content[:start] + content[end:]
    return content[:end] + content[start:end] + content[end:]
