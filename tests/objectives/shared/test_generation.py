"""Text generation, gradients of the generator, and alternation of the players."""

import pytest
import torch
from tiny_models import FAMILIES, VOCABULARY_SIZE, tiny_batch, tiny_encoder, tiny_masked_lm
from torch.nn.functional import gumbel_softmax, one_hot, pad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raykd.errors import InputError
from raykd.models.masked_lm import MaskedLm
from raykd.objectives import build
from raykd.objectives.base import STUDENT
from raykd.objectives.cilda import CildaConfig
from raykd.objectives.mate_kd import MateKdConfig
from raykd.objectives.shared.generation import (
    GENERATOR,
    GeneratorObjective,
    chosen_rows,
    drawn,
    generate,
)

both_methods = pytest.mark.parametrize("config", [CildaConfig(), MateKdConfig()])


def make(config, family: str = "bert", **changes) -> GeneratorObjective:
    student = tiny_encoder(family, hidden_size=12, seed=1)
    teacher = tiny_encoder(family, num_layers=3, seed=2)
    torch.manual_seed(4)
    generator = tiny_masked_lm(family)
    return build(config.model_copy(update=changes), student, teacher, generator).train()


def for_player(objective: GeneratorObjective, player: str) -> GeneratorObjective:
    objective.take_turn(player, objective.players())
    return objective


def generated(batch: dict[str, torch.Tensor], generator: MaskedLm, probability: float = 0.3):
    torch.manual_seed(5)
    return generate(generator, batch, probability, temperature=1.0)


def test_only_words_are_masked_with_the_given_probability():
    batch = tiny_batch(num_rows=400, length=20)
    batch["input_ids"][:, 0] = 2  # a special token
    is_word = (batch["attention_mask"] == 1) & (torch.arange(20) > 0)

    for probability in (0.3, 1.0):
        text = generated(batch, tiny_masked_lm(), probability)
        assert not text.is_masked[~is_word].any()
        assert text.is_masked[is_word].float().mean().item() == pytest.approx(probability, abs=0.05)
        assert torch.equal(text.input_ids[~text.is_masked], batch["input_ids"][~text.is_masked])


def test_tokens_are_sampled_by_their_probabilities():
    torch.manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)

    chosen = gumbel_softmax(logits, 1.0).argmax(-1)

    shares = one_hot(chosen).float().mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.01, rtol=0)


def test_sampling_without_gradients_has_the_same_probabilities_and_no_impossible_token():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 0.5, 0.3, 0.0, 0.2, 0.0]).log().expand(20_000, 6)

    shares = one_hot(drawn(logits), 6).float().mean(0)

    torch.testing.assert_close(
        shares, torch.tensor([0.0, 0.5, 0.3, 0.0, 0.2, 0.0]), atol=0.01, rtol=0
    )
    assert shares[[0, 3, 5]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_tokens_are_embedded_exactly_and_others_unchanged(family):
    batch, encoder = tiny_batch(), tiny_encoder(family)
    text = generated(batch, tiny_masked_lm(family))
    masked, ids = text.is_masked, text.input_ids

    assert text.probabilities.requires_grad
    embeddings = text.word_embeddings(encoder.requires_grad_(False))

    assert 0 < masked.sum() < batch["attention_mask"].sum()
    assert torch.equal(ids[masked], text.probabilities.argmax(-1))
    assert torch.equal(embeddings[~masked], encoder.embed(batch["input_ids"])[~masked])
    assert torch.equal(embeddings[masked], encoder.embedding_weight[ids[masked]])
    # The version without gradients is embedded the same way.
    detached = text._replace(probabilities=None)
    assert torch.equal(detached.word_embeddings(encoder), embeddings)


def test_a_sampled_token_is_an_exact_one_hot_row():
    probabilities = torch.rand(7, VOCABULARY_SIZE).softmax(-1)

    rows = chosen_rows(probabilities, torch.eye(VOCABULARY_SIZE))

    assert torch.equal(rows, one_hot(probabilities.argmax(-1), VOCABULARY_SIZE).float())


def test_gradients_are_straight_through_the_sampling():
    probabilities = torch.tensor([[0.1, 0.6, 0.3]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 3.0]])

    rows = chosen_rows(probabilities, weight)
    (rows @ torch.tensor([10.0, 1.0])).sum().backward()

    assert rows.tolist() == [[0.0, 2.0]]
    # Each token's embedding times the row's gradient (10, 1).
    assert probabilities.grad.tolist() == [[10.0, 2.0, -7.0]]


