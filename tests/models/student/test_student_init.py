"""New students: random weights, copied weights, refused settings."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_batch, tiny_encoder

from raykd.errors import InputError
from raykd.models.student.init import StudentConfig, make_student


def settings(**values) -> StudentConfig:
    return StudentConfig.parse(values, "recipe.yaml")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_all_layers_has_the_teachers_logits(family):
    teacher = tiny_encoder(family, num_layers=4).eval()
    batch = tiny_batch()

    student = make_student(
        teacher, settings(num_layers=4, inits=["skip"]), "skip", seed=7, with_classifier=True
    )

    expected = teacher(batch["input_ids"], batch["attention_mask"], layers=[0, 1])
    actual = student(batch["input_ids"], batch["attention_mask"], layers=[0, 1])
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_dropout_setting_applies_to_every_dropout_of_the_student(family):
    teacher = tiny_encoder(family, num_layers=2)

    for dropout in (0.0, 0.5):
        student = make_student(teacher, settings(num_layers=1, dropout=dropout), "random", seed=7)

        places = [module for module in student.modules() if type(module).__name__ == "Dropout"]
        assert {place.p for place in places} == {dropout}


@pytest.mark.parametrize("family", FAMILIES)
def test_bottom_layers_compute_the_same_as_in_the_teacher(family):
    teacher = tiny_encoder(family, num_layers=4).eval()
    batch = tiny_batch()

    student = make_student(teacher, settings(num_layers=2, inits=["bottom"]), "bottom", seed=7)

    expected = teacher(batch["input_ids"], batch["attention_mask"], layers=[0, 1])
    actual = student(batch["input_ids"], batch["attention_mask"], layers=[0, 1])
    torch.testing.assert_close(actual.hidden_states, expected.hidden_states)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_student_may_have_any_size(family):
    teacher = tiny_encoder(family, num_layers=4, hidden_size=24, num_heads=2)

    student = make_student(
        teacher, settings(num_layers=6, hidden_size=16, num_heads=4), "random", seed=7
    )

    assert (student.num_layers, student.hidden_size, student.num_heads) == (6, 16, 4)
    assert student.num_labels == 3
    assert (teacher.num_layers, teacher.hidden_size, teacher.num_heads) == (4, 24, 2)
    batch = tiny_batch()
    assert student(batch["input_ids"], batch["attention_mask"]).logits.shape == (4, 3)


def test_sizes_default_to_the_teachers():
    teacher = tiny_encoder(hidden_size=24, num_heads=2)  # heads of 12, feed-forward of 48

    narrow = make_student(teacher, settings(num_layers=1, hidden_size=12), "random", seed=7)

    assert narrow.num_heads == 1
    assert narrow.model.config.intermediate_size == 24


def test_random_weights_depend_only_on_the_seed_and_keep_the_random_state():
    teacher, config = tiny_encoder(), settings(num_layers=1)
    torch.manual_seed(5)
    expected_draw = torch.rand(3)

    torch.manual_seed(5)
    first = make_student(teacher, config, "random", seed=7)
    assert torch.equal(torch.rand(3), expected_draw)
    again = make_student(teacher, config, "random", seed=7)
    other = make_student(teacher, config, "random", seed=8)

    weights = [student.projections(1).modules[0].weight for student in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("values", "init", "message"),
    [
        ({"num_layers": 3, "inits": ["top"]}, "top", "student.num_layers 3: .* which has 2"),
        (
            {"num_layers": 1, "hidden_size": 12, "inits": ["top"]},
            "top",
            "hidden_size 12: init 'top' copies layers of a model whose hidden_size is 24",
        ),
        ({"num_layers": 1, "intermediate_size": 50}, "skip", "intermediate_size 50"),
        ({"num_layers": 1, "hidden_size": 25}, "random", "25 is not divisible by 2 heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values, init, message):
    with pytest.raises(InputError, match=message):
        make_student(tiny_encoder(), settings(**values), init, seed=7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give `num_layers`, or a pretrained student as `model`"),
        ({"model": "some/folder", "hidden_size": 12}, "remove hidden_size, or `model`"),
        ({"model": "a/b", "layers": [1], "inits": ["pretrained"]}, "remove layers, or `model`"),
        ({"model": "a/b", "inits": ["top"]}, "take layers of `model`: give `num_layers`"),
        ({"num_layers": 2, "inits": ["pretrained"]}, "needs `model`"),
        ({"num_layers": 2, "inits": ["top", "top"]}, "each only once"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_layers": 2, "init": ["top"]}, "did you mean 'inits'"),
        ({"inits": ["layers"], "num_layers": 2}, r"needs the key `layers`, such as"),
        ({"inits": ["skip"], "layers": [1, 2]}, "read by init 'layers' alone"),
        ({"layers": [1, 4, 7], "num_layers": 2}, r"\[1, 4, 7\]: 3 are listed, num_layers is 2"),
        ({"layers": [4, 1]}, "list them in increasing order, each only once"),
        ({"layers": [1, 1]}, "list them in increasing order, each only once"),
        ({"layers": [0, 1]}, "layers"),
        ({"layers": []}, "layers"),
        ({"num_layers": 2, "init_from": "teacher"}, r"no effect on inits \['random'\]"),
        ({"num_layers": 2, "init_from": "model", "inits": ["skip"]}, "init_from"),
        (
            {"model": "a/b", "num_layers": 2, "inits": ["skip"], "init_from": "teacher"},
            "remove one of the two",
        ),
    ],
)
def test_contradictory_settings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        settings(**values)


def test_a_list_of_layers_implies_its_init_and_the_number_of_layers():
    config = settings(layers=[1, 4, 7])

    assert config.inits == ("layers",)
    assert config.depth == 3
    assert settings(**config.model_dump()) == config


def test_a_pretrained_student_implies_its_init():
    assert settings(model="some/folder").inits == ("pretrained",)
    assert StudentConfig.model_validate(settings(model="a/b").model_dump()).model == "a/b"
