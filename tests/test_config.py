from typing import Annotated, Literal

import pytest
from pydantic import Field

from raykd.config import Config, dump_yaml
from raykd.errors import InputError
from raykd.storage.yaml_files import load_yaml


class Sharp(Config):
    name: Literal["sharp"] = "sharp"
    temperature: float = Field(1.0, gt=0)


class Blunt(Config):
    name: Literal["blunt"] = "blunt"
    width: int = 3


class Phase(Config):
    objective: Annotated[Sharp | Blunt, Field(discriminator="name")] = Sharp()
    epochs: int = 1


class Whole(Config):
    title: str
    phase: Phase = Phase()


def problem_of(values: dict) -> str:
    with pytest.raises(InputError) as caught:
        Whole.parse(values, "run.yaml")
    return str(caught.value)


def test_a_misspelled_key_is_reported_with_its_path_and_the_nearest_key():
    message = problem_of({"title": "x", "phase": {"epoch": 3}})
    assert message == "run.yaml: unknown key 'phase.epoch' (did you mean 'epochs'?)"


def test_a_key_of_another_union_member_is_refused():
    message = problem_of({"title": "x", "phase": {"objective": {"name": "sharp", "width": 3}}})
    assert message == (
        "run.yaml: unknown key 'phase.objective.width' (known keys of sharp: name, temperature)"
    )


def test_a_missing_key_is_reported():
    assert problem_of({}) == "run.yaml: key 'title' is required"


def test_a_value_out_of_range_is_reported():
    message = problem_of(
        {"title": "x", "phase": {"objective": {"name": "sharp", "temperature": 0}}}
    )
    assert "'phase.objective.temperature'" in message
    assert "greater than 0, not 0" in message


def test_an_invalid_item_does_not_make_a_list_too_short():
    class Tasks(Config):
        phases: tuple[Phase, ...] = Field(min_length=1)

    with pytest.raises(InputError, match=r"^x: key 'phases.0.epochs': [^;]*$"):
        Tasks.parse({"phases": [{"epochs": "many"}]}, "x")
    with pytest.raises(InputError, match="'phases': .*at least 1 item"):
        Tasks.parse({"phases": []}, "x")


def test_a_list_that_is_too_short_is_reported_together_with_its_invalid_item():
    class Pair(Config):
        phases: tuple[Phase, ...] = Field(min_length=2)

    with pytest.raises(InputError, match="phases.0.epochs.*at least 2 items"):
        Pair.parse({"phases": [{"epochs": "many"}]}, "x")


def test_yaml_round_trip_keeps_every_value(tmp_path):
    config = Whole(title="é: 1", phase=Phase(objective=Blunt(width=7), epochs=2))
    path = tmp_path / "run.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8")
    assert Whole.parse(load_yaml(path), str(path)) == config


def test_numbers_in_scientific_form_are_numbers(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("a: 1e-4\nb: 5E3\nc: 1.5e-3\nd: -2e2\ne: e5\n")
    assert load_yaml(path) == {"a": 1e-4, "b": 5000.0, "c": 1.5e-3, "d": -200.0, "e": "e5"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\na: 2\n", "key 'a' appears twice"),
        (b"a: [1\n", "not valid YAML"),
        (b"a: 1\nb\n", "at line 3, column 1"),
        (b"? [a, b]\n: 1\n", "key ['a', 'b'] is no plain value"),
        (b"a: {? {b: 1} : 2}\n", "key {'b': 1} is no plain value"),
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        (b"- 1\n", "a mapping of keys to values is expected"),
        (b"", "a mapping of keys to values is expected"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_an_invalid_settings_file_is_refused_with_its_path(tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(InputError, match="nowhere.yaml: no such file"):
        load_yaml(tmp_path / "nowhere.yaml")


def test_a_missing_suffix_is_suggested(tmp_path):
    (tmp_path / "support.yaml").write_text("name: support\n")
    with pytest.raises(InputError, match=r"support: no such file; did you mean .*support\.yaml\?"):
        load_yaml(tmp_path / "support")