@both_methods
def test_a_generator_step_equals_one_with_one_hot_rows_for_every_token(config):
    """Compare with one-hot rows (B, L, V), soft in the backward pass, times all embeddings."""
    batch = tiny_batch()
    objective = for_player(make(config), GENERATOR)
    torch.manual_seed(5)
    actual = objective(batch).total
    actual.backward()
    gradients = [parameter.grad.clone() for parameter in objective.generator.parameters()]
    objective.zero_grad()

    def embed(text, encoder):
        soft = one_hot(batch["input_ids"], VOCABULARY_SIZE).float()
        soft = soft.masked_scatter(text.is_masked[..., None], text.probabilities)
        hard = one_hot(soft.argmax(-1), VOCABULARY_SIZE).float()
        return (hard + soft - soft.detach()) @ encoder.embedding_weight

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raykd.objectives.shared.generation.GeneratedText.word_embeddings", embed)
        torch.manual_seed(5)
        expected = objective(batch).total
        expected.backward()

    torch.testing.assert_close(actual, expected)
    for gradient, parameter in zip(gradients, objective.generator.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@both_methods
@pytest.mark.parametrize("player", [STUDENT, GENERATOR])
def test_padding_changes_neither_masks_nor_sampled_tokens(config, player):
    batch = tiny_batch()
    wide = {
        key: pad(value, (0, 6)) if value.shape == (4, 9) else value for key, value in batch.items()
    }
    text, wide_text = (generated(shape, tiny_masked_lm()) for shape in (batch, wide))
    assert torch.equal(wide_text.input_ids[:, :9], text.input_ids)

    totals = []
    for shape in (batch, wide):
        objective = for_player(make(config), player)
        torch.manual_seed(5)
        totals.append(objective(shape).total)
    torch.testing.assert_close(*totals)


@both_methods
@pytest.mark.parametrize("player", [STUDENT, GENERATOR])
def test_a_batch_without_words_gives_every_parameter_of_the_player_a_gradient(config, player):
    """Nothing can be masked, but every parameter of each worker must take part in the step."""
    batch = tiny_batch()
    batch["input_ids"] = batch["input_ids"].clamp(max=4)
    objective = for_player(make(config), player)

    terms = objective(batch)
    terms.total.backward()

    assert torch.isfinite(terms.total)
    for parameter in objective.players()[player].parameters:
        assert torch.isfinite(parameter.grad).all()
        assert player == STUDENT or not parameter.grad.any()


@both_methods
@pytest.mark.parametrize("player", [STUDENT, GENERATOR])
def test_an_optimizer_step_changes_only_its_players_parameters(config, player):
    objective = for_player(make(config), player)
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    optimizer = torch.optim.AdamW(objective.players()[player].parameters, lr=1e-2)

    objective(tiny_batch()).total.backward()
    optimizer.step()

    mine = {id(parameter) for parameter in objective.players()[player].parameters}
    assert {name.split(".")[0] for name, p in objective.named_parameters() if id(p) in mine} == (
        {"generator"}
        if player == GENERATOR
        else {"student"} | {name for name, _ in objective.named_children() if "_proj" in name}
    )
    for name, parameter in objective.named_parameters():
        if id(parameter) not in mine:
            assert torch.equal(parameter, before[name]), name
        # Their gradient is 0 up to rounding: a softmax is invariant to a shift of all its inputs.
        elif not name.endswith("key.bias"):
            assert not torch.equal(parameter, before[name]), name


class LargestTensor(TorchDispatchMode):
    """Mode that records the number of elements of the largest tensor created under it."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@both_methods
@pytest.mark.parametrize("player", [STUDENT, GENERATOR])
def test_no_tensor_has_the_vocabulary_for_every_token(config, player):
    # No projection of CILDA may be larger than the searched size.
    small = {"projection_size": 8} if isinstance(config, CildaConfig) else {}
    objective = for_player(make(config, **small), player)
    batch = tiny_batch(num_rows=8, length=9)

    with LargestTensor() as largest:
        objective(batch).total.backward()

    assert 0 < largest.numel < batch["input_ids"].numel() * VOCABULARY_SIZE


@both_methods
def test_the_generator_trains_in_the_first_steps_of_a_cycle_and_the_student_in_the_others(config):
    objective = make(config, generator_steps=2, student_steps=3)

    turns = "".join(objective.player_of(step)[0] for step in range(1, 13))

    assert turns == "ggsssggsssgg"
    objective = make(config)
    default = [objective.player_of(step) for step in range(1, 221)]
    assert default == ([GENERATOR] * 10 + [STUDENT] * 100) * 2


@both_methods
def test_the_generator_has_its_own_learning_rate_and_clipping(config):
    players = make(config, generator_learning_rate=1e-6).players()

    assert (players[GENERATOR].learning_rate, players[GENERATOR].max_grad_norm) == (1e-6, 5.0)
    assert (players[STUDENT].learning_rate, players[STUDENT].max_grad_norm) == (None, None)


@both_methods
def test_the_generator_defaults_to_the_teachers_pretrained_model(config):
    assert config.generator_reference("teacher") == "teacher"
    named = type(config)(generator="named")
    assert named == type(config)(generator={"model": "named"})
    assert named.generator_reference("teacher") == "named"


@both_methods
def test_models_with_other_vocabularies_are_refused(config):
    student, teacher, generator = tiny_encoder(), tiny_encoder(), tiny_masked_lm()
    generator.model.resize_token_embeddings(VOCABULARY_SIZE + 1)
    with pytest.raises(
        InputError, match="the generator has .* 51 .* 50, .*objective.generator.model to"
    ):
        build(config, student, teacher, generator)

    student.model.resize_token_embeddings(VOCABULARY_SIZE + 1)
    with pytest.raises(InputError, match="the student has .* 51 tokens, the teacher of 50"):
        build(config, student, teacher, tiny_masked_lm())
