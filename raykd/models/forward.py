"""Forward pass of an encoder on a batch."""

from collections.abc import Mapping

from torch import Tensor

from raykd.models.encoder import Encoder, EncoderOutput


def run(encoder: Encoder, batch: Mapping[str, Tensor], **options: object) -> EncoderOutput:
    """Output of the encoder for a batch; `options` are those of `Encoder.forward`."""
    output: EncoderOutput = encoder(
        batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"), **options
    )
    return output
