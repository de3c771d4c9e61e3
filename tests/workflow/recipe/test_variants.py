"""Variants: students named by their injections, with their texts, teachers and folders."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import save_tiny_model

from raykd.errors import InputError
from raykd.workflow.checks.preflight import check_models
from raykd.workflow.checks.tune_checks import check_space, tuned_variant
from raykd.workflow.recipe.model_rules import baseline_model
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.recipe.variants import PREDEFINED_VARIANTS
from raykd.workflow.run import Run

MINILM = {"name": "minilmv2", "relation_heads": 12}


def values_with(**changes) -> dict:
    return {
        "name": "mine",
        "variants": ["alone", "general", "general+contextualized@news", "random@web"],
        "task": {"name": "mine", "train": "a", "dev": "b", "sentence_columns": ["text"]},
        "corpora": {"web": {"paths": ["web"]}, "news": {"paths": ["news"]}},
        "retrieval": {"top_k": 1},
        "teacher": {"model": "teacher"},
        "student": {"num_layers": 1},
        "injection": {"objective": MINILM, "learning_rate": 6e-4},
        "injections": {
            "general": {
                "text": "random",
                "corpus": "web",
                "num_units": 100,
                "teacher": "pretrained",
            },
        },
        "adaptation": {},
    } | changes


def recipe_with(**changes) -> Recipe:
    return Recipe.parse(values_with(**changes), "recipe.yaml")


def test_variants_share_the_injections_that_they_begin_with():
    recipe = recipe_with()
    assert [chain.name for chain in recipe.chains] == [
        "general",
        "random@web",
        "general+contextualized@news",
    ]
    assert recipe.chain_of("alone") is None
    steps = recipe.chain_of("general+contextualized@news").steps
    assert [(step.text.name, step.section) for step in steps] == [
        ("random-100@web", "injections.general"),
        ("contextualized@news", "injection"),
    ]


def test_texts_are_made_after_the_texts_that_determine_their_size():
    names = [text.name for text in recipe_with().corpus_texts]
    # The size of random@web is that of web's contextualized corpus.
    assert names == [
        "random-100@web",
        "contextualized@web",
        "random@web",
        "contextualized@news",
    ]


def test_a_dsir_text_follows_the_contextualized_one_unless_it_has_a_size():
    steps = {"some": {"text": "dsir", "corpus": "web", "num_units": 5}}
    recipe = recipe_with(variants=["dsir@news", "some"], injections=steps)
    assert [text.name for text in recipe.corpus_texts] == [
        "contextualized@news",
        "dsir@news",
        "dsir-5@web",
    ]
    with pytest.raises(InputError, match="need the sections corpus and retrieval"):
        recipe_with(variants=["dsir@news"], injections={}, retrieval=None)


def test_outputs_of_a_named_corpus_have_its_name():
    recipe, out = recipe_with(), Path("out")
    run = Run(recipe, out, out / "units")
    assert run.units_of("news") == out / "units@news"
    assert run.hits_in("news") == out / "hits@news"
    assert run.sample_of("news") == out / "sample@news"
    assert run.embeddings_of("news") == out / "embeddings@news"
    assert run.units_of(None) == out / "units"
    assert run.hits_in("web") in run.replaced_folders()


@pytest.mark.parametrize(
    ("variant", "folder"),
    [
        ("contextualized", "contextualized"),
        ("contextualized_task_da", "contextualized_task_da"),
        ("task", "task"),
    ],
)
def test_variants_with_one_injection_keep_their_folders(variant, folder):
    changes = {"corpora": {}, "corpus": {"paths": ["web"]}, "injections": {}, "variants": [variant]}
    recipe = recipe_with(**changes, **({"task_da": "rows"} if "task_da" in variant else {}))
    run = Run(recipe, Path("out"), Path("out/units"))
    chain = recipe.chain_of(variant)
    assert run.injected(chain, "random", 1) == Path(f"out/students/{folder}-random-seed1/injected")


def test_settings_of_a_step_default_to_those_of_injection():
    changes = {
        "injections": {
            "general": {"text": "random", "corpus": "web", "epochs": 7, "teacher": "pretrained"},
            "codir": {
                "text": "random",
                "corpus": "web",
                "objective": {"name": "codir_pretraining"},
            },
        }
    }
    recipe = recipe_with(**changes)
    general, codir = recipe.injections["general"], recipe.injections["codir"]
    assert (general.learning_rate, general.epochs) == (6e-4, 7)
    assert general.objective.relation_heads == 12
    assert codir.learning_rate == 6e-4
    assert codir.objective.name == "codir_pretraining"
    # The written recipe is read back unchanged.
    reread = Recipe.parse(recipe.model_dump(mode="json", by_alias=True), "again")
    assert reread == recipe


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"variants": ["contextualised@web"]}, "there is no step 'contextualised@web'"),
        ({"variants": ["general+"]}, "there is no step ''"),
        ({"variants": ["alone+random@web"]}, "there is no step 'alone'"),
        (
            {"variants": ["contextualized"]},
            "one of the corpora web, news; write contextualized@NAME",
        ),
        ({"variants": ["random@sports"]}, "there is no corpus 'sports' (known: web, news)"),
        ({"variants": ["task@web"]}, "step 'task@web' is not made from a corpus; remove @web"),
        ({"variants": ["+".join(["general"] * 6)]}, "has 6 steps"),
        (
            {"variants": ["contextualized_task_da", "contextualized+task_da"], "corpora": {}}
            | {"corpus": {"paths": ["web"]}, "task_da": "rows", "injections": {}},
            "'contextualized_task_da' and 'contextualized+task_da' are the same",
        ),
        ({"corpus": {"paths": ["web"]}}, "corpus and corpora: give one of them"),
        ({"injections": {"task": {"text": "task"}}}, "injections.task: the name has a meaning"),
        ({"injections": {"mine": {"text": "task", "corpus": "web"}}}, "not made from a corpus"),
        (
            {"injections": {"mine": {"text": "contextualized", "num_units": 5, "corpus": "web"}}},
            "num_units 5: belongs to text: random",
        ),
        (
            {"variants": ["mine"], "injections": {"mine": {"text": "random"}}},
            "injections.mine: text 'random' is made from one of the corpora web, news; set corpus",
        ),
        (
            {"tune": {"variant": "direct", "space": {"a.b": {"int": [1, 2]}}}},
            "makes no such student",
        ),
    ],
)
def test_impossible_variants_are_refused(changes, expected):
    with pytest.raises(InputError) as caught:
        recipe_with(**changes)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "is_sound"),
    [
        ({"name": "minilmv2", "relation_heads": 12}, True),
        ({"name": "tinybert"}, True),
        ({"name": "codir_pretraining"}, True),
        ({"name": "vanilla_kd", "task_weight": 0}, False),
        ({"name": "codir", "task_weight": 0}, False),
        ({"name": "pkd", "task_weight": 0}, False),
        ({"name": "rail_kd", "task_weight": 0}, False),
        ({"name": "alp_kd", "task_weight": 0}, False),
        ({"name": "ckd", "task_weight": 0}, False),
        ({"name": "annealing_kd"}, False),
    ],
)
def test_objectives_that_read_logits_refuse_a_pretrained_teacher(objective, is_sound):
    injection = {"objective": objective, "teacher": "pretrained"}
    changes = {"injection": injection, "injections": {}, "variants": ["random@web"]}
    if is_sound:
        assert recipe_with(**changes).teacher_model_of(recipe_with(**changes).injection)
        return
    with pytest.raises(InputError, match="reads the teacher's logits, and the classifier of a"):
        recipe_with(**changes)


def test_a_fine_tuned_teacher_cannot_be_the_pretrained_one():
    teacher = {"model": "teacher", "fine_tuned": True}
    with pytest.raises(InputError, match=r"injections.general.teacher_model"):
        recipe_with(teacher=teacher)
    general = values_with()["injections"]["general"] | {"teacher_model": "base"}
    recipe = recipe_with(teacher=teacher, injections={"general": general})
    assert recipe.teacher_model_of(recipe.injections["general"]) == "base"
    with pytest.raises(InputError, match="set teacher: pretrained, or remove teacher_model"):
        recipe_with(injections={"general": general | {"teacher": "fine_tuned"}})


def test_a_baseline_on_embeddings_needs_a_pretrained_model():
    teacher = {"model": "teacher", "fine_tuned": True}
    variants = ["embeddings", "alone"]
    assert recipe_with(variants=variants, injections={}).baselines == ["embeddings"]
    with pytest.raises(InputError, match="'embeddings' needs a pretrained model"):
        recipe_with(variants=variants, injections={}, teacher=teacher)
    student = {"model": "base", "inits": ["pretrained"]}
    recipe = recipe_with(variants=variants, injections={}, teacher=teacher, student=student)
    assert baseline_model(recipe.teacher, recipe.student) == "base"


def test_setfit_is_for_single_texts_with_one_class():
    task = values_with()["task"]
    variants = ["setfit", "alone"]
    assert recipe_with(variants=variants, injections={}).baselines == ["setfit"]
    pairs = task | {"sentence_columns": ["first", "second"]}
    with pytest.raises(InputError, match="'setfit' is for single texts .* a pair of texts"):
        recipe_with(variants=variants, injections={}, task=pairs)
    scores = task | {"regression": True, "metrics": ["pearson"]}
    with pytest.raises(InputError, match="'setfit' is for single texts .* label is a score"):
        recipe_with(variants=variants, injections={}, task=scores)
    with pytest.raises(InputError, match="'setfit' is for single texts .* several classes"):
        recipe_with(variants=variants, injections={}, task=task | {"multi_label": True})


def test_an_int8_teacher_needs_a_teacher_that_is_a_model():
    variants = ["int8_teacher", "alone"]
    assert recipe_with(variants=variants, injections={}).baselines == ["int8_teacher"]
    teacher, student = {"scores": "scores.csv"}, {"model": "base", "inits": ["pretrained"]}
    with pytest.raises(InputError, match="'int8_teacher' needs a teacher that is a model"):
        recipe_with(
            variants=variants,
            injections={},
            injection=None,
            teacher=teacher,
            student=student,
            adaptation={"objective": {"name": "vanilla_kd"}},
        )


def test_baselines_alone_are_no_run():
    with pytest.raises(InputError, match="name a variant that is a student as well"):
        recipe_with(variants=["static", "tfidf"], injections={})


def test_paths_of_named_corpora_and_teachers_become_absolute(tmp_path):
    (tmp_path / "base").mkdir()
    values = values_with()
    values["injections"]["general"]["teacher_model"] = "base"
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    recipe = load_recipe(path)
    assert recipe.corpora["news"].paths == (str(tmp_path / "news"),)
    assert recipe.injections["general"].teacher_model == str(tmp_path / "base")


def test_trials_change_the_steps_of_the_tuned_variant():
    space = {"injections.general.learning_rate": {"choice": [1e-4, 1e-3]}}
    recipe = recipe_with(tune={"space": space})
    assert tuned_variant(recipe) == "general+contextualized@news"
    check_space(recipe)
    changed = recipe.with_values({"injections.general.learning_rate": 0.5}, "trial")
    assert changed.injections["general"].learning_rate == 0.5
    other_variant = recipe_with(tune={"space": space, "variant": "random@web"})
    with pytest.raises(InputError, match=r"changes nothing in the tuned variant 'random@web'"):
        check_space(other_variant)
    fixed = recipe_with(tune={"space": {"injections.general.num_units": {"int": [1, 2]}}})
    with pytest.raises(InputError, match="trials cannot change 'injections.general.num_units'"):
        check_space(fixed)


def test_preflight_checks_the_teacher_model_of_an_injection(tmp_path):
    for name in ("teacher", "base"):
        save_tiny_model(tmp_path / name)
    general = {"text": "task", "teacher": "pretrained", "teacher_model": str(tmp_path / "base")}
    recipe = recipe_with(
        variants=["general"],
        corpora={},
        injections={"general": general},
        teacher={"model": str(tmp_path / "teacher"), "fine_tuned": True, "max_length": 20},
        injection={"objective": MINILM, "max_length": 20},
        adaptation={"max_length": 20},
    )
    run = Run(recipe, tmp_path / "out", tmp_path / "out" / "units")
    assert any("injections.general" in line for line in check_models(run))
    tokens = (tmp_path / "base" / "tokenizer.json").read_text()
    (tmp_path / "base" / "tokenizer.json").write_text(tokens.replace('"film"', '"movie"'))
    with pytest.raises(InputError, match=r"different tokenizers.*injections.general.teacher_model"):
        check_models(run)


_STEPS = ("general", "task", "random@web", "contextualized@news", "alone", "x", "", "a@b", "@", "+")


@given(st.lists(st.sampled_from(_STEPS), max_size=7), st.text(max_size=20))
def test_any_variant_is_valid_or_refused_with_its_name(steps, noise):
    for variant in ("+".join(steps), noise):
        message = ""
        try:
            recipe = recipe_with(variants=["direct", variant])
        except InputError as error:
            message = str(error)
        else:
            chain = recipe.chain_of(variant)
            assert variant in PREDEFINED_VARIANTS or chain.name == variant
        assert not message or "variants" in message
