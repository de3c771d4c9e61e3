"""Extraction of prose sentences from docstrings, without markup, code and parameter lists."""

import inspect
import re
from collections.abc import Iterator

import sentencex

from raykd.corpus.units import WINDOW_CHARS

_MIN_LETTER_SHARE = 0.75
_MAX_WORDS = 100

_UNDERLINE = re.compile(r"\s*([-=~^*#\"'+.`])\1{2,}\s*$")
_TABLE = re.compile(r"\s*[-=+|][-=+| ]{2,}$|\s*\|.*\|\s*$")
_BULLET = re.compile(r"\s*(?:[-*+•]|\(?\d{1,2}[.)])\s+")
_FIELD = re.compile(r"\s*:[a-z]+(?: [^:`]+)?:(?!`)")
_DIRECTIVE = re.compile(r"\s*\.\. ")
_PROSE_DIRECTIVE = re.compile(r"\s*\.\. (?:note|warning|important|tip|hint)::")
_PROMPT = re.compile(r"\s*(?:>>>|\.\.\.(?:\s|$)|\$ |In \[\d+\]:)")
_LIST_HEADS = (
    "args arguments attributes inputs keyword_args keyword_arguments keywords kwargs methods"
    " other_parameters outputs parameters params raises receives references return returns"
    " see_also shape throws types warns yields"
)
_LISTS = frozenset(head.replace("_", " ") for head in _LIST_HEADS.split())
_HEADS = _LISTS | {"description", "example", "examples", "explanation", "note", "notes", "usage"}

_ROLE = re.compile(r":[a-z][a-z:+-]*:`([^`]*)`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?")
_INLINE = re.compile(r"``([^`]*)``|`([^`]*)`_{0,2}|\*\*([^*]+)\*\*|(?<!\w)\*([^\s*][^*]*)\*(?!\w)")
_CITATION = re.compile(r"\s*\[[\w#]+\]_")
_WORD = re.compile(r"[^\W\d_]{2,}|\b[aAI]\b")


def sentences(docstring: str, *, min_words: int) -> list[str]:
    """List the sentences of a raw docstring that have at least `min_words` words, in order.

    Doctests, code and literal blocks, parameter lists, references, tables and section heads are
    skipped; reStructuredText roles, links and emphasis are replaced by their visible text.
    """
    kept = []
    for paragraph in _paragraphs(inspect.cleandoc(docstring).splitlines()):
        for sentence in sentencex.segment("en", _plain(paragraph)[:WINDOW_CHARS]):
            sentence = sentence.strip()
            if _is_prose(sentence, min_words):
                kept.append(sentence)
    return kept


def _is_prose(sentence: str, min_words: int) -> bool:
    num_words = len(_WORD.findall(sentence))
    if not min_words <= num_words <= _MAX_WORDS or "\\" in sentence:
        return False
    num_letters = sum(map(str.isalpha, sentence)) + sentence.count(" ")
    return num_letters >= _MIN_LETTER_SHARE * len(sentence)


def _plain(paragraph: str) -> str:
    text = _ROLE.sub(lambda match: _shown(match.group(1)), paragraph)
    text = _LINK.sub(r"\1", text)
    text = _CITATION.sub("", text)
    text = _INLINE.sub(
        lambda match: next(part for part in match.groups() if part is not None), text
    )
    return " ".join(text.replace("`", "").replace("$", "").split())


def _shown(target: str) -> str:
    """Visible text of a role: the title before `<target>`, or the last part after a tilde."""
    title = target.split("<")[0].strip()
    return title.rsplit(".", 1)[-1].lstrip("~!") if title.startswith("~") else title.lstrip("!")


def _paragraphs(lines: list[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*_prose_lines(lines), ""]:
        bullet = _BULLET.match(line)
        if paragraph and (bullet or not line.strip()):
            yield " ".join(paragraph)
            paragraph = []
        if line.strip():
            paragraph.append(line[bullet.end() if bullet else 0 :].strip())


def _prose_lines(lines: list[str]) -> Iterator[str]:
    """Iterate over lines of prose; skipped lines become empty, so that paragraphs end there."""
    in_doctest = in_list = False
    skipped_indent: int | None = None
    for number, line in enumerate(lines):
        if not line.strip():
            in_doctest = False
            yield ""
            continue
        indent = len(line) - len(line.lstrip())
        if skipped_indent is not None and indent > skipped_indent:
            continue
        skipped_indent = None
        head = _head_of(lines, number)
        if head is not None:
            in_list = head in _LISTS
            in_doctest = False
            yield ""
            continue
        in_list = in_list and not (indent == 0 and _ends_list(lines, number))
        if in_list or in_doctest or _UNDERLINE.match(line) or _TABLE.match(line):
            yield ""
        elif _PROMPT.match(line):
            in_doctest = True
            yield ""
        elif _FIELD.match(line) or _DIRECTIVE.match(line):
            skipped_indent = None if _PROSE_DIRECTIVE.match(line) else indent
            yield ""
        elif line.rstrip().endswith("::"):
            skipped_indent = indent
            yield line.rstrip()[:-1]
            yield ""
        else:
            yield line


def _head_of(lines: list[str], number: int) -> str | None:
    """Name of the section in lower case, if the line is an underlined or Google-style head."""
    line = lines[number].strip()
    following = lines[number + 1] if number + 1 < len(lines) else ""
    name = line.rstrip(":").lower()
    if _UNDERLINE.match(following) and not _UNDERLINE.match(line):
        return name
    return name if line.endswith(":") and name in _HEADS else None


def _ends_list(lines: list[str], number: int) -> bool:
    """Detect prose after a Google-style list: a line at the margin after an empty line.

    The entries of a numpy-style list are also at the margin, but each is a short `name : type`
    with an indented description below.
    """
    after_empty = number > 0 and not lines[number - 1].strip()
    following = lines[number + 1] if number + 1 < len(lines) else ""
    return after_empty and len(lines[number].split()) > 4 and not following.startswith(" ")
