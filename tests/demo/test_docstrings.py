"""The demo's text: what counts as a sentence, and which file goes where."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raykd.demo.docstrings import DocstringsConfig, build, read_package
from raykd.demo.prose import sentences
from raykd.errors import InputError
from raykd.storage.manifest import read_manifest

SUBJECTS = {"tides": "sea level and moon", "bread": "flour and salt and yeast"}


def in_turn(function, items, *, label, unit, shared=None):
    return [function(item, **(shared or {})) for item in items]


def write_package(root: Path, name: str, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = root / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (root / name / "__init__.py").touch()


@pytest.fixture
def package(tmp_path, monkeypatch) -> str:
    """A package of two subjects, ten files each, five sentences a file, and one general file."""
    letters = "abcdefghij"
    files = {
        f"{subject}/file_{letter}.py": "\n".join(
            f'def f{number}():\n    """The {subject} of {letter * 3} {word} need {words} today."""'
            for number, word in enumerate(("one", "two", "three", "four", "five"))
        )
        for subject, words in SUBJECTS.items()
        for letter in letters
    }
    files["general.py"] = '"""This module explains nothing that anybody would ever ask."""'
    write_package(tmp_path, "lab_docs", files)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "lab_docs"


def config_of(package: str, **changes) -> DocstringsConfig:
    values = {
        "packages": (package,),
        "classes": {subject: (f"{package}/{subject}",) for subject in SUBJECTS},
        "train_fraction": 0.2,
        "dev_fraction": 0.2,
        "test_fraction": 0.2,
        "train_rows_per_class": 6,
        "dev_rows_per_class": 7,
        "test_rows_per_class": 8,
    }
    return DocstringsConfig.parse(values | changes, "test")


def rows_of(out: Path, name: str) -> list[dict[str, str]]:
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def test_markup_is_replaced_by_its_visible_text():
    docstring = """Solve with :func:`~sympy.solvers.solve` the ``linear`` *system* of `all <http://x.y>`_
    equations [1]_ that :class:`Matrix` holds."""
    assert sentences(docstring, min_words=8) == [
        "Solve with solve the linear system of all equations that Matrix holds."
    ]


def test_doctests_parameters_heads_and_literal_blocks_are_skipped():
    docstring = """The first sentence stays because it is ordinary prose.

    Parameters
    ----------
    graph : Graph
        This description of a parameter is not prose of the subject.

    Notes
    -----
    The second sentence stays because notes are prose as well.

    >>> this = "is a doctest whose words do not count as words of prose"
    its output is not taken for a sentence of the docstring either

    Args:
        count: This description of an argument is not prose of the subject.

    The third sentence stays because it follows the list at the margin. For example::

        this literal block is not prose even though it has many words

    :param other: This description of a field is not prose of the subject.

    Too short to stay.
    """
    assert sentences(docstring, min_words=8) == [
        "The first sentence stays because it is ordinary prose.",
        "The second sentence stays because notes are prose as well.",
        "The third sentence stays because it follows the list at the margin.",
    ]


def test_formulas_and_tables_are_not_sentences():
    docstring = r"""
    \sum_{a} b of some set with these words in the middle of it

    x + y = (a + b) / 3 * 4 - 17.0 ^ 2 with == [0, 1, 2, 3] and {4: 5, 6: 7} for a in it is

    | one cell of a table | another cell of the same table | a third one |
    """
    assert sentences(docstring, min_words=4) == []


def test_a_package_is_read_without_being_imported(tmp_path, monkeypatch):
    text = '"""Reading this sentence must not run a line of code."""\nraise SystemExit(3)'
    write_package(
        tmp_path,
        "lab_unsafe",
        {"a.py": text, "broken.py": "def (", "tests/b.py": text, "null.py": "\x00"},
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_package("lab_unsafe").to_pylist() == [
        {
            "text": "Reading this sentence must not run a line of code.",
            "source": "lab_unsafe/a.py",
        }
    ]
    assert "lab_unsafe" not in sys.modules


def test_docstrings_are_found_in_the_order_of_the_file_and_below_conditions(tmp_path, monkeypatch):
    text = '''
class First:
    """The first docstring of this file is that of a class."""

    async def method(self):
        """The second docstring of this file is that of a method."""

try:
    pass
except ImportError:
    def third():
        """The third docstring of this file belongs to an except block."""
'''
    write_package(tmp_path, "lab_order", {"a.py": text})
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [row["text"].split()[1] for row in read_package("lab_order").to_pylist()]
    assert found == ["first", "second", "third"]


def test_no_file_gives_sentences_to_two_splits_or_to_a_split_and_the_corpus(package, tmp_path):
    out = tmp_path / "out"
    build(config_of(package), out, in_turn)
    marks = {
        name: {
            (row["sentence"].split()[1], row["sentence"].split()[3]) for row in rows_of(out, name)
        }
        for name in ("train", "dev", "test")
    }
    marks["corpus"] = {
        (row["text"].split()[1], row["text"].split()[3]) for row in rows_of(out, "corpus")
    }
    assert all(marks.values())
    names = sorted(marks)
    for first in names:
        for second in names:
            assert first == second or not marks[first] & marks[second]


def test_splits_have_the_configured_rows_per_class(package, tmp_path):
    manifest = build(config_of(package), tmp_path / "out", in_turn)
    assert manifest.counts == {
        # Of 101 sentences, each split takes two files of five sentences a class.
        "num_corpus_rows": 41,
        "num_train_rows": 12,
        "num_dev_rows": 14,
        "num_test_rows": 16,
    }
    labels = [row["label"] for row in rows_of(tmp_path / "out", "train")]
    assert sorted(labels) == ["bread"] * 6 + ["tides"] * 6
    assert labels != sorted(labels)


def test_sentences_with_equal_letters_are_kept_once(tmp_path, package):
    write_package(
        tmp_path,
        package,
        {"general_2.py": '"""This module explains nothing, that anybody would EVER ask!!"""'},
    )
    out = tmp_path / "out"
    build(config_of(package), out, in_turn)
    general = [row for row in rows_of(out, "corpus") if "anybody" in row["text"]]
    assert general == [
        {
            "text": "This module explains nothing that anybody would ever ask.",
            "source": "lab_docs/general.py",
        }
    ]


def test_the_same_seed_gives_the_same_rows_and_a_second_build_reads_nothing(package, tmp_path):
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    build(config_of(package), first, in_turn)
    build(config_of(package), second, in_turn)
    build(config_of(package, split_seed=1), other, in_turn)
    assert read_manifest(first).outputs == read_manifest(second).outputs
    assert read_manifest(first).outputs != read_manifest(other).outputs
    build(config_of(package), first, for_each=None)


def test_the_version_is_that_of_the_installing_distribution(package, tmp_path):
    distribution = tmp_path / "laboratory_texts-2.5.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Name: laboratory-texts\nVersion: 2.5\n")
    (distribution / "top_level.txt").write_text(f"{package}\n")
    assert build(config_of(package), tmp_path / "out", in_turn).inputs == {package: "2.5"}


def test_a_missing_package_is_reported_with_a_remedy(package, tmp_path):
    config = config_of(package, packages=(package, "lab_absent"))
    with pytest.raises(InputError, match=r"'lab_absent'.*pip install lab_absent"):
        build(config, tmp_path / "out", in_turn)
    assert not (tmp_path / "out").exists()


def test_a_class_with_too_few_sentences_is_reported_with_a_remedy(package, tmp_path):
    config = config_of(package, train_rows_per_class=11)
    with pytest.raises(InputError, match=r"classes\.tides: 10 sentences for train, 11 needed"):
        build(config, tmp_path / "out", in_turn)
