"""Probe of a masked language model for use as a generator."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from raykd.models.encoder import EncoderOutput
from raykd.models.masked_lm import MaskedLm
from raykd.models.probe import Probe, Trait, check_traits, framing_of

# "padding" and "logits" decide which words are predicted; "first_token": a masked word is predicted
# from what follows it, too.
PREDICTING: frozenset[Trait] = frozenset({"logits", "padding", "first_token"})
# "gradients": every parameter is trained.
TRAINED: frozenset[Trait] = PREDICTING | {"gradients"}
_REMEDY = (
    "name another masked language model with the same tokenizer, such as the pretrained model "
    "that the teacher was made from"
)


def check_masked_lm(
    user: str,
    reference: str,
    model: MaskedLm,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    needed: frozenset[Trait],
    remedy: str = _REMEDY,
) -> None:
    """Run a masked language model on a few short texts and refuse it if it lacks a trait.

    Args:
        user: feature that needs the model, for messages.
        reference: model reference, for messages.
        model: model with weights, on the CPU; left in evaluation mode.
        tokenizer: tokenizer of the model.
        max_length: tokens of the longest text to read.
        needed: required traits.
        remedy: advice for the user.

    Raises:
        InputError: names the user, the model, the reason and the remedy.
    """
    framing = framing_of(tokenizer, model.vocabulary_size)
    # A generator's batches are padded by another tokenizer, or by any token.
    framing = framing._replace(pad_id=framing.pad_id or 0)
    missing = _MaskedLmProbe(model.eval(), framing).run(max_length)
    check_traits(user, "generator", reference, needed, missing, remedy=remedy)


class _MaskedLmProbe(Probe[MaskedLm]):
    """Probe whose logits are those of all non-padding tokens, in row order."""

    traits = ("logits", "padding", "gradients", "first_token")

    def _read(self, ids: Tensor, mask: Tensor, layers: Sequence[int]) -> EncoderOutput:
        states = self._model.last_states(ids, mask, None)
        return EncoderOutput(self._model.predict(states[mask == 1], ids), {0: states}, {})
