"""An encoder's answer to a batch as training and evaluation hold it."""

from collections.abc import Mapping

from torch import Tensor

from raykd.models.encoder import Encoder, EncoderOutput


def run(encoder: Encoder, batch: Mapping[str, Tensor], **options: object) -> EncoderOutput:
    """The encoder's output for a batch; `options` as `Encoder.forward`."""
    output: EncoderOutput = encoder(
        batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"), **options
    )
    return output
