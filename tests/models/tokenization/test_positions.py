"""Maximum length of each family: a text of that length is read, a longer one fails."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_encoder

from raykd.models.tokenization.positions import num_positions


def reads(encoder, length: int) -> bool:
    ids = torch.full((1, length), 7)
    try:
        encoder.eval()(ids, torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_the_maximum_length_of_a_model_follows_its_positions(tmp_path, family):
    encoder = tiny_encoder(family)
    encoder.save(tmp_path)

    limit = num_positions(str(tmp_path))

    expected = {"roberta": 39, "modernbert": None}.get(family, 40)
    assert limit == expected
    assert reads(encoder, limit or 40)
    assert reads(encoder, (limit or 40) + 1) == (limit is None)
