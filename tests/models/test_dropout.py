"""Dropout on a CPU: equal to torch's except for the masks."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_encoder
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from raykd.models.dropout import CpuDropout, attention, dropout


def test_a_value_is_dropped_with_the_given_probability_or_scaled_up():
    torch.manual_seed(1)
    values = torch.full((1000, 1001), 3.0)

    dropped = dropout(values, 0.1)

    assert dropped.unique().tolist() == pytest.approx([0, 3 / 0.9], rel=1e-5)
    # Four standard deviations of the fraction of a million values.
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.0012)
    by_column = (dropped == 0).float().mean(0)
    assert by_column.std().item() == pytest.approx((0.1 * 0.9 / 1000) ** 0.5, rel=0.1)


@pytest.mark.parametrize(("probability", "share"), [(1e-6, 0.0), (0.5, 0.5), (0.999, 0.999)])
def test_probabilities_are_rounded_and_the_scale_follows_the_rounded_one(probability, share):
    torch.manual_seed(1)

    dropped = dropout(torch.ones(1_000_000, dtype=torch.float64), probability)

    assert (dropped == 0).double().mean().item() == pytest.approx(share, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1, abs=0.15)


def test_gradients_have_the_mask_and_scale_of_their_values():
    torch.manual_seed(1)
    values = torch.randn(50, dtype=torch.float64, requires_grad=True)

    dropped = dropout(values, 0.3)
    dropped.sum().backward()

    torch.testing.assert_close(values.grad, (dropped / values).detach())


def test_masks_depend_only_on_torchs_generator():
    values = torch.ones(1000)

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([dropout(values, 0.5), dropout(values, 0.5)])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(*drawn(1))


@pytest.mark.parametrize("kind", ["none", "keys", "pairs", "added"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_without_dropout_equals_torchs(kind, scale):
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    masks = {
        "none": None,
        "keys": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:, None, None],
        "pairs": torch.rand(2, 1, 5, 5) < 0.7,
        "added": torch.randn(2, 1, 5, 5, dtype=torch.float64),
    }
    if kind == "pairs":
        masks["pairs"][..., 0] = True

    own = attention(query, key, value, masks[kind], 0.0, scale)
    torchs = functional.scaled_dot_product_attention(query, key, value, masks[kind], scale=scale)

    torch.testing.assert_close(own, torchs)
    grads = [
        torch.autograd.grad(output.square().sum(), (query, key, value)) for output in (own, torchs)
    ]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_mean_of_attention_with_dropout_is_attention():
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 1, 1, 6, 4)
    many = [tensor.expand(20_000, 1, 6, 4) for tensor in (query, key, value)]

    with CpuDropout():
        dropped = functional.scaled_dot_product_attention(*many, dropout_p=0.2)

    exact = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(dropped.mean(0, keepdim=True), exact, atol=0.02, rtol=0)
    assert dropped.std(0).min() > 0.05


class OperationNames(TorchDispatchMode):
    """Mode that records the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_draws_torchs_masks_in_training(family):
    encoder = tiny_encoder(family)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    batch = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    encoder.eval()
    exact = encoder(*batch).logits
    encoder.train()

    with CpuDropout(), OperationNames() as ran:
        dropped = encoder(*batch).logits
        encoder.eval()
        without_dropout = encoder(*batch).logits

    assert not [name for name in ran.names if "bernoulli" in name or "dropout" in name]
    assert not torch.equal(dropped, exact)
    assert torch.equal(without_dropout, exact)
